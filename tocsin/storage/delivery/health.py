"""Health of integrations: failing, disabled, probed, working again; and notifying a project's people by another way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from tocsin.domain import ids
from tocsin.storage.delivery import deliveries, outstanding, queue
from tocsin.storage.delivery.queue import Content, QueueEntry, recipient
from tocsin.storage.postgres.database import Tx, key

GIVE_UP_AFTER = "5 days"
GIVE_UP_FAILURES = 10
PROBE_EVERY = "1 day"

# Locked in the order of keys, as everywhere.
HOLD = "SELECT FROM integrations WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

# A success that was under way when its integration was disabled does not enable it: it used an older version.
WORKING = """
UPDATE integrations i
SET failing_since = NULL, failures = 0, disabled_at = NULL, disabled_reason = NULL, version = i.version + 1
FROM unnest($1::uuid[], $2::int[]) AS g(id, version)
WHERE i.id = g.id AND (i.disabled_at IS NULL AND i.failing_since IS NOT NULL
                       OR i.disabled_at IS NOT NULL AND i.version <= g.version)
  AND i.probed_at IS DISTINCT FROM 'infinity'
"""

FAILING = """
UPDATE integrations i SET failing_since = coalesce(i.failing_since, now()), failures = i.failures + g.failures
FROM unnest($1::uuid[], $2::int[]) AS g(id, failures) WHERE i.id = g.id
"""

# What was disabled for good is never probed, and no success that was under way enables it.
DISABLE = """
UPDATE integrations
SET disabled_at = now(), probed_at = CASE WHEN $3 THEN 'infinity' ELSE now() END, disabled_reason = $2,
    version = version + 1
WHERE id = $1 AND (disabled_at IS NULL OR ($3 AND probed_at IS DISTINCT FROM 'infinity'))
RETURNING id, project_id, coalesce(name, type) AS name
"""

# Of those that have failed for so long, only those whose project has another working integration.
LONG_FAILING = f"""
SELECT id FROM integrations i
WHERE failing_since < now() - interval '{GIVE_UP_AFTER}' AND failures >= {GIVE_UP_FAILURES} AND disabled_at IS NULL
  AND EXISTS (SELECT FROM integrations o WHERE o.project_id = i.project_id AND o.id <> i.id
              AND o.disabled_at IS NULL AND o.failing_since IS NULL)
ORDER BY failing_since LIMIT $1 FOR UPDATE SKIP LOCKED
"""

TO_PROBE = f"""
UPDATE integrations SET probed_at = now()
WHERE id IN (SELECT id FROM integrations WHERE failing_since IS NOT NULL AND disabled_at IS NOT NULL
             AND probed_at < now() - interval '{PROBE_EVERY}' ORDER BY probed_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""

ENABLE = """
UPDATE integrations
SET failing_since = NULL, failures = 0, disabled_at = NULL, disabled_reason = NULL, probed_at = NULL,
    version = version + 1
WHERE id = $1 AND project_id = $2
"""

PEOPLE = f"""
SELECT {queue.RECIPIENT} FROM integrations i
WHERE i.project_id = $1 AND i.for_people AND i.disabled_at IS NULL AND i.id <> $2
"""


async def record_results(tx: Tx, succeeded: Mapping[UUID, int], failed: Mapping[UUID, int]) -> None:
    """Record results of attempts: a success ends all failures of its version of the integration, failures add up."""
    if failed and succeeded:
        await hold(tx, {*failed, *succeeded})
    if failed:
        await tx.execute(FAILING, *_columns(failed))
    if succeeded:
        await tx.execute(WORKING, *_columns(succeeded))


async def hold(tx: Tx, integrations: Collection[UUID]) -> None:
    """Before any delivery is locked: lock integrations that are to be changed."""
    if integrations:
        await tx.execute(HOLD, list(integrations))


def _columns(numbers: Mapping[UUID, int]) -> tuple[list[UUID], list[int]]:
    in_order = sorted(numbers)
    return in_order, [numbers[each] for each in in_order]


async def disable(tx: Tx, integration_id: UUID, reason: str, *, for_good: bool = False) -> tuple[UUID, str] | None:
    """Disable it, suppress what is pending with the reason, and notify the project's people by another way.

    `for_good`: until a person enables it, whatever a probe would find. Returns its project and name; None where there
    was nothing to disable.
    """
    row = await tx.fetchrow(DISABLE, integration_id, reason, for_good)
    if row is None:
        return None
    await outstanding.suppress_waiting(tx, integration_id, f"integration disabled: {reason}")
    name, public = row["name"], ids.public(ids.INTEGRATION, integration_id)
    await notify_people(
        tx,
        key(row["project_id"]),
        f"The integration {name} ({public}) was disabled and no longer receives notifications: {reason}. "
        "Enable it again once its destination works.",
        exclude=integration_id,
    )
    return key(row["project_id"]), name


async def enable(tx: Tx, project_id: UUID, integration_id: UUID) -> None:
    """Enable an integration because a person asked for it."""
    await tx.execute(ENABLE, integration_id, project_id)


async def disable_failing(tx: Tx, limit: int) -> int:
    """Disable what has failed for days without one success; never a project's last working one. Returns how many."""
    rows = await tx.fetch(LONG_FAILING, limit)
    for row in rows:
        await disable(tx, key(row["id"]), f"every delivery has failed for {GIVE_UP_AFTER}")
    return len(rows)


async def probe(tx: Tx, limit: int, public_url: str) -> int:
    """Send a test to each disabled integration that has had none for a day: a success enables it. Returns how many."""
    rows = await tx.fetch(TO_PROBE, limit)
    for row in rows:
        await deliveries.enqueue_test(tx, key(row["id"]), public_url)
    return len(rows)


async def notify_people(tx: Tx, project_id: UUID, message: str, *, exclude: UUID) -> None:
    """A notice through every integration that the project's people read, except the one it is about."""
    now = await tx.fetchval("SELECT now()")
    content = Content(None, "", "Tocsin", "", "notice", message, now, None)
    rows = await tx.fetch(PEOPLE, project_id, exclude)
    await queue.put(tx, [QueueEntry(recipient(row), "notice", content) for row in rows])
