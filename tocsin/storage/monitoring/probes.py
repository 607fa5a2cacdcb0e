"""Probes: their tokens, what they are to check, what they were last heard of, and which are silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.monitors import Target
from tocsin.domain.resources.probe import RESOURCE as PROBE
from tocsin.storage.channels import attachments
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.monitoring import places
from tocsin.storage.monitoring.downtime import api_alive_since
from tocsin.storage.monitoring.monitors import target_of
from tocsin.storage.monitoring.own_monitors import PROJECT
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault, new_token

if TYPE_CHECKING:
    from asyncpg import Record

TOKEN = "tpr_"
SILENT = "silent"
SILENT_AFTER = 90
"""Seconds: three times as long as a probe is held at most before it asks again."""
NOTED_EVERY = 5
"""Seconds to which it is known when a probe was last heard of."""
MOST_ASKED = 500
ANSWER_BY = 60
"""Seconds after which nobody waits any more for a check that was asked for."""

INSERT = """
INSERT INTO probes (id, project_id, name, token_hash, only_project) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO NOTHING RETURNING id
"""
REVIVE = """
UPDATE probes SET token_hash = $2, only_project = $3, revoked_at = NULL, seen_at = NULL, updated_at = now()
WHERE name = $1 AND revoked_at IS NOT NULL AND project_id = $4 RETURNING id
"""
REVOKE = """
UPDATE probes SET token_hash = NULL, revoked_at = now(), updated_at = now()
WHERE name = $1 AND revoked_at IS NULL RETURNING id, project_id
"""
COLUMNS = "id, project_id, name, only_project, version, seen_at, revoked_at, created_at"
ALL = f"SELECT {COLUMNS} FROM probes WHERE revoked_at IS NULL ORDER BY name"
OF_TOKEN = "SELECT id, name, only_project, token_hash FROM probes WHERE token_hash = ANY ($1)"
SET_HASH = "UPDATE probes SET token_hash = $2 WHERE id = $1 AND token_hash = $3"

HEARD = f"""
UPDATE probes SET seen_at = now(), version = $2 WHERE id = $1 AND revoked_at IS NULL
  AND (version <> $2 OR seen_at IS NULL OR seen_at < now() - interval '{NOTED_EVERY} s')
"""
STATE = """
SELECT last_seq, clock_timestamp() AS now, (SELECT last_value FROM place_changes) AS last_change
FROM probes WHERE id = $1 AND revoked_at IS NULL
"""

WORK = """
SELECT p.change, p.version, m.id, m.project_id, m.url, m.check_type, m.timeout, m.options, m.sealed, m.interval,
       m.paused
FROM (SELECT * FROM monitor_places WHERE place = $1 AND change > $2 ORDER BY change LIMIT $3) p
CROSS JOIN LATERAL (SELECT * FROM network_monitors WHERE id = p.monitor_id LIMIT 1) m
WHERE $4::uuid IS NULL OR m.project_id = $4
ORDER BY p.change
"""
ASKED = f"""
SELECT monitor_id, asked_at FROM monitor_places
WHERE place = $1 AND asked_at IS NOT NULL AND asked_at > greatest($2, now() - interval '{ANSWER_BY} s')
  AND asked_at > coalesce(heard_at, '-infinity')
ORDER BY asked_at LIMIT {MOST_ASKED}
"""

QUIET = f"""
SELECT p.id, p.project_id, p.name, p.seen_at FROM probes p
WHERE p.revoked_at IS NULL AND p.seen_at IS NOT NULL AND greatest(p.seen_at, $1) < now() - interval '{SILENT_AFTER} s'
  AND NOT EXISTS (SELECT FROM ongoing o WHERE o.resource_id = p.id AND o.type = '{SILENT}')
ORDER BY p.id LIMIT 100
"""
BACK = f"""
SELECT p.id, p.project_id FROM probes p
WHERE p.seen_at >= now() - interval '{SILENT_AFTER} s'
  AND EXISTS (SELECT FROM ongoing o WHERE o.resource_id = p.id AND o.type = '{SILENT}')
ORDER BY p.id LIMIT 100
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """`project_id`: whose incident it is if it is silent; `only_project`: who alone may use it."""

    id: UUID
    project_id: UUID
    name: str
    only_project: UUID | None
    version: str
    seen_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many monitors it checked, and how many of them nobody checks now."""

    id: UUID
    project_id: UUID
    monitors: int
    unchecked: int


@dataclass(frozen=True, slots=True)
class Caller:
    """A probe that has shown its token."""

    id: UUID
    name: str
    only_project: UUID | None


@dataclass(frozen=True, slots=True)
class Check:
    """What a probe is to check; `target` with its secrets."""

    monitor_id: UUID
    version: datetime
    interval: float
    target: Target


@dataclass(frozen=True, slots=True)
class Work:
    """What a probe does not know yet; it then knows all up to `change` and `asked_at`."""

    now: datetime
    last_seq: int
    change: int
    asked_at: datetime
    checks: Sequence[Check]
    gone: Sequence[UUID]
    ask: Sequence[UUID]
    more: bool

    @property
    def anything(self) -> bool:
        return bool(self.checks or self.gone or self.ask)


async def operators_project(tx: Tx) -> UUID | None:
    """The operator's first project, whose incident it is if a probe is silent."""
    found = await tx.fetchval(PROJECT)
    return None if found is None else key(found)


async def create(
    tx: Tx, vault: Vault, project_id: UUID, name: str, only_project: UUID | None = None
) -> tuple[UUID, str] | None:
    """A probe of that name, or the project's revoked one again: its key and token. None if the name is taken."""
    token = new_token(TOKEN)
    hashed = vault.token_hash(token)
    again = await tx.fetchval(REVIVE, name, hashed, only_project, project_id)
    if again is not None:
        await places.restore(tx, name, only_project)
        return key(again), token
    made = await tx.fetchval(INSERT, ids.new(), project_id, name, hashed, only_project)
    if made is None:
        return None
    await attachments.attach_new_resource(tx, project_id, key(made))
    await places.restore(tx, name, only_project)
    return key(made), token


async def revoke(tx: Tx, name: str) -> Revoked | None:
    """Its token opens nothing any more, and it checks nothing. None: there is no such probe."""
    row = await tx.fetchrow(REVOKE, name)
    if row is None:
        return None
    used, alone = await places.remove(tx, name)
    await incidents.resolve(tx, [ResolveRequest(key(row["project_id"]), key(row["id"]), None, "It was revoked")])
    return Revoked(key(row["id"]), key(row["project_id"]), used, alone)


async def list_(tx: Tx) -> list[Probe]:
    """Every probe that is not revoked, by name."""
    return [_probe(row) for row in await tx.fetch(ALL)]


async def of_token(tx: Tx, vault: Vault, token: str) -> Caller | None:
    """Whose token it is. After a change of keys, the token is hashed with the new one when it is next seen."""
    hashes = vault.token_hashes(token)
    row = await tx.fetchrow(OF_TOKEN, hashes) if token.startswith(TOKEN) else None
    if row is None:
        return None
    if row["token_hash"] != hashes[0]:
        await tx.execute(SET_HASH, row["id"], hashes[0], row["token_hash"])
    return Caller(key(row["id"]), row["name"], _key(row["only_project"]))


async def heard(tx: Tx, probe: Caller, version: str) -> None:
    """It is there, and of that version."""
    await tx.execute(HEARD, probe.id, version)


async def work(
    tx: Tx, vault: Vault, probe: Caller, change: int, asked_after: datetime, limit: int
) -> Work | None:
    """What has changed since, and what it is asked for since. None if it was revoked meanwhile."""
    state = await tx.fetchrow(STATE, probe.id)
    if state is None:
        return None
    if change > state["last_change"]:  # of a time that a restored backup does not know
        change = 0
    asked_after = min(asked_after, state["now"])
    rows = await tx.fetch(WORK, probe.name, change, limit, probe.only_project)
    asked = await tx.fetch(ASKED, probe.name, asked_after)
    return Work(
        state["now"], state["last_seq"], max([change, *(row["change"] for row in rows)]),
        max([asked_after, *(row["asked_at"] for row in asked)]),
        [Check(key(row["id"]), row["version"], row["interval"], target_of(row, vault))
         for row in rows if not row["paused"]],
        [key(row["id"]) for row in rows if row["paused"]],
        [key(row["monitor_id"]) for row in asked],
        len(rows) == limit,
    )  # fmt: skip


async def judge(tx: Tx, *, public_url: str, back_for: float | None = None) -> None:
    """Open `silent` for probes that are, and end it for those that are heard again.

    Time in which nobody could report to us does not count; nor does that before `back_for` seconds ago.
    """
    since = await api_alive_since(tx, back_for)
    if since is None:
        return
    quiet = [
        OpenRequest(
            key(row["project_id"]), PROBE.type, key(row["id"]), SILENT,
            f"Probe {row['name']} has not been heard for {SILENT_AFTER} seconds: it has no vote until it is.",
        )
        for row in await tx.fetch(QUIET, since)
    ]  # fmt: skip
    back = [
        ResolveRequest(key(row["project_id"]), key(row["id"]), SILENT, "It is heard again")
        for row in await tx.fetch(BACK)
    ]
    if back:
        await incidents.resolve(tx, back)
    if quiet:
        await openings.open(tx, quiet, public_url=public_url)


def _key(value: UUID | None) -> UUID | None:
    return None if value is None else key(value)


def _probe(row: Record) -> Probe:
    return Probe(
        key(row["id"]), key(row["project_id"]), row["name"], _key(row["only_project"]), row["version"], row["seen_at"],
        row["revoked_at"], row["created_at"],
    )  # fmt: skip
