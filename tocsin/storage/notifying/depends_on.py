"""What depends on what, as owners write it: the list at each resource, and flat for both directions, always together.

Whoever changes it, or deletes a resource, holds the project's lock from the beginning of the transaction: circles
would otherwise be made of two changes that are each without one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain import dependencies as domain
from tocsin.domain.dependencies import FIELD, MAX_LEVELS, Written
from tocsin.domain.errors import invalid_field
from tocsin.domain.resources import base as resources
from tocsin.domain.resources.base import Resource
from tocsin.storage.delivery import behind, queue
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

LOCK_SPACE = 0x6465_7065  # any number, as long as it never changes
LOCK = "SELECT pg_advisory_xact_lock($1, hashtext($2::uuid::text))"

CURRENT = "SELECT {name} AS name, depends_on FROM {table} r WHERE id = $2 AND project_id = $1 FOR UPDATE"
LIST = "SELECT depends_on FROM {table} WHERE id = $2 AND project_id = $1"
EXISTING = "SELECT id FROM {table} WHERE project_id = $1 AND id = ANY ($2)"
WRITE = "UPDATE {table} SET depends_on = $2, updated_at = now() WHERE id = $1"

NAMED = " UNION ALL ".join(
    f"SELECT '{each.type}' AS type, r.id, {each.name} AS name FROM {each.table} r WHERE r.{{which}}"
    for each in resources.kinds().values()
)
THESE = NAMED.format(which="id = ANY ($1)")
CANDIDATES = f"""
SELECT * FROM ({NAMED.format(which="project_id = $1")}) r WHERE id <> $2 ORDER BY lower(name), id LIMIT $3
"""

CUT = "DELETE FROM dependencies WHERE child_id = $1 AND parent_id <> ALL ($2)"
TIE = """
INSERT INTO dependencies (child_id, parent_id, project_id)
SELECT $1, parent_id, $3 FROM unnest($2::uuid[]) AS g (parent_id)
ON CONFLICT (child_id, parent_id) DO NOTHING
"""
FORGET = "DELETE FROM dependencies WHERE child_id = $1 OR parent_id = $1"

ABOVE = f"""
{behind.UP.format(children="$1::uuid[]")}
SELECT g.id AS child_id, d.parent_id
FROM (SELECT unnest($1::uuid[]) AS id UNION SELECT parent_id FROM up) g
CROSS JOIN LATERAL (SELECT parent_id FROM dependencies WHERE child_id = g.id OFFSET 0) d
"""

LEVELS_BELOW = """
WITH RECURSIVE down AS (
    SELECT child_id, 1 AS level FROM dependencies WHERE parent_id = $1
    UNION
    SELECT d.child_id, level + 1
    FROM down CROSS JOIN LATERAL (SELECT child_id FROM dependencies WHERE parent_id = down.child_id OFFSET 0) d
    WHERE level < $2
)
SELECT coalesce(max(level), 0) FROM down
"""

CHILDREN = "SELECT child_id FROM dependencies WHERE parent_id = $1"
LISTS = "SELECT id, depends_on FROM {table} WHERE id = ANY ($1) ORDER BY id FOR UPDATE"
REWRITE = """
UPDATE {table} r SET depends_on = g.depends_on FROM jsonb_each($1) AS g (id, depends_on) WHERE r.id = g.id::uuid
"""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The resource whose list it is, and the list before and after."""

    name: str
    before: Written
    after: Written


@dataclass(frozen=True, slots=True)
class Named:
    """A resource as others name it."""

    id: UUID
    uuid: str
    name: str
    kind: Resource


async def lock(tx: Tx, project_id: UUID) -> None:
    """Take the project's lock, for the rest of the transaction. Before any row is locked."""
    await tx.execute(LOCK, LOCK_SPACE, project_id)


async def replace(tx: Tx, project_id: UUID, kind: Resource, child_id: UUID, written: Written) -> Replaced | None:
    """Let the project's resource depend on these alone; None where the project has no such resource.

    Raises `Refused` (422): another project's or unknown, a circle, too many behind one another.
    """
    await lock(tx, project_id)
    row = await tx.fetchrow(CURRENT.format(name=kind.name, table=kind.table), project_id, child_id)
    if row is None:
        return None
    if written != row["depends_on"]:
        parents = domain.parents(domain.read(written))
        await _check_existing(tx, project_id, written)
        await _check_shape(tx, child_id, parents)
        await queue.reconsider_resources(tx, [child_id, *await behind.behind(tx, [child_id])])
        await tx.execute(WRITE.format(table=kind.table), child_id, written)
        await tx.execute(CUT, child_id, list(parents))
        await tx.execute(TIE, child_id, list(parents), project_id)
    return Replaced(row["name"], row["depends_on"], written)


async def of(tx: Tx, project_id: UUID, kind: Resource, child_id: UUID) -> Written | None:
    """What the project's resource depends on; None where the project has no such resource."""
    found: Written | None = await tx.fetchval(LIST.format(table=kind.table), project_id, child_id)
    return found


async def unname(tx: Tx, kind: Resource, resource_id: UUID) -> None:
    """Before a resource is deleted, with the lock held: take it out of all lists. `forget` follows."""
    gone = kind.public(resource_id)
    children = [row["child_id"] for row in await tx.fetch(CHILDREN, resource_id)]
    for each in resources.kinds().values() if children else ():
        rows = await tx.fetch(LISTS.format(table=each.table), children)
        if rows:
            lists = {str(row["id"]): domain.without(row["depends_on"], gone) for row in rows}
            await tx.execute(REWRITE.format(table=each.table), lists)


async def forget(tx: Tx, resource_id: UUID) -> None:
    """Nothing depends on it any more, nor it on anything."""
    await behind.reconsider(tx, [resource_id])
    await tx.execute(FORGET, resource_id)


async def named(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Named]:
    """Those of these resources that exist."""
    rows = await tx.fetch(THESE, list(ids)) if ids else []
    return {each.id: each for each in map(_named, rows)}


async def candidates(tx: Tx, project_id: UUID, itself: UUID, *, limit: int) -> list[Named]:
    """The project's resources but this one, by name."""
    return [_named(row) for row in await tx.fetch(CANDIDATES, project_id, itself, limit)]


async def _check_existing(tx: Tx, project_id: UUID, written: Written) -> None:
    places: dict[str, str] = {}
    for place, entry in enumerate(written):
        if isinstance(entry, str):
            places.setdefault(entry, f"{FIELD}[{place}]")
        else:
            for inner, name in enumerate(entry):
                places.setdefault(name, f"{FIELD}[{place}][{inner}]")
    for kind in {resources.of_uuid(name).type: resources.of_uuid(name) for name in places}.values():
        wanted = {kind.key_of(name): field for name, field in places.items() if resources.of_uuid(name) is kind}
        rows = await tx.fetch(EXISTING.format(table=kind.table), project_id, list(wanted))
        for missing in wanted.keys() - {key(row["id"]) for row in rows}:
            raise invalid_field(wanted[missing], f"is no {kind.label} of this project")


async def _check_shape(tx: Tx, child_id: UUID, parents: Collection[UUID]) -> None:
    graph: dict[UUID, list[UUID]] = {child_id: list(parents)}
    for row in await tx.fetch(ABOVE, list(parents)):
        if (lower := key(row["child_id"])) != child_id:
            graph.setdefault(lower, []).append(key(row["parent_id"]))
    circle = domain.circle(graph, child_id)
    if circle is not None:
        names = await named(tx, circle)
        raise domain.circular(names[each].uuid for each in circle)
    levels = 1 + _levels(graph, child_id) + await tx.fetchval(LEVELS_BELOW, child_id, MAX_LEVELS)
    if parents and levels > MAX_LEVELS:
        raise invalid_field(FIELD, f"would put more than {MAX_LEVELS} behind one another")


def _levels(graph: Mapping[UUID, Collection[UUID]], start: UUID) -> int:
    """How many are above it, one behind the other."""
    height, level = 0, {start}
    while above := {parent for child in level for parent in graph.get(child, ())}:
        height, level = height + 1, above
        if height > MAX_LEVELS:
            break
    return height


def _named(row: Record) -> Named:
    kind, id_ = resources.kinds()[row["type"]], key(row["id"])
    return Named(id_, kind.public(id_), row["name"], kind)
