"""Flood control: how much each integration was told in its present span, by `domain.floods`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from tocsin.domain import floods as domain
from tocsin.domain.floods import Count, Flood
from tocsin.storage.postgres.database import Tx, columns, key

COUNTS = """
SELECT i.id, i.flood, f.ends_at, f.told
FROM integrations i LEFT JOIN floods f ON f.integration_id = i.id
WHERE i.id = ANY($1::uuid[]) AND i.flood IS NOT NULL ORDER BY i.id
"""
LOCK = f"{COUNTS} FOR NO KEY UPDATE OF i"

STORE = """
INSERT INTO floods (integration_id, ends_at, told) SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::jsonb[])
ON CONFLICT (integration_id) DO UPDATE SET ends_at = excluded.ends_at, told = excluded.told
"""


@dataclass(slots=True)
class Floods:
    """How much each integration for people was sent in its present span, what is decided now included."""

    limits: Mapping[UUID, Flood]
    counts: dict[UUID, Count]
    changed: dict[UUID, Count] = field(default_factory=dict)

    def until(self, integration: UUID, resource_id: UUID, now: datetime) -> datetime | None:
        """When the summary goes out that an incident of this resource belongs into; None where it is told by itself."""
        limit = self.limits.get(integration)
        return domain.flooded_until(limit, self.counts.get(integration), str(resource_id), now)

    def count(self, integration: UUID, resource_id: UUID, now: datetime) -> None:
        """One of its incidents is told now."""
        limit = self.limits.get(integration)
        if limit is not None:
            counted = domain.counted(limit, self.counts.get(integration), str(resource_id), now)
            self.counts[integration] = self.changed[integration] = counted


async def of(tx: Tx, integrations: Collection[UUID], *, lock: bool = True) -> Floods:
    """How much these were sent; no other transaction counts until this one ends, if it is to `lock`."""
    rows = await tx.fetch(LOCK if lock else COUNTS, list(integrations))
    limits = {key(row["id"]): msgspec.convert(row["flood"], Flood) for row in rows}
    counts = {key(row["id"]): Count(row["ends_at"], row["told"]) for row in rows if row["ends_at"] is not None}
    return Floods(limits, counts)


async def store(tx: Tx, counts: Mapping[UUID, Count]) -> None:
    """Store what was counted by a transaction that has locked it."""
    if counts:
        await tx.execute(STORE, *columns([(id_, count.ends_at, count.told) for id_, count in counts.items()]))
