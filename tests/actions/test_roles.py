"""Who may do what: each action as each role, held against the table that tells people of it (docs/roles.md)."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.actions import source_calls
from tests.actions.heartbeat_calls import HEARTBEATS
from tests.actions.house import Call, House, database_of_all, settings_in, tried
from tests.actions.probe_calls import PROBES
from tests.postgres import Postgres
from tests.service import new_project
from tocsin.actions import (
    attachments,
    deliveries,
    dependencies,
    drills,
    incidents,
    integrations,
    members,
    monitors,
    on_call,
    projects,
    replays,
    servers,
    silences,
    slack,
    telegram,
    tokens,
)
from tocsin.actions.base import ACTIONS, INSTALLATION, Actor
from tocsin.actions.monitors import MonitorFields
from tocsin.actions.silences import SilenceFields
from tocsin.domain import discovery, ids
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import OpenRequest
from tocsin.domain.on_call import Override
from tocsin.domain.replays import Selection
from tocsin.domain.reports import Report
from tocsin.domain.resources.network_monitor import RESOURCE as MONITOR
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts import members as stored_members
from tocsin.storage.channels import integrations as stored_integrations
from tocsin.storage.channels.integrations import Facts
from tocsin.storage.channels.telegram import TELEGRAM
from tocsin.storage.delivery import acknowledgements, openings
from tocsin.storage.delivery import replays as stored_replays
from tocsin.storage.monitoring import servers as stored_servers
from tocsin.storage.notifying import on_call as stored_on_call
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.storage.postgres.secrets import Vault

TABLE = Path(__file__).parents[2] / "docs" / "roles.md"
COLUMNS = ("anybody", "person", "reader", "member", "owner", "operator")
URL = "http://tocsin.test"

for _ in discovery.modules("tocsin.actions"):
    pass


def webhook() -> integrations.New:
    return integrations.new("Integrations::WebhookIntegration", {"webhook_url": "https://example.com/hook"}, None)


def night() -> SilenceFields:
    return SilenceFields(name="Night", ends_at=datetime.now(UTC) + timedelta(hours=8))


async def stored_schedule(tx: Tx, house: House) -> UUID:
    """An on-call schedule with the webhook on duty."""
    settings = {"timezone": "UTC", "rotation": "none", "integrations": [uuid_of(house.webhook)]}
    made = await stored_integrations.create(
        tx, house.vault, house.project_id, "Integrations::OnCallIntegration", stored_integrations.Facts(True, True),
        name="On call", settings=settings, secret=(),
    )  # fmt: skip
    return made.id


def tomorrow(house: House) -> Override:
    at = datetime.now(UTC) + timedelta(days=1)
    return Override(house.webhook, at, at + timedelta(hours=1))


async def take_over(tx: Tx, actor: Actor, house: House) -> Any:
    made = await stored_schedule(tx, house)
    return await on_call.add_override(tx, actor, house.vault, made, tomorrow(house))


async def take_over_and_back(tx: Tx, actor: Actor, house: House) -> Any:
    made = await stored_schedule(tx, house)
    override = await stored_on_call.add_override(tx, house.project_id, made, tomorrow(house))
    return await on_call.delete_override(tx, actor, house.vault, made, override.id)


async def sum_up(tx: Tx, actor: Actor, house: House) -> Any:
    mail = await stored_integrations.insert_system(tx, house.project_id, "duty@example.com")
    return await integrations.change_flood(tx, actor, house.vault, mail, {"incidents": 3, "seconds": 60})


async def change_calendar(tx: Tx, actor: Actor, house: House) -> Any:
    return await on_call.rotate_feed(tx, actor, house.vault, await stored_schedule(tx, house))


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


async def take_back(tx: Tx, actor: Actor, house: House) -> Any:
    await acknowledgements.acknowledge(tx, house.project_id, house.incident, "Ann", None)
    return await incidents.unacknowledge(tx, actor, house.incident)


async def replay(tx: Tx, actor: Actor, house: House) -> Any:
    await settle(tx, house)
    now = datetime.now(UTC)
    selection = Selection(now - timedelta(hours=1), now + timedelta(hours=1))
    return await replays.create(tx, actor, house.vault, house.webhook, selection)


async def stop_replay(tx: Tx, actor: Actor, house: House) -> Any:
    now = datetime.now(UTC)
    made = await stored_replays.create(tx, house.project_id, house.webhook, Selection(now, now), 1, "Ann")
    assert made is not None
    return await replays.stop(tx, actor, made.id)


async def new_telegram_code(tx: Tx, actor: Actor, house: House) -> Any:
    settings = {"bot_token": "5:t", "bot_id": "5", "bot_username": "tocsin_bot", "chat_id": None}
    made = await stored_integrations.create(
        tx, house.vault, house.project_id, TELEGRAM, Facts(for_people=True, repeatable=True), name=None,
        settings=settings, secret=["bot_token"],
    )  # fmt: skip
    return await telegram.new_code(tx, actor, house.vault, made.id)


async def withdraw(tx: Tx, actor: Actor, house: House) -> Any:
    made = await stored_members.invite(tx, house.project_id, "new@example.com", "reader", by=house.owner)
    return await members.withdraw(tx, actor, made.id)


async def join(tx: Tx, actor: Actor, house: House) -> Any:
    made = await stored_members.invite(tx, house.project_id, "new@example.com", "reader", by=house.owner)
    return await members.join(tx, actor, made)


def uuid_of_server(house: House) -> str:
    return SERVER.public(house.server)


def uuid_of(integration: UUID) -> str:
    return ids.public(ids.INTEGRATION, integration)


def acting(house: House, role: Any) -> Actor:
    """Somebody of that role; whoever runs the installation owns this project, too."""
    users = {"owner": house.owner, "operator": house.owner, "member": house.member}
    user_id = None if role == "anybody" else users.get(role, house.other)
    return Actor(house.project_id, role, "ann@example.com", "paid", user_id)


CALLS: dict[str, Call] = {
    **HEARTBEATS,
    **PROBES,
    "attachments.attach": lambda tx, a, h: attachments.attach(
        tx, a, h.vault, SERVER, uuid_of_server(h), uuid_of(h.disabled)
    ),
    "attachments.detach": lambda tx, a, h: attachments.detach(
        tx, a, h.vault, SERVER, uuid_of_server(h), uuid_of(h.webhook)
    ),
    "attachments.change": lambda tx, a, h: attachments.change(
        tx, a, h.vault, SERVER, uuid_of_server(h), uuid_of(h.webhook), {"after": 60}
    ),
    "attachments.attach_all": lambda tx, a, h: attachments.attach_all(tx, a, h.vault, h.webhook),
    "attachments.stop_attach_all": lambda tx, a, h: attachments.stop_attach_all(tx, a, h.vault, h.webhook),
    "deliveries.redeliver": redeliver,
    "incidents.resolve": lambda tx, a, h: incidents.resolve(tx, a, h.incident, by="Ann"),
    "drills.begin": lambda tx, a, h: drills.begin(tx, a, uuid_of_server(h), None, URL),
    "incidents.acknowledge": lambda tx, a, h: incidents.acknowledge(tx, a, h.vault, h.incident),
    "incidents.unacknowledge": take_back,
    "incidents.snooze": lambda tx, a, h: incidents.snooze(tx, a, h.incident, datetime.now(UTC) + timedelta(hours=1)),
    "integrations.create": lambda tx, a, h: integrations.create(tx, a, h.vault, webhook(), production=False),
    "integrations.change": lambda tx, a, h: integrations.change(
        tx, a, h.vault, h.webhook, {}, name="Pager", renamed=True
    ),
    "integrations.change_flood": sum_up,
    "integrations.delete": lambda tx, a, h: integrations.delete(tx, a, h.vault, h.webhook),
    "integrations.test": lambda tx, a, h: integrations.test(tx, a, h.vault, h.webhook, URL),
    "integrations.rotate_secret": lambda tx, a, h: integrations.rotate_secret(tx, a, h.vault, h.webhook),
    "integrations.enable": lambda tx, a, h: integrations.enable(tx, a, h.vault, h.disabled),
    "on_call.add_override": take_over,
    "on_call.delete_override": take_over_and_back,
    "on_call.rotate_feed": change_calendar,
    "members.invite": lambda tx, a, h: members.invite(tx, a, "new@example.com", "reader"),
    "members.withdraw": withdraw,
    "members.join": join,
    "members.set_role": lambda tx, a, h: members.set_role(tx, a, h.member, "reader"),
    "members.remove": lambda tx, a, h: members.remove(tx, a, h.member),
    "members.leave": lambda tx, a, h: members.leave(tx, a, "Project"),
    "dependencies.change": lambda tx, a, h: dependencies.change(tx, a, MONITOR, h.monitor, [uuid_of_server(h)]),
    "monitors.create": lambda tx, a, h: monitors.create(
        tx, a, h.vault, monitors.wanted(MonitorFields(url="https://example.com"), None, production=True)
    ),
    "monitors.change": lambda tx, a, h: monitors.change(
        tx, a, h.vault, h.monitor, MonitorFields(name="Shop"), production=True
    ),
    "monitors.delete": lambda tx, a, h: monitors.delete(tx, a, h.vault, h.monitor),
    "projects.create": lambda tx, a, h: projects.create(tx, a, h.vault, "Another", "free", registration="open"),
    "projects.create_for": lambda tx, a, h: projects.create_for(tx, a, h.vault, "Theirs", "free", None),
    "projects.rename": lambda tx, a, h: projects.rename(tx, a, "Renamed"),
    "projects.set_plan": lambda tx, a, h: projects.set_plan(tx, a, "free"),
    "replays.create": replay,
    "replays.stop": stop_replay,
    "servers.change_alerts": lambda tx, a, h: servers.change_alerts(tx, a, h.server, {"cpu": None}),
    "servers.delete": lambda tx, a, h: servers.delete(tx, a, h.server),
    "silences.create": lambda tx, a, h: silences.create(tx, a, night()),
    "silences.change": lambda tx, a, h: silences.change(tx, a, h.silence, SilenceFields(public=True)),
    "silences.end": lambda tx, a, h: silences.end(tx, a, h.silence),
    "silences.delete": lambda tx, a, h: silences.delete(tx, a, h.silence),
    "slack.begin": lambda tx, a, h: slack.begin(tx, a, h.vault, h.settings.slack, URL),
    "telegram.new_code": new_telegram_code,
    "tokens.reveal": lambda tx, a, h: tokens.reveal(tx, a, h.vault),
    "tokens.rotate": lambda tx, a, h: tokens.rotate(tx, a, h.vault),
    **source_calls.CALLS,
}
"""How each is done by somebody who may. What is not here is for Tocsin itself, needs a far end, or leaves no entry."""

ELSEWHERE = {
    "backups.restore": "cli/test_backup.py",
    "backups.take": "cli/test_backup.py",
    "heartbeats.provision": "api/test_pings.py",
    "integrations.create_system": "web/test_first_start.py",
    "integrations.trust_host_key": "integrations/test_ssh_server_restart.py",
    "integrations.unsubscribe": "web/test_linked_pages.py",
    "secrets.rotate": "storage/accounts/test_rotation.py",
    "slack.connect": "api/test_slack.py",
    "telegram.connect": "integrations/test_telegram_chats.py",
}
"""Where those are tested that need more than a project."""

OF_OTHERS = {
    "heartbeats.create", "heartbeats.new_ping_key",
    "projects.create", "projects.create_for", "members.join", "integrations.create",
    "monitors.create", "silences.create", "sources.create", "slack.begin", "members.invite", "projects.rename",
    "tokens.rotate", "tokens.reveal", "projects.set_plan", "members.leave",
}  # fmt: skip
"""What concerns the actor's own project, or none: a stranger who does it touches nothing of this one."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def vault(settings: Settings) -> Vault:
    return Vault(settings.secret_keys)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(postgres: Postgres) -> AsyncIterator[asyncpg.Pool]:
    async with database_of_all(postgres) as pool:
        yield pool


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(pool: asyncpg.Pool, vault: Vault) -> UUID:
    """Another project, of somebody else."""
    made = await new_project(pool, vault, owner_email="eve@example.com")
    return UUID(str(made.id))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(pool: asyncpg.Pool, vault: Vault, settings: Settings) -> House:
    made = await new_project(pool, vault)
    owner = Actor(made.id, "owner", "ann@example.com", "paid")
    async with transaction(pool) as tx:
        roles = {"ann": "owner", "ben": "member", "cat": "reader", "dan": "owner"}
        people = {name: await accounts.ensure_user(tx, f"{name}@example.com") for name in roles}
        for name, role in roles.items():
            await tx.execute(accounts.INSERT_MEMBER, made.id, people[name].id, role)
        await tx.execute("UPDATE users SET email_verified_at = now()")
        first = await integrations.create(tx, owner, vault, webhook(), production=False)
        second = await integrations.create(tx, owner, vault, webhook(), production=False)
        await tx.execute("UPDATE integrations SET disabled_at = now() WHERE id = $1", second.id)
        watched = monitors.wanted(MonitorFields(url="https://example.com/shop"), None, production=True)
        monitor = await monitors.create(tx, owner, vault, watched)
        report = Report(made.id, "board", {"agent_version": "1"}, [])
        await stored_servers.record(tx, [report], public_url=URL)
        server = UUID(str(await tx.fetchval("SELECT id FROM servers WHERE project_id = $1", made.id)))
        await attachments.attach(tx, owner, vault, SERVER, SERVER.public(server), uuid_of(first.id))
        silence = await silences.create(tx, owner, night())
    async with pool.acquire() as tx:
        [opened] = await openings.open(tx, [OpenRequest(made.id, "Server", server, "disk", "full")], public_url=URL)
    ann, ben, cat = (people[name].id for name in ("ann", "ben", "cat"))
    return House(
        vault, made.id, ann, ben, cat, first.id, second.id, monitor.id, server, opened.incident.id,  # type: ignore[union-attr]
        silence.id, settings,
    )  # fmt: skip


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
    assert all((TABLE.parent.parent / "tests" / each).exists() for each in ELSEWHERE.values())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CALLS)
async def test_what_an_owner_or_operator_does_is_done_and_on_record(
    name: str, house: House, pool: asyncpg.Pool
) -> None:
    role = "owner" if "owner" in ACTIONS[name].roles else "operator"
    actor = acting(house, role)
    async with tried(pool) as tx:
        before = await tx.fetchval("SELECT count(*) FROM audit")
        await CALLS[name](tx, actor, house)
        assert await tx.fetchval("SELECT count(*) FROM audit") == before + 1
        said, who = await tx.fetchrow("SELECT action, who FROM audit ORDER BY id DESC LIMIT 1")
    assert (said, who) == (ACTIONS[name].recorded, "ann@example.com")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CALLS)
async def test_a_role_may_do_what_the_table_says_and_nothing_else(name: str, house: House, pool: asyncpg.Pool) -> None:
    for role in COLUMNS:
        refused = None
        try:
            async with tried(pool) as tx:
                await CALLS[name](tx, acting(house, role), house)
        except Refused as refusal:
            refused = refusal
        assert (refused is None) is (role in table()[name][1]), (role, refused)


@pytest.mark.parametrize("name", sorted(ACTIONS.keys() - CALLS.keys()))
async def test_what_the_table_does_not_allow_is_refused_before_anything_is_looked_at(name: str) -> None:
    module, _, verb = name.partition(".")
    do = getattr(importlib.import_module(f"tocsin.actions.{module}"), verb)
    given = list(inspect.signature(do).parameters.values())[2:]
    named = {each.name: None for each in given if each.kind is each.KEYWORD_ONLY}
    for role in set(COLUMNS) - table()[name][1]:
        with pytest.raises(Refused) as refusal:
            await do(None, Actor(INSTALLATION, role, "x@example.com"), *[None] * (len(given) - len(named)), **named)
        assert refusal.value.status == 403


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", [name for name in CALLS if name not in OF_OTHERS])
async def test_an_owner_of_another_project_finds_nothing_and_changes_nothing(
    name: str, house: House, pool: asyncpg.Pool, stranger: UUID
) -> None:
    with pytest.raises(Refused) as refusal:
        async with transaction(pool) as tx:
            await CALLS[name](tx, Actor(stranger, "owner", "eve@example.com", "paid"), house)
    assert refusal.value.status in (403, 404), refusal.value
