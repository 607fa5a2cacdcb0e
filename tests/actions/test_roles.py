"""Who may do what: each action as each role, held against the table that tells people of it (docs/roles.md)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.service import new_project
from tocsin.actions import (
    attachments,
    deliveries,
    incidents,
    integrations,
    members,
    monitors,
    projects,
    servers,
    slack,
    tokens,
)
from tocsin.actions.base import ACTIONS, Actor
from tocsin.actions.monitors import MonitorFields
from tocsin.domain import discovery
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import OpenRequest
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts import members as stored_members
from tocsin.storage.delivery import openings
from tocsin.storage.monitoring import servers as stored_servers
from tocsin.storage.monitoring.servers import Report
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.storage.postgres.secrets import Vault

TABLE = Path(__file__).parents[2] / "docs" / "roles.md"
COLUMNS = ("anybody", "person", "reader", "member", "owner", "operator")
URL = "http://tocsin.test"

for _ in discovery.modules("tocsin.actions"):
    pass


@dataclass
class House:
    """A project with one of everything, and what an action needs besides."""

    vault: Vault
    project_id: UUID
    owner: UUID
    member: UUID
    webhook: UUID
    disabled: UUID
    monitor: UUID
    server: UUID
    incident: UUID
    settings: Settings


Call = Callable[[Tx, Actor, House], Awaitable[Any]]


def webhook() -> integrations.New:
    return integrations.new("Integrations::WebhookIntegration", {"webhook_url": "https://example.com/hook"}, None)


async def settle(tx: Tx, house: House) -> UUID:
    """The delivery of the incident, ended."""
    delivery = await tx.fetchval("SELECT id FROM outstanding WHERE incident_id = $1 LIMIT 1", house.incident)
    await tx.execute("DELETE FROM outstanding WHERE id = $1", delivery)
    await tx.execute(
        "INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt,"
        " attempts, created_at, finished_at) VALUES ($1, $2, $3, 'Integrations::WebhookIntegration', $4, 'opened',"
        " 'dead', 1, '[]', now(), now())",
        delivery, house.project_id, house.webhook, house.incident,
    )  # fmt: skip
    return UUID(str(delivery))


async def redeliver(tx: Tx, actor: Actor, house: House) -> Any:
    return await deliveries.redeliver(tx, actor, await settle(tx, house), URL, confirmed=False)


async def withdraw(tx: Tx, actor: Actor, house: House) -> Any:
    made = await stored_members.invite(tx, house.project_id, "new@example.com", "reader", by=house.owner)
    return await members.withdraw(tx, actor, made.id)


async def join(tx: Tx, actor: Actor, house: House) -> Any:
    made = await stored_members.invite(tx, house.project_id, "new@example.com", "reader", by=house.owner)
    user = await accounts.ensure_user(tx, "new@example.com")
    return await members.join(tx, actor, made, user.id)


async def create_project(tx: Tx, actor: Actor, house: House) -> Any:
    owner = await accounts.user_by_id(tx, house.owner)
    assert owner is not None
    return await projects.create(tx, actor, house.vault, "Another", "free", owner)


def uuid_of_server(house: House) -> str:
    return SERVER.public(house.server)


CALLS: dict[str, Call] = {
    "attachments.attach": lambda tx, a, h: attachments.attach(tx, a, h.vault, SERVER, uuid_of_server(h), h.disabled),
    "attachments.detach": lambda tx, a, h: attachments.detach(tx, a, h.vault, SERVER, uuid_of_server(h), h.webhook),
    "attachments.attach_all": lambda tx, a, h: attachments.attach_all(tx, a, h.vault, h.webhook),
    "attachments.stop_attach_all": lambda tx, a, h: attachments.stop_attach_all(tx, a, h.vault, h.webhook),
    "deliveries.redeliver": redeliver,
    "incidents.resolve": lambda tx, a, h: incidents.resolve(tx, a, h.incident, by="Ann"),
    "incidents.snooze": lambda tx, a, h: incidents.snooze(tx, a, h.incident, datetime.now(UTC) + timedelta(hours=1)),
    "integrations.create": lambda tx, a, h: integrations.create(tx, a, h.vault, webhook(), production=False),
    "integrations.change": lambda tx, a, h: integrations.change(
        tx, a, h.vault, h.webhook, {}, name="Pager", renamed=True
    ),
    "integrations.delete": lambda tx, a, h: integrations.delete(tx, a, h.vault, h.webhook),
    "integrations.test": lambda tx, a, h: integrations.test(tx, a, h.vault, h.webhook, URL),
    "integrations.rotate_secret": lambda tx, a, h: integrations.rotate_secret(tx, a, h.vault, h.webhook),
    "integrations.enable": lambda tx, a, h: integrations.enable(tx, a, h.vault, h.disabled),
    "members.invite": lambda tx, a, h: members.invite(
        tx, a, "new@example.com", "reader", by=h.owner, verified=True
    ),
    "members.withdraw": withdraw,
    "members.join": join,
    "members.set_role": lambda tx, a, h: members.set_role(tx, a, h.member, "reader"),
    "members.remove": lambda tx, a, h: members.remove(tx, a, h.member),
    "members.leave": lambda tx, a, h: members.leave(tx, a, h.member, "Project"),
    "monitors.create": lambda tx, a, h: monitors.create(
        tx, a, monitors.wanted(MonitorFields(url="https://example.com"), None, production=True)
    ),
    "monitors.change": lambda tx, a, h: monitors.change(
        tx, a, h.monitor, MonitorFields(name="Shop"), production=True
    ),
    "monitors.delete": lambda tx, a, h: monitors.delete(tx, a, h.monitor),
    "projects.create": create_project,
    "projects.create_for": lambda tx, a, h: projects.create_for(tx, a, h.vault, "Theirs", "free", None),
    "projects.rename": lambda tx, a, h: projects.rename(tx, a, "Renamed"),
    "projects.set_plan": lambda tx, a, h: projects.set_plan(tx, a, "free"),
    "servers.change_alerts": lambda tx, a, h: servers.change_alerts(tx, a, h.server, {"cpu": None}),
    "servers.delete": lambda tx, a, h: servers.delete(tx, a, h.server),
    "slack.begin": lambda tx, a, h: slack.begin(tx, a, h.vault, h.settings.slack, URL),
    "tokens.reveal": lambda tx, a, h: tokens.reveal(tx, a, h.vault, h.owner),
    "tokens.rotate": lambda tx, a, h: tokens.rotate(tx, a, h.vault),
}
"""How each is done by somebody who may. What is not here is for Tocsin itself, needs a far end, or leaves no entry."""

ELSEWHERE = {
    "integrations.create_system": "test_console_sign_in", "integrations.trust_host_key": "test_ssh_restart",
    "integrations.unsubscribe": "test_pages", "secrets.rotate": "test_rotation", "slack.connect": "test_slack_connect",
}  # fmt: skip
"""Where those are tested that need more than a project."""

OF_OTHERS = {"projects.create", "projects.create_for", "members.join", "integrations.create", "monitors.create",
             "slack.begin", "members.invite", "projects.rename", "tokens.rotate", "projects.set_plan"}  # fmt: skip
"""What concerns the actor's own project, or none: a stranger who does it touches nothing of this one."""


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return {
        **environ, "TOCSIN_SLACK_CLIENT_ID": "1.2", "TOCSIN_SLACK_CLIENT_SECRET": "s",
        "TOCSIN_SLACK_SIGNING_SECRET": "s",
    }  # fmt: skip


@pytest.fixture
async def house(pool: asyncpg.Pool, vault: Vault, settings: Settings) -> House:
    made = await new_project(pool, vault)
    owner = Actor(made.id, "owner", "ann@example.com", "paid")
    async with transaction(pool) as tx:
        ann, ben = [await accounts.ensure_user(tx, email) for email in ("ann@example.com", "ben@example.com")]
        for user, role in ((ann, "owner"), (ben, "member")):
            await tx.execute(
                "INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, $3)", made.id, user.id, role
            )
        first = await integrations.create(tx, owner, vault, webhook(), production=False)
        second = await integrations.create(tx, owner, vault, webhook(), production=False)
        await tx.execute("UPDATE integrations SET disabled_at = now() WHERE id = $1", second.id)
        watched = monitors.wanted(MonitorFields(url="https://example.com/shop"), None, production=True)
        monitor = await monitors.create(tx, owner, watched)
        report = Report(made.id, "board", {"agent_version": "1"}, [])
        await stored_servers.record(tx, [report], public_url=URL)
        server = UUID(str(await tx.fetchval("SELECT id FROM servers WHERE project_id = $1", made.id)))
        await attachments.attach(tx, owner, vault, SERVER, SERVER.public(server), first.id)
    async with pool.acquire() as tx:
        [opened] = await openings.open(tx, [OpenRequest(made.id, "Server", server, "disk", "full")], public_url=URL)
    return House(vault, made.id, ann.id, ben.id, first.id, second.id, monitor.id, server, opened.incident.id, settings)  # type: ignore[union-attr]


def table() -> dict[str, tuple[str, frozenset[str]]]:
    """What the documentation says: by action, what the audit log calls it, and which roles may do it."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|(.*)\|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    found = {}
    for name, said, marks in rows:
        may = frozenset(role for role, mark in zip(COLUMNS, marks.split("|"), strict=True) if "x" in mark)
        found[name] = said.strip(), may
    return found


def test_the_table_of_roles_is_what_the_actions_say() -> None:
    told = {
        name: (each.recorded or f"none: {each.because}", each.roles - {"system"}) for name, each in ACTIONS.items()
    }
    assert table() == told


def test_every_change_is_on_record_or_says_why_not() -> None:
    assert not [each.name for each in ACTIONS.values() if not each.recorded and not each.because]
    recorded = {name for name, each in ACTIONS.items() if each.recorded}
    assert recorded == CALLS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", CALLS)
async def test_what_an_owner_or_operator_does_is_done_and_on_record(
    name: str, house: House, pool: asyncpg.Pool
) -> None:
    role = "owner" if "owner" in ACTIONS[name].roles else "operator"
    actor = Actor(house.project_id, role, "ann@example.com", "paid")
    async with transaction(pool) as tx:
        before = await tx.fetchval("SELECT count(*) FROM audit")
        await CALLS[name](tx, actor, house)
        assert await tx.fetchval("SELECT count(*) FROM audit") == before + 1
        said, who = await tx.fetchrow("SELECT action, who FROM audit ORDER BY id DESC LIMIT 1")
    assert (said, who) == (ACTIONS[name].recorded, "ann@example.com")


@pytest.mark.parametrize("role", COLUMNS)
@pytest.mark.parametrize("name", CALLS)
async def test_a_role_may_do_what_the_table_says_and_nothing_else(
    name: str, role: Any, house: House, pool: asyncpg.Pool
) -> None:
    allowed = role in table()[name][1]
    refused = None
    try:
        async with transaction(pool) as tx:
            await CALLS[name](tx, Actor(house.project_id, role, "x@example.com", "paid"), house)
            raise Undone
    except Undone:
        pass
    except Refused as refusal:
        refused = refusal
    assert (refused is None) is allowed, refused


class Undone(Exception):
    """So that nothing of it stays."""


@pytest.mark.parametrize("name", [name for name in CALLS if name not in OF_OTHERS])
async def test_an_owner_of_another_project_finds_nothing_and_changes_nothing(
    name: str, house: House, pool: asyncpg.Pool, vault: Vault
) -> None:
    other = await new_project(pool, vault, owner_email="eve@example.com")
    with pytest.raises(Refused) as refusal:
        async with transaction(pool) as tx:
            await CALLS[name](tx, Actor(other.id, "owner", "eve@example.com", "paid"), house)
    assert refusal.value.status in (403, 404), refusal.value
