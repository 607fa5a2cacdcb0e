"""Heartbeats: their configuration, status, and the keys of their ping addresses."""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID, uuid4

from tocsin.domain import heartbeats as rules
from tocsin.domain import ids
from tocsin.domain import pings as ping_rules
from tocsin.domain.dependencies import Written
from tocsin.domain.heartbeats import KEY_FIELD, HeartbeatConfig
from tocsin.domain.incidents import ResolveRequest
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.channels import attachments
from tocsin.storage.delivery import incidents
from tocsin.storage.monitoring import deletion, pings
from tocsin.storage.notifying import dependencies, depends_on
from tocsin.storage.notifying.dependencies import Parent
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Unopenable, Vault

if TYPE_CHECKING:
    from asyncpg import Record

Sort = Literal["status", "name", "created_at"]

UNKNOWN = "********"
"""In place of a key that was sealed by a key of the installation that is not there."""
PING_KEY_LETTERS = 32
_LETTERS = string.ascii_letters + string.digits

WANTED = "name, slug, period, cron, timezone, grace, methods, paused"
OF_WANTED = ", ".join(f"h.{name}" for name in WANTED.split(", "))

INSERT = f"""
INSERT INTO heartbeats (id, project_id, key_hash, key_sealed, {WANTED})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
INSERT_STATE = "INSERT INTO heartbeat_states (heartbeat_id) VALUES ($1)"

SEEN = """
       s.due_at, s.last_ping_at, s.last_success_at, s.last_duration_ms, s.runs, now() AS now,
       ARRAY(SELECT o.incident_id FROM ongoing o WHERE o.resource_id = h.id ORDER BY o.incident_id) AS open_incidents
"""
HEARTBEAT_ROW = f"""
SELECT h.id, h.project_id, h.key_sealed, {OF_WANTED}, h.depends_on, h.created_at, h.updated_at, {SEEN}
"""
ONE = f"""
{HEARTBEAT_ROW}
FROM heartbeats h JOIN heartbeat_states s ON s.heartbeat_id = h.id WHERE h.id = $2 AND h.project_id = $1
"""

FOUND = """
WHERE h.project_id = $1
  AND ($2 = '' OR position(lower($2) IN lower(h.name)) > 0 OR position(lower($2) IN coalesce(h.slug, '')) > 0)
"""
COUNT = f"SELECT count(*) FROM heartbeats h {FOUND}"

# What a row shows beyond its order is fetched for the page alone.
LIST = f"""
{HEARTBEAT_ROW}
FROM (
    SELECT h.*, row_number() OVER () AS place
    FROM (
        SELECT h.*,
               CASE WHEN $3 <> 'status' THEN 0
                    WHEN h.paused THEN 2
                    WHEN h.id IN (SELECT resource_id FROM incidents WHERE project_id = $1 AND closed_at IS NULL) THEN 0
                    ELSE 1
               END AS rank
        FROM heartbeats h {FOUND}
        ORDER BY rank, CASE WHEN $3 = 'created_at' THEN NULL ELSE lower(h.name) END, h.id DESC LIMIT $4 OFFSET $5
    ) h
) h
CROSS JOIN LATERAL (SELECT * FROM heartbeat_states WHERE heartbeat_id = h.id LIMIT 1) s
ORDER BY h.place
"""

CHANGING = f"SELECT {WANTED} FROM heartbeats WHERE id = $2 AND project_id = $1 FOR UPDATE"
UPDATE = """
UPDATE heartbeats
SET name = $2, slug = $3, period = $4, cron = $5, timezone = $6, grace = $7, methods = $8, paused = $9,
    updated_at = now()
WHERE id = $1
"""
SET_DUE = """
UPDATE heartbeat_states SET due_at = $2, missed_at = NULL, look_at = coalesce($3::timestamptz, 'infinity'), runs = $4
WHERE heartbeat_id = $1
"""
SET_KEY = "UPDATE heartbeats SET key_hash = $3, key_sealed = $4, updated_at = now() WHERE id = $2 AND project_id = $1"
DELETE = "DELETE FROM heartbeats WHERE id = $1"
DELETE_BODIES = "DELETE FROM ping_bodies WHERE heartbeat_id = $1"

PING_KEY = "SELECT key_sealed FROM ping_keys WHERE id = $1"
SET_PING_KEY = """
INSERT INTO ping_keys (id, key_hash, key_sealed) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET key_hash = excluded.key_hash, key_sealed = excluded.key_sealed, updated_at = now()
"""
PROJECT_OF = "SELECT id FROM ping_keys WHERE key_hash = ANY($1::bytea[]) FOR NO KEY UPDATE"
SLUG_EXISTS = "SELECT EXISTS (SELECT FROM heartbeats WHERE project_id = $1 AND slug = $2)"
AS_MANY = "SELECT count(*) FROM (SELECT FROM heartbeats WHERE project_id = $1 LIMIT $2) few"
SAME_SLUGS = "SELECT count(*) FROM heartbeats WHERE project_id = $1 AND slug = $2"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat and its status. `ping_key` is the secret in its address, as a UUID.

    `explained_by`: those that are down and explain its incidents.
    """

    id: UUID
    project_id: UUID
    ping_key: str
    wanted: HeartbeatConfig
    status: str
    due_at: datetime | None
    last_ping_at: datetime | None
    last_success_at: datetime | None
    last_duration_ms: float | None
    running_since: datetime | None
    open_incidents: Sequence[UUID]
    created_at: datetime
    updated_at: datetime
    depends_on: Written
    explained_by: Sequence[Parent] = ()


async def create(tx: Tx, vault: Vault, project_id: UUID, wanted: HeartbeatConfig) -> UUID:
    """Create a heartbeat. Nothing is expected of it before its first ping. Returns its key."""
    new, secret = ids.new(), uuid4().hex
    sealed = vault.seal(project_id, new, KEY_FIELD, secret.encode())
    await tx.execute(INSERT, new, project_id, vault.token_hash(secret), sealed, *_columns(wanted))
    await tx.execute(INSERT_STATE, new)
    await attachments.attach_new_resource(tx, project_id, new)
    return new


async def provision(tx: Tx, vault: Vault, ping_key: str, slug: str) -> UUID | None:
    """The project of that ping key, where a heartbeat of that slug may be created now; None where it may not.

    The key is locked, so that two pings at once create only one.
    """
    found = await tx.fetchval(PROJECT_OF, vault.token_hashes(ping_key))
    if found is None or await count(tx, key(found), rules.MAX_HEARTBEATS) >= rules.MAX_HEARTBEATS:
        return None
    return None if await tx.fetchval(SLUG_EXISTS, found, slug) else key(found)


async def count(tx: Tx, project_id: UUID, most: int) -> int:
    """How many the project has, up to `most`."""
    return int(await tx.fetchval(AS_MANY, project_id, most))


async def one(tx: Tx, vault: Vault, project_id: UUID, heartbeat_id: UUID) -> Heartbeat | None:
    """The project's heartbeat with that key."""
    row = await tx.fetchrow(ONE, project_id, heartbeat_id)
    return (await _explained(tx, [_heartbeat(vault, row)]))[0] if row else None


async def list_(
    tx: Tx, vault: Vault, project_id: UUID, *, search: str, sort: Sort, limit: int, offset: int
) -> tuple[list[Heartbeat], int]:
    """A page of the project's heartbeats, and how many there are in all.

    `search` is a part of name or slug in whatever case. By `status`: those with incidents, then those without, then the
    paused, each by name.
    """
    total = await tx.fetchval(COUNT, project_id, search)
    rows = await tx.fetch(LIST, project_id, search, sort, limit, offset) if offset < total else []
    return await _explained(tx, [_heartbeat(vault, row) for row in rows]), total


async def of_same_slug(tx: Tx, project_id: UUID, slug: str) -> int:
    """How many of the project's heartbeats have that slug. With several, pings by it are ambiguous."""
    return int(await tx.fetchval(SAME_SLUGS, project_id, slug))


async def changing(tx: Tx, project_id: UUID, heartbeat_id: UUID) -> HeartbeatConfig | None:
    """The configuration of the project's heartbeat, locked until the transaction ends."""
    row = await tx.fetchrow(CHANGING, project_id, heartbeat_id)
    return row and _wanted(row)


async def change(tx: Tx, heartbeat_id: UUID, before: HeartbeatConfig, after: HeartbeatConfig) -> None:
    """Change a heartbeat that `changing` has locked.

    With another schedule, or resumed, it is due at a slot that is still to come. Pausing resolves its incidents.
    """
    (at,) = await pings.lock(tx, [heartbeat_id])
    await tx.execute(UPDATE, heartbeat_id, *_columns(after))
    if (after.schedule, after.paused) != (before.schedule, before.paused):
        at.state.due_at = rules.due_after_change(after.schedule, at.state.last_success_at, at.now)
        if before.paused or after.paused:
            at.state.runs.clear()
        look = None if after.paused else ping_rules.look_at(at.state, after.schedule)
        await tx.execute(SET_DUE, heartbeat_id, at.state.due_at, look, ping_rules.written_runs(at.state.runs))
    if after.paused and not before.paused:
        await incidents.resolve(tx, [ResolveRequest(at.project_id, heartbeat_id, None, "The heartbeat was paused")])


async def rotate_key(tx: Tx, vault: Vault, project_id: UUID, heartbeat_id: UUID) -> bool:
    """Give it another ping address; the old one no longer works. Returns whether it exists."""
    secret = uuid4().hex
    sealed = vault.seal(project_id, heartbeat_id, KEY_FIELD, secret.encode())
    done: str = await tx.execute(SET_KEY, project_id, heartbeat_id, vault.token_hash(secret), sealed)
    return done.endswith(" 1")


async def delete(tx: Tx, project_id: UUID, heartbeat_id: UUID) -> bool:
    """Delete a heartbeat, resolving its incidents. Returns whether it existed. Retention drops its pings."""
    await depends_on.lock(tx, project_id)
    if await tx.fetchrow(CHANGING, project_id, heartbeat_id) is None:
        return False
    await pings.lock(tx, [heartbeat_id])
    await deletion.forget(tx, project_id, HEARTBEAT, heartbeat_id)
    await tx.execute(DELETE_BODIES, heartbeat_id)
    await tx.execute(DELETE, heartbeat_id)
    return True


async def ping_key(tx: Tx, vault: Vault, project_id: UUID) -> str | None:
    """The key for pings that name heartbeats by their slugs; None until there is one."""
    sealed = await tx.fetchval(PING_KEY, project_id)
    return None if sealed is None else vault.open(project_id, project_id, KEY_FIELD, sealed).decode()


async def new_ping_key(tx: Tx, vault: Vault, project_id: UUID) -> str:
    """Make the project's ping key, or another; the old one no longer works."""
    made = "".join(secrets.choice(_LETTERS) for _ in range(PING_KEY_LETTERS))
    sealed = vault.seal(project_id, project_id, KEY_FIELD, made.encode())
    await tx.execute(SET_PING_KEY, project_id, vault.token_hash(made), sealed)
    return made


async def _explained(tx: Tx, found: Sequence[Heartbeat]) -> list[Heartbeat]:
    why = await dependencies.explanations(tx, [each.id for each in found if each.open_incidents and each.depends_on])
    return [replace(each, explained_by=why.get(each.id, ())) for each in found]


def _columns(wanted: HeartbeatConfig) -> tuple[object, ...]:
    """In the order of `WANTED`."""
    schedule = wanted.schedule
    return (
        wanted.name, wanted.slug, schedule.period, schedule.cron, schedule.timezone, schedule.grace, wanted.methods,
        wanted.paused,
    )  # fmt: skip


def _wanted(row: Record) -> HeartbeatConfig:
    return HeartbeatConfig(row["name"], row["slug"], pings.schedule_of(row), row["methods"], row["paused"])


def _heartbeat(vault: Vault, row: Record) -> Heartbeat:
    project_id, id_ = key(row["project_id"]), key(row["id"])
    runs = ping_rules.read_runs(row["runs"])
    goes_on = [run.started for run in runs.values() if not run.over]
    found = [key(incident) for incident in row["open_incidents"]]
    status = rules.status(
        paused=row["paused"], incidents=bool(found), running=bool(goes_on), due_at=row["due_at"],
        pinged=row["last_ping_at"] is not None, now=row["now"],
    )  # fmt: skip
    return Heartbeat(
        id=id_, project_id=project_id, ping_key=_ping_key(vault, project_id, id_, row["key_sealed"]),
        wanted=_wanted(row), status=status,
        due_at=row["due_at"], last_ping_at=row["last_ping_at"], last_success_at=row["last_success_at"],
        last_duration_ms=row["last_duration_ms"], running_since=max(goes_on, default=None), open_incidents=found,
        created_at=row["created_at"], updated_at=row["updated_at"], depends_on=row["depends_on"],
    )  # fmt: skip


def _ping_key(vault: Vault, project_id: UUID, heartbeat_id: UUID, sealed: bytes) -> str:
    try:
        return str(UUID(vault.open(project_id, heartbeat_id, KEY_FIELD, sealed).decode()))
    except Unopenable:  # pings work all the same
        return UNKNOWN
