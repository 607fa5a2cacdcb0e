"""The totals of all engines' counters, since the installation began."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.domain.counters import CounterKey
from tocsin.storage.postgres.database import Tx

# Sorted, so that two engines lock the rows in the same order.
ADD = """
INSERT INTO counters (name, labels, value)
SELECT name, string_to_array(labels, E'\\n'), value FROM unnest($1::text[], $2::text[], $3::float8[])
    AS g(name, labels, value) ORDER BY name, labels
ON CONFLICT (name, labels) DO UPDATE SET value = counters.value + excluded.value
"""

ALL = "SELECT name, labels, value FROM counters"


async def add(tx: Tx, counts: Mapping[CounterKey, float]) -> None:
    """Add what one process has counted."""
    if counts:
        names, labels = zip(*counts, strict=True)
        await tx.execute(ADD, list(names), ["\n".join(each) for each in labels], list(counts.values()))


async def all_(tx: Tx) -> dict[CounterKey, float]:
    """The totals."""
    return {(row["name"], tuple(row["labels"])): row["value"] for row in await tx.fetch(ALL)}
