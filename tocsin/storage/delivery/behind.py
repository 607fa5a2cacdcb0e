"""What is told of those behind a resource is decided again when that resource is well again.

The rest of what depends on what is `storage.notifying`'s; ends of incidents are here, and must not miss it.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from tocsin.storage.delivery import queue
from tocsin.storage.postgres.database import Tx, key

WELL_SINCE = "UPDATE dependencies SET parent_well_since = now() WHERE parent_id = ANY ($1)"

BEHIND = """
WITH RECURSIVE down AS (
    SELECT child_id FROM dependencies WHERE parent_id = ANY ($1)
    UNION
    SELECT d.child_id FROM down JOIN dependencies d ON d.parent_id = down.child_id
)
SELECT child_id FROM down
"""


async def behind(tx: Tx, parent_ids: Collection[UUID]) -> list[UUID]:
    """All that depend on these, directly or through others."""
    return [key(row["child_id"]) for row in await tx.fetch(BEHIND, list(parent_ids))] if parent_ids else []


async def reconsider(tx: Tx, parent_ids: Collection[UUID]) -> list[UUID]:
    """Decide again what is held back about those behind these. Returns them."""
    children = await behind(tx, parent_ids)
    await queue.reconsider_resources(tx, children)
    return children


async def well_again(tx: Tx, parent_ids: Collection[UUID]) -> None:
    """These are well again as of now: record it, and decide again what is held back about those behind them."""
    if parent_ids:
        await tx.execute(WELL_SINCE, list(parent_ids))
        await reconsider(tx, parent_ids)
