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
ORDER BY resource_id, type, dedup_key FOR UPDATE
"""

# Each resource is looked up once and by index: a join would read all dependencies of all projects at each step.
DOWN = """WITH RECURSIVE down AS (
    SELECT d.child_id
    FROM unnest({parents}) AS g (id)
    CROSS JOIN LATERAL (SELECT child_id FROM dependencies WHERE parent_id = g.id OFFSET 0) d
    UNION
    SELECT d.child_id
    FROM down CROSS JOIN LATERAL (SELECT child_id FROM dependencies WHERE parent_id = down.child_id OFFSET 0) d
)"""
UP = """WITH RECURSIVE up AS (
    SELECT d.parent_id
    FROM unnest({children}) AS g (id)
    CROSS JOIN LATERAL (SELECT parent_id FROM dependencies WHERE child_id = g.id OFFSET 0) d
    UNION
    SELECT d.parent_id
    FROM up CROSS JOIN LATERAL (SELECT parent_id FROM dependencies WHERE child_id = up.parent_id OFFSET 0) d
)"""
"""SQL: all that depend on these, directly or through others; and all that these depend on."""

CONCERNED = f"""{DOWN.format(parents="$3::uuid[]")}, concerned AS MATERIALIZED (
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

PARENTS = """
SELECT g.id FROM unnest($1::uuid[]) AS g (id)
CROSS JOIN LATERAL (SELECT FROM dependencies WHERE parent_id = g.id LIMIT 1) d
"""

BEHIND = f"{DOWN.format(parents='$1::uuid[]')} SELECT child_id FROM down"


async def parents(tx: Tx, resource_ids: Collection[UUID]) -> list[UUID]:
    """Those of these that others depend on."""
    return [key(row["id"]) for row in await tx.fetch(PARENTS, list(resource_ids))] if resource_ids else []


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
    named = await parents(tx, parent_ids)
    return [key(row["child_id"]) for row in await tx.fetch(BEHIND, named)] if named else []


async def reconsider(tx: Tx, parent_ids: Collection[UUID]) -> None:
    """Decide again what is held back about those behind these."""
    if parent_ids:
        await lock_deliveries(tx, (), Others(behind=frozenset(parent_ids)))


async def well_since_now(tx: Tx, parent_ids: Collection[UUID]) -> None:
    """Record that these are well again; what is held back about those behind them is decided anew by the caller."""
    if parent_ids:
        await tx.execute(WELL_SINCE, list(parent_ids))
