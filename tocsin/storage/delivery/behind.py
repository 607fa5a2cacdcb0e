"""What is told of those behind a resource is decided again when that resource is well again.

The rest of what depends on what is `storage.notifying`'s; ends of incidents are here, and must not miss it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from tocsin.domain.incidents import Severity
from tocsin.storage.delivery import queue
from tocsin.storage.delivery.queue import TURNS_CHANNEL
from tocsin.storage.postgres.database import Tx, key

LOCK_ONGOING = """
SELECT resource_id, type, severity, incident_id FROM ongoing WHERE resource_id = ANY($1::uuid[])
ORDER BY resource_id, type FOR UPDATE
"""

CONCERNED = """WITH RECURSIVE down AS (
    SELECT child_id FROM dependencies WHERE parent_id = ANY($3::uuid[])
    UNION
    SELECT d.child_id FROM down JOIN dependencies d ON d.parent_id = down.child_id
), concerned AS MATERIALIZED (
    SELECT incident_id FROM ongoing WHERE resource_id = ANY($2::uuid[] || ARRAY(SELECT child_id FROM down))
)"""
"""SQL: what is ongoing at the resources $2, and behind the resources $3."""

# In one statement: deliveries of several incidents are locked in one order, or not at all.
LOCK_AND_DECIDE_ANEW = f"""
{CONCERNED}
UPDATE outstanding o SET due_at = now(), summary = false
FROM (
    SELECT q.id, q.held IS NOT NULL AND {queue.ANEW} AND q.incident_id IN (SELECT incident_id FROM concerned) AS anew
    FROM outstanding q WHERE q.incident_id = ANY($1::uuid[] || ARRAY(SELECT incident_id FROM concerned))
    ORDER BY q.id FOR UPDATE
) waiting
WHERE o.id = waiting.id AND waiting.anew
"""

WELL_SINCE = "UPDATE dependencies SET parent_well_since = now() WHERE parent_id = ANY ($1)"

BEHIND = """
WITH RECURSIVE down AS (
    SELECT child_id FROM dependencies WHERE parent_id = ANY ($1)
    UNION
    SELECT d.child_id FROM down JOIN dependencies d ON d.parent_id = down.child_id
)
SELECT child_id FROM down
"""


class Lasting(NamedTuple):
    """What is ongoing at some resources, locked until the transaction ends."""

    types: dict[UUID, dict[str, Severity]]
    incidents: list[UUID]


class Others(NamedTuple):
    """Resources about which it is decided anew who is told: `these`, and all `behind` those."""

    these: frozenset[UUID] = frozenset()
    behind: frozenset[UUID] = frozenset()


NO_OTHERS = Others()


async def hold(tx: Tx, resources: Collection[UUID]) -> Lasting:
    """Call this before several changes in one transaction to what is ongoing at these resources.

    Rows in `ongoing` are locked before any delivery, in the order of their keys, so that no two transactions wait for
    each other. `lock_deliveries` follows.
    """
    types: dict[UUID, dict[str, Severity]] = {each: {} for each in resources}
    rows = await tx.fetch(LOCK_ONGOING, list(resources))
    for row in rows:
        types[key(row["resource_id"])][row["type"]] = row["severity"]
    return Lasting(types, [key(row["incident_id"]) for row in rows])


async def lock_deliveries(tx: Tx, incidents: Collection[UUID], others: Others) -> None:
    """Lock what is outstanding about these incidents, and have decided anew what is held back about `others`."""
    if incidents or others != NO_OTHERS:
        await tx.execute(LOCK_AND_DECIDE_ANEW, list(incidents), list(others.these), list(others.behind))
    if others != NO_OTHERS:
        await tx.execute("SELECT pg_notify($1, '')", TURNS_CHANNEL)


async def behind(tx: Tx, parent_ids: Collection[UUID]) -> list[UUID]:
    """All that depend on these, directly or through others."""
    return [key(row["child_id"]) for row in await tx.fetch(BEHIND, list(parent_ids))] if parent_ids else []


async def reconsider(tx: Tx, parent_ids: Collection[UUID]) -> None:
    """Decide again what is held back about those behind these."""
    if parent_ids:
        await lock_deliveries(tx, (), Others(behind=frozenset(parent_ids)))


async def well_since_now(tx: Tx, parent_ids: Collection[UUID]) -> None:
    """Record that these are well again; what is held back about those behind them is decided anew by the caller."""
    if parent_ids:
        await tx.execute(WELL_SINCE, list(parent_ids))
