"""Integrations: stored with their secrets sealed, read by the API and the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec

from tocsin.domain import floods, ids
from tocsin.domain.floods import Flood
from tocsin.storage.delivery import outstanding, queue
from tocsin.storage.notifying import blocked, on_call, silences
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

if TYPE_CHECKING:
    from asyncpg import Record


SYSTEM_TYPE = "Integrations::EmailIntegration"
SEALED_FIELD = "settings"


@dataclass(frozen=True, slots=True)
class Integration:
    """One integration. `settings` holds its secrets in clear; `name` is None where its type names it, `flood` where
    everything is told one by one.
    """

    id: UUID
    project_id: UUID
    type: str
    name: str | None
    settings: Mapping[str, Any]
    version: int
    system: bool
    attach_all: bool
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    created_at: datetime
    updated_at: datetime
    flood: Flood | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the queue needs to know about a type: whether people read it, and whether sending twice does no harm."""

    for_people: bool
    repeatable: bool


@dataclass(frozen=True, slots=True)
class Sendable:
    """What the engine needs to send to an integration. A copy is valid as long as `version` is the row's.

    `blocked` says why nothing may be sent (suppress with it), `failure` why nothing can be sent at present (retry).
    `has_ceiling`: its project was created by self-registration, so that its sends to people are limited. Each of them
    can change without a new version, so such a copy must not be cached.
    """

    id: UUID
    project_id: UUID
    type: str
    version: int
    settings: Mapping[str, Any]
    blocked: str | None = None
    failure: str | None = None
    has_ceiling: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """The recent health of an integration."""

    status: Literal["ok", "failing", "disabled"]
    reason: str | None
    last_delivered_at: datetime | None
    failing_since: datetime | None
    outstanding: int


COLUMNS = """i.id, i.project_id, i.type, i.name, i.settings, i.sealed, i.version, i.system, i.attach_all,
    i.failing_since, i.disabled_at, i.disabled_reason, i.created_at, i.updated_at, i.flood"""

THESE = f"SELECT {COLUMNS} FROM integrations i WHERE project_id = $1 AND id = ANY($2::uuid[])"
LIST = f"SELECT {COLUMNS} FROM integrations i WHERE project_id = $1 ORDER BY id"
ONE = f"SELECT {COLUMNS} FROM integrations i WHERE project_id = $1 AND id = $2"
CHANGING = f"{ONE} FOR UPDATE"

INSERT = f"""
INSERT INTO integrations AS i (id, project_id, type, name, settings, sealed, for_people, repeatable, system, attach_all,
                               flood)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9,
        CASE WHEN $7 AND $3 <> '{blocked.SMS_TYPE}' THEN '{floods.DEFAULT}'::jsonb END)
RETURNING {COLUMNS}
"""

UPDATE = f"""
UPDATE integrations i SET name = $3, settings = $4, sealed = $5, version = version + 1, updated_at = now()
WHERE project_id = $1 AND id = $2
RETURNING {COLUMNS}
"""

SET_FLOOD = f"""
UPDATE integrations i SET flood = $3, updated_at = now() WHERE project_id = $1 AND id = $2 RETURNING {COLUMNS}
"""

DELETE = "DELETE FROM integrations WHERE project_id = $1 AND id = $2"

SELF_MADE = """(i.for_people AND EXISTS (
           SELECT FROM projects p WHERE p.id = i.project_id AND p.made_by IS NOT NULL))"""

HEALTH = f"""
SELECT i.disabled_at, i.disabled_reason, i.failing_since, i.failures, {blocked.COLUMNS},
       i.settings->>'email' AS email,
       (SELECT count(*) FROM outstanding o WHERE o.integration_id = i.id AND o.held IS NULL) AS outstanding,
       (SELECT f.finished_at FROM finished f WHERE f.integration_id = i.id AND f.status = 'delivered'
        ORDER BY f.id DESC LIMIT 1) AS last_delivered_at,
       coalesce((SELECT o.attempts->-1->>'error' FROM outstanding o WHERE o.integration_id = i.id AND o.failures > 0
                 ORDER BY o.id DESC LIMIT 1),
                (SELECT f.reason FROM finished f WHERE f.integration_id = i.id AND f.status = 'dead'
                 ORDER BY f.id DESC LIMIT 1)) AS last_failure
FROM integrations i WHERE i.project_id = $1 AND i.id = $2
"""

SENDABLE = f"""
SELECT i.id, i.project_id, i.type, i.version, i.settings, i.sealed, {blocked.COLUMNS},
       {SELF_MADE} AS has_ceiling
FROM integrations i WHERE i.id = ANY($1::uuid[])
"""

async def list_(tx: Tx, vault: Vault, project_id: UUID) -> list[Integration]:
    """All of the project's, oldest first."""
    return [of_row(vault, row) for row in await tx.fetch(LIST, project_id)]


async def one(tx: Tx, vault: Vault, project_id: UUID, integration_id: UUID) -> Integration | None:
    """The project's integration with that key."""
    row = await tx.fetchrow(ONE, project_id, integration_id)
    return row and of_row(vault, row)


async def these(tx: Tx, vault: Vault, project_id: UUID, keys: Iterable[UUID]) -> list[Integration]:
    """The project's integrations with these keys, in any order."""
    return [of_row(vault, row) for row in await tx.fetch(THESE, project_id, [*keys])]


async def changing(tx: Tx, vault: Vault, project_id: UUID, integration_id: UUID) -> Integration | None:
    """The project's integration with that key, locked until the transaction ends."""
    row = await tx.fetchrow(CHANGING, project_id, integration_id)
    return row and of_row(vault, row)


async def deleting(tx: Tx, vault: Vault, project_id: UUID, integration_id: UUID) -> Integration | None:
    """As `changing`, with the schedules that name it."""
    await on_call.lock(tx, project_id)
    await on_call.hold_with_naming(tx, project_id, integration_id)
    return await one(tx, vault, project_id, integration_id)


async def create(
    tx: Tx,
    vault: Vault,
    project_id: UUID,
    type_name: str,
    facts: Facts,
    *,
    name: str | None,
    settings: Mapping[str, Any],
    secret: Collection[str],
) -> Integration:
    """A new integration, attached to nothing. Those `settings` that `secret` names are encrypted."""
    new = ids.new()
    shown, sealed = _sealed(vault, project_id, new, settings, secret)
    row = await tx.fetchrow(
        INSERT, new, project_id, type_name, name, shown, sealed, facts.for_people, facts.repeatable, False
    )
    return of_row(vault, row)


async def insert_system(tx: Tx, project_id: UUID, email: str) -> UUID:
    """The system integration: its owner's mail address, neither editable nor deletable. Returns its key."""
    new = ids.new()
    await tx.fetchrow(INSERT, new, project_id, SYSTEM_TYPE, None, {"email": email}, None, True, True, True)
    return new


async def update(
    tx: Tx, vault: Vault, stored: Integration, *, name: str | None, settings: Mapping[str, Any], secret: Collection[str]
) -> Integration:
    """Change an integration that `changing` has locked."""
    shown, sealed = _sealed(vault, stored.project_id, stored.id, settings, secret)
    return of_row(vault, await tx.fetchrow(UPDATE, stored.project_id, stored.id, name, shown, sealed))


async def set_flood(tx: Tx, vault: Vault, stored: Integration, flood: Flood | None) -> Integration:
    """Change when the rest is told in one message. What waits for such a message is decided anew."""
    given = None if flood is None else msgspec.to_builtins(flood)
    row = await tx.fetchrow(SET_FLOOD, stored.project_id, stored.id, given)
    await queue.reconsider(tx, stored.project_id)
    return of_row(vault, row)


async def delete(tx: Tx, project_id: UUID, integration_id: UUID) -> None:
    """Delete an integration that `deleting` has locked: its outstanding deliveries end as suppressed, and schedules go
    on without it.
    """
    await silences.hold_naming(tx, "integrations", project_id, integration_id)
    await on_call.forget_integration(tx, project_id, integration_id)
    await outstanding.suppress_outstanding(tx, integration_id, "integration deleted")
    await silences.forget_integration(tx, project_id, integration_id)
    await tx.execute(DELETE, project_id, integration_id)


async def health(tx: Tx, project_id: UUID, integration_id: UUID) -> Health | None:
    """Its health; None if the project has no such integration."""
    row = await tx.fetchrow(HEALTH, project_id, integration_id)
    if row is None:
        return None
    status: Literal["ok", "failing", "disabled"] = "ok"
    reason = None
    if row["disabled_at"]:
        status, reason = "disabled", row["disabled_reason"] or "manually"
    elif row["failing_since"]:
        status, reason = "failing", row["last_failure"]
    elif why := blocked.reason(row, row["email"]):
        status, reason = "failing", why
    return Health(status, reason, row["last_delivered_at"], row["failing_since"], row["outstanding"])


async def sendable(tx: Tx, vault: Vault, integrations: Iterable[UUID]) -> dict[UUID, Sendable]:
    """Those integrations that exist, with what is needed to send."""
    found = {}
    for row in await tx.fetch(SENDABLE, list(integrations)):
        settings, failure = _opened(vault, row)
        each, why = key(row["id"]), blocked.reason(row, settings.get("email"))
        found[each] = Sendable(
            each, key(row["project_id"]), row["type"], row["version"], settings, why, failure, row["has_ceiling"]
        )
    return found


def _sealed(
    vault: Vault, project_id: UUID, integration_id: UUID, settings: Mapping[str, Any], secret: Collection[str]
) -> tuple[dict[str, Any], bytes | None]:
    """Settings as they are stored: plain ones, readable in the database, and an envelope with the secrets."""
    return vault.split(project_id, integration_id, SEALED_FIELD, settings, secret)


def _opened(vault: Vault, row: Record) -> tuple[dict[str, Any], str | None]:
    """All settings, or only the plain ones and why the rest cannot be decrypted."""
    if row["sealed"] is None:
        return row["settings"], None
    return vault.join(key(row["project_id"]), key(row["id"]), SEALED_FIELD, row["settings"], row["sealed"])


def of_row(vault: Vault, row: Record) -> Integration:
    settings, _ = _opened(vault, row)
    return Integration(
        id=key(row["id"]),
        project_id=key(row["project_id"]),
        type=row["type"],
        name=row["name"],
        settings=settings,
        version=row["version"],
        system=row["system"],
        attach_all=row["attach_all"],
        failing_since=row["failing_since"],
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        flood=row["flood"] and msgspec.convert(row["flood"], Flood),
    )
