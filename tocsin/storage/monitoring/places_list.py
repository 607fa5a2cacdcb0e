"""What each place saw of the project's monitors, for display: all of them, those that places disagree about first.

One statement for the order and one for what a page shows, however many monitors there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from tocsin.domain import monitors as domain
from tocsin.domain.places import HERE
from tocsin.storage.monitoring import places
from tocsin.storage.notifying import dependencies
from tocsin.storage.notifying.dependencies import Parent
from tocsin.storage.postgres.database import Tx, key

# A monitor without locations is checked from here alone, and has no rows of places. The look-ups by key are forced,
# whatever the planner believes about tables that were empty when it last looked. Without locations there is none.
PAGE = f"""
WITH m AS MATERIALIZED (
    SELECT m.id, m.name, m.url, m.paused, m.locations IS NOT NULL AS voted, m.depends_on, {places.SINCE} AS since
    FROM network_monitors m
    WHERE m.project_id = $1
      AND ($2 = '' OR position(lower($2) IN lower(m.name)) > 0 OR position(lower($2) IN lower(m.url)) > 0)
), failing AS MATERIALIZED (
    SELECT resource_id FROM incidents WHERE project_id = $1 AND closed_at IS NULL AND NOT type = ANY ($6::text[])
), ranked AS (
    SELECT m.id, m.name, m.url, m.paused, m.depends_on, m.id IN (SELECT resource_id FROM failing) AS failing,
           CASE WHEN m.paused THEN 4 WHEN c.bad > 0 AND c.good > 0 THEN 0
                WHEN c.bad > 0 OR m.id IN (SELECT resource_id FROM failing) THEN 1
                WHEN c.silent > 0 THEN 2 ELSE 3
           END AS rank
    FROM m
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE p.heard_at >= m.since AND p.problem IS NOT NULL) AS bad,
               count(*) FILTER (WHERE p.heard_at >= m.since AND p.problem IS NULL) AS good,
               count(*) FILTER (WHERE p.heard_at < m.since) AS silent
        FROM monitor_places p WHERE p.monitor_id = m.id AND m.voted
    ) c
)
SELECT *, count(*) FILTER (WHERE rank = 0) OVER () AS disagreed, count(*) OVER () AS total
FROM ranked WHERE rank = 0 OR NOT $3 ORDER BY rank, lower(name), id LIMIT $4 OFFSET $5
"""

IN_USE = """
SELECT DISTINCT p.place FROM monitor_places p JOIN network_monitors m ON m.id = p.monitor_id WHERE m.project_id = $1
"""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A monitor on the map. `failing`: it has an incident, which `explained_by` explain: they are down.

    `disagreed`: of the places that live, some see it up and some down.
    """

    id: UUID
    name: str
    url: str
    paused: bool
    failing: bool
    disagreed: bool
    seen: Mapping[str, places.Seen]
    explained_by: Sequence[Parent] = ()


async def page(
    tx: Tx, project_id: UUID, *, search: str, disagreed: bool, limit: int, offset: int
) -> tuple[list[Mapped], int, int]:
    """A page of the project's monitors, how many there are in all, and about how many of these places disagree.

    First those that places disagree about, then those that are down everywhere, then those that a place is silent
    about, each by name. `search` is a part of name or URL in whatever case. Past the end, nothing is counted.
    """
    rows = await tx.fetch(PAGE, project_id, search, disagreed, limit, offset, sorted(domain.FINDINGS))
    seen = await places.of_monitors(tx, [key(row["id"]) for row in rows])
    failing = [key(row["id"]) for row in rows if row["failing"] and row["depends_on"]]
    why = await dependencies.explanations(tx, failing)
    found = [
        Mapped(
            key(row["id"]), row["name"], row["url"], row["paused"], row["failing"], row["rank"] == 0,
            {each.place: each for each in seen.get(key(row["id"]), ())}, why.get(key(row["id"]), ()),
        )
        for row in rows
    ]  # fmt: skip
    return found, rows[0]["total"] if rows else 0, rows[0]["disagreed"] if rows else 0


async def in_use(tx: Tx, project_id: UUID) -> list[str]:
    """The places that the project's monitors are checked from, here always and first."""
    rows = await tx.fetch(IN_USE, project_id)
    return [HERE, *sorted(row["place"] for row in rows if row["place"] != HERE)]
