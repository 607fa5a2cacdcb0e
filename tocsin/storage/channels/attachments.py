"""Attachments: which integrations are notified of a resource's incidents, and of which, after how long, how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from tocsin.domain import hours
from tocsin.domain.attachments import Attachment
from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import COLUMNS, Integration
from tocsin.storage.delivery import outstanding, queue
from tocsin.storage.notifying.circumstances import attachment
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault


class Attached(NamedTuple):
    """An integration on a resource."""

    integration: Integration
    attachment: Attachment


# Locked so that the resource is not deleted while it is being attached to.
OWNED = {
    kind.type: f"SELECT 1 FROM {kind.table} WHERE project_id = $1 AND id = $2 FOR KEY SHARE"
    for kind in kinds().values()
}

VALUES = "after, repeat, incident_types, severity, hours"
ATTACHMENT = f"{VALUES}, to_everything"
OF_ATTACHMENT = ", ".join(f"a.{name}" for name in ATTACHMENT.split(", "))

ATTACHED = f"""
SELECT {COLUMNS}, {OF_ATTACHMENT}
FROM attachments a JOIN integrations i ON i.id = a.integration_id
WHERE i.project_id = $1 AND a.resource_id = $2 ORDER BY i.id
"""

ONE = f"SELECT {ATTACHMENT} FROM attachments a WHERE resource_id = $1 AND integration_id = $2 FOR UPDATE"

ATTACH = f"""
INSERT INTO attachments (resource_id, integration_id, {VALUES}, at_once)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (resource_id, integration_id) DO UPDATE
SET after = $3, repeat = $4, incident_types = $5, severity = $6, hours = $7, at_once = $8, to_everything = false
"""

DETACH = """
DELETE FROM attachments a USING integrations i
WHERE a.resource_id = $2 AND a.integration_id = $3 AND i.id = a.integration_id AND i.project_id = $1
RETURNING 1
"""

# What is told of them already is reminded of from now on.
START_REMINDERS = """
SELECT o.incident_id, now() + make_interval(secs => $3) AS due_at FROM ongoing o
WHERE o.resource_id = $1 AND EXISTS (
    SELECT FROM deliveries d WHERE d.incident_id = o.incident_id AND d.event = 'opened'
      AND coalesce(d.on_behalf_of, d.integration_id) = $2 AND d.integration_id = ANY(o.recipients || o.summarised)
)
  AND NOT EXISTS (SELECT FROM outstanding q WHERE q.incident_id = o.incident_id AND q.integration_id = $2
                  AND q.event = 'reminder')
"""
STOP_REMINDERS = """
SELECT q.id FROM ongoing o
CROSS JOIN LATERAL (
    SELECT id FROM outstanding WHERE incident_id = o.incident_id AND integration_id = $2
      AND event = 'reminder' AND held IS NOT NULL OFFSET 0
) q
WHERE o.resource_id = $1
"""
REMINDERS_OFF = "its reminders were switched off"

# Attaching to all waits for new resources that are not committed yet; new resources never wait for each other.
LOCK_ALL = "SELECT pg_advisory_xact_lock(hashtextextended('attach_all ' || $1::uuid, 0))"
LOCK_NEW = "SELECT pg_advisory_xact_lock_shared(hashtextextended('attach_all ' || $1::uuid, 0))"

MARK_ALL = f"""
UPDATE integrations i SET attach_all = true, attach_all_options = $3, updated_at = now()
WHERE project_id = $1 AND id = $2 RETURNING {COLUMNS}
"""

UNMARK_ALL = "UPDATE integrations SET attach_all = false, updated_at = now() WHERE project_id = $1 AND id = $2"

EVERYTHING = " UNION ALL ".join(f"SELECT id FROM {kind.table} WHERE project_id = $1" for kind in kinds().values())

# Of what is attached already, only what was attached to everything is changed.
ATTACH_EXISTING = f"""
INSERT INTO attachments (resource_id, integration_id, {VALUES}, at_once, to_everything)
SELECT id, $2::uuid, $3::int, $4::int, $5::text[], $6::text, $7::jsonb, $8::bool, true FROM ({EVERYTHING}) everything
ON CONFLICT (resource_id, integration_id) DO UPDATE
SET after = $3, repeat = $4, incident_types = $5, severity = $6, hours = $7, at_once = $8
WHERE attachments.to_everything
"""

ATTACH_NEW = f"""
INSERT INTO attachments (resource_id, integration_id, {VALUES}, at_once, to_everything)
SELECT $2, i.id, coalesce(v.after, 0), v.repeat, v.incident_types, v.severity, v.hours,
       NOT i.for_people AND coalesce(v.plain, true), true
FROM integrations i
CROSS JOIN LATERAL jsonb_to_record(coalesce(i.attach_all_options, '{{}}'))
    AS v(after int, repeat int, incident_types text[], severity text, hours jsonb, plain bool)
WHERE i.project_id = $1 AND i.attach_all
ON CONFLICT DO NOTHING
"""


async def hold_resource(tx: Tx, project_id: UUID, kind: Resource, resource_id: UUID) -> bool:
    """Whether the project has that server or monitor; if so, it cannot be deleted until the transaction ends."""
    return await tx.fetchval(OWNED[kind.type], project_id, resource_id) is not None


async def attached(tx: Tx, vault: Vault, project_id: UUID, resource_id: UUID) -> Sequence[Attached]:
    """What is attached to a server or monitor, oldest integration first."""
    rows = await tx.fetch(ATTACHED, project_id, resource_id)
    return [Attached(integrations.of_row(vault, row), attachment(row)) for row in rows]


async def one(tx: Tx, resource_id: UUID, integration_id: UUID) -> Attachment | None:
    """How it is attached there; locked until the transaction ends."""
    row = await tx.fetchrow(ONE, resource_id, integration_id)
    return row and attachment(row)


async def attach(tx: Tx, resource_id: UUID, to: UUID, wanted: Attachment, *, for_people: bool = False) -> None:
    """Attach two that are known to be of one project, or change how they are. `for_people` is of the integration.

    What waits for its turn is decided anew, and who is told already is reminded as it says from now on.
    """
    await tx.execute(ATTACH, resource_id, to, *_columns(wanted, for_people=for_people))
    await queue.reconsider_resources(tx, [resource_id])
    if wanted.repeat is None:
        off = await tx.fetch(STOP_REMINDERS, resource_id, to)
        if off:
            await outstanding.suppress(tx, [row["id"] for row in off], REMINDERS_OFF)
    else:
        rows = await tx.fetch(START_REMINDERS, resource_id, to, wanted.repeat)
        await queue.hold(
            tx,
            [
                queue.HeldEntry(to, key(row["incident_id"]), "reminder", queue.TO_BE_DECIDED, row["due_at"])
                for row in rows
            ],
        )


async def detach(tx: Tx, project_id: UUID, resource_id: UUID, integration_id: UUID) -> bool:
    """Whether it was attached. What waits for its turn is decided anew."""
    if await tx.fetchval(DETACH, project_id, resource_id, integration_id) is None:
        return False
    await queue.reconsider_resources(tx, [resource_id])
    return True


async def lock_all(tx: Tx, project_id: UUID) -> None:
    """Wait for new resources that are not committed yet. Before the integration is locked that is attached to all."""
    await tx.execute(LOCK_ALL, project_id)


async def attach_all(
    tx: Tx, vault: Vault, project_id: UUID, integration_id: UUID, wanted: Attachment, *, for_people: bool
) -> Integration | None:
    """Attach to every server and monitor of the project, future ones included. Direct attachments stay as they are."""
    await lock_all(tx, project_id)
    row = await tx.fetchrow(MARK_ALL, project_id, integration_id, _options(wanted))
    if row is None:
        return None
    await tx.execute(ATTACH_EXISTING, project_id, integration_id, *_columns(wanted, for_people=for_people))
    await queue.reconsider(tx, project_id)
    return integrations.of_row(vault, row)


async def stop_attach_all(tx: Tx, project_id: UUID, integration_id: UUID) -> None:
    """Undo `attach_all` for new resources; existing attachments stay."""
    await tx.execute(UNMARK_ALL, project_id, integration_id)


async def attach_new_resource(tx: Tx, project_id: UUID, resource_id: UUID) -> None:
    """Call this in the transaction that creates a server or monitor: attaches integrations marked `attach_all`."""
    await tx.execute(LOCK_NEW, project_id)
    await tx.execute(ATTACH_NEW, project_id, resource_id)


async def create_system(tx: Tx, project_id: UUID, email: str) -> UUID:
    """The system integration: its owner's mail address, attached to everything, neither editable nor deletable."""
    await lock_all(tx, project_id)
    new = await integrations.insert_system(tx, project_id, email)
    await tx.execute(ATTACH_EXISTING, project_id, new, *_columns(Attachment(), for_people=True))
    return new


def _columns(wanted: Attachment, *, for_people: bool) -> tuple[object, ...]:
    given = None if wanted.hours is None else hours.shown(wanted.hours)
    return (
        wanted.after, wanted.repeat, wanted.incident_types, wanted.severity, given, wanted.plain and not for_people
    )  # fmt: skip


def _options(wanted: Attachment) -> Mapping[str, Any] | None:
    """As `ATTACH_NEW` reads them."""
    if wanted.plain:
        return None
    after, repeat, types, severity, given, _ = _columns(wanted, for_people=False)
    return {
        "after": after, "repeat": repeat, "incident_types": types, "severity": severity, "hours": given, "plain": False
    }  # fmt: skip
