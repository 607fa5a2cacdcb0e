"""Whether what a resource depends on explains that it cannot be reached, and whom a resource explains.

A resource is down while an incident of `REACHABILITY` is ongoing for it, and a monitor also while its latest check
failed so. One that has not shown itself since counts as down while its own parents explain it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from tocsin.domain import dependencies as domain
from tocsin.domain.dependencies import REACHABILITY, DependsOn
from tocsin.domain.resources import base as resources
from tocsin.storage.delivery import behind, incidents
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

CHECKS = 2
"""Checks that a child gets after its parents are well again."""
SETTLED = timedelta(seconds=120)
"""The same for what has no checks: two reports of an agent."""
LONG_AGO = timedelta(days=1)

DESCRIBED = " UNION ALL ".join(
    f"SELECT '{each.type}' AS type, {each.name} AS name, r.depends_on FROM {each.table} r WHERE r.id = n.id"
    for each in resources.kinds().values()
)

LOOKED_AT = f"""
SELECT n.id, n.well_since, r.type, r.name, r.depends_on, t.trouble_since, m.last_result_at, m.last_problem,
       coalesce(m.active, false) AS active, s.seen_at, now() AS now
FROM nodes n
CROSS JOIN LATERAL ({DESCRIBED} LIMIT 1) r
LEFT JOIN LATERAL (
    SELECT last_result_at, last_problem, isfinite(due_at) AS active
    FROM monitor_states WHERE monitor_id = n.id LIMIT 1
) m ON true
LEFT JOIN LATERAL (
    SELECT seen_at FROM server_states WHERE server_id = n.id
    UNION ALL
    SELECT last_ping_at FROM heartbeat_states WHERE heartbeat_id = n.id
    LIMIT 1
) s ON true
CROSS JOIN LATERAL (
    SELECT max(i.created_at) AS trouble_since
    FROM ongoing o CROSS JOIN LATERAL (SELECT created_at FROM incidents WHERE id = o.incident_id LIMIT 1) i
    WHERE o.resource_id = n.id AND o.type = ANY ($2)
) t
"""

UPWARDS = f"""
{behind.UP.format(children="$1::uuid[]")}, nodes AS (
    SELECT g.id, max(d.parent_well_since) AS well_since
    FROM (
        SELECT id, false AS named FROM unnest($1::uuid[]) AS g (id) UNION SELECT parent_id, true FROM up
    ) g
    LEFT JOIN LATERAL (SELECT * FROM dependencies WHERE child_id = g.id OFFSET 0) d ON true
    GROUP BY g.id HAVING bool_or(g.named OR d.child_id IS NOT NULL)
)
{LOOKED_AT}
"""

ONLY_THESE = f"WITH nodes AS (SELECT id, NULL::timestamptz AS well_since FROM unnest($1::uuid[]) AS g (id)) {LOOKED_AT}"

DOWNWARDS = f"""
{behind.DOWN.format(parents="$1::uuid[]")}
SELECT n.id, r.name, r.depends_on
FROM (SELECT child_id AS id FROM down) n CROSS JOIN LATERAL ({DESCRIBED} LIMIT 1) r
ORDER BY r.name, n.id
"""

CHECKED_SINCE = """
SELECT g.id, (
           SELECT count(*) FROM (
               SELECT FROM checks WHERE monitor_id = g.id AND at > g.since AND at <= now() LIMIT $3
           ) c
       ) AS checks,
       g.since + make_interval(secs => $3 * (m.interval + m.timeout)) AS until
FROM unnest($1::uuid[], $2::timestamptz[]) AS g (id, since)
CROSS JOIN LATERAL (SELECT interval, timeout FROM network_monitors WHERE id = g.id LIMIT 1) m
"""


class Parent(NamedTuple):
    """A resource that others depend on, with the name of its kind."""

    id: UUID
    name: str
    type: str

    @property
    def uuid(self) -> str:
        return resources.kinds()[self.type].public(self.id)

    @property
    def page(self) -> str:
        return resources.kinds()[self.type].page(self.id)


@dataclass(frozen=True, slots=True)
class ParentState:
    """How the parents of one resource are, all the way up.

    `explained_by`: those that are down and explain it, not those that are only behind such a one. `asking`: the names
    of those whose verdict may yet explain it, being checked at this moment. `well_since`: when one of them was last
    well again. `rechecked`: it has had its checks since then; if not, it will have had them by `recheck_by`.
    """

    explained_by: tuple[Parent, ...] = ()
    asking: tuple[str, ...] = ()
    well_since: datetime | None = None
    rechecked: bool = True
    recheck_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Node:
    """One resource, and how it is by itself."""

    name: str
    type: str
    depends_on: DependsOn
    well_since: datetime | None
    trouble_since: datetime | None
    down: bool
    active: bool
    last_result_at: datetime | None
    seen_at: datetime | None

    @property
    def since(self) -> datetime | None:
        """Since when it cannot be reached: the time that what its parents last showed is compared with."""
        return self.trouble_since or (self.last_result_at if self.down else None)

    def shown(self, since: datetime | None) -> bool:
        """Whether it has shown itself since then."""
        if self.active:
            return self.last_result_at is not None and not self.asked(since)
        return self.seen_at is not None and since is not None and self.seen_at >= since

    def asked(self, since: datetime | None) -> bool:
        """Whether the verdict of its checks about that time is still to come."""
        if not self.active or self.down or since is None:
            return False
        return self.last_result_at is None or self.last_result_at < since


@dataclass(slots=True)
class _Graph:
    nodes: Mapping[UUID, _Node]
    depends_on: dict[UUID, DependsOn] = field(init=False)
    order: dict[UUID, int] = field(init=False)
    _above: dict[DependsOn, frozenset[UUID]] = field(default_factory=dict)
    _states: dict[tuple[DependsOn, datetime | None, datetime | None], ParentState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.depends_on = {id_: node.depends_on for id_, node in self.nodes.items()}
        near = {each: domain.parents(each) & self.nodes.keys() for each in set(self.depends_on.values())}
        named = frozenset().union(*near.values())
        sorted_ = TopologicalSorter({id_: near[self.depends_on[id_]] for id_ in named}).static_order()
        self.order = {id_: place for place, id_ in enumerate(sorted_)}
        for each in sorted(near, key=lambda each: max((self.order[id_] for id_ in near[each]), default=-1)):
            self._above[each] = near[each].union(*(self._above[self.depends_on[id_]] for id_ in near[each]))

    def state(self, child_id: UUID) -> ParentState:
        """Many have the same parents, and most are in trouble since the same moment."""
        child = self.nodes[child_id]
        same = child.depends_on, child.since, child.well_since
        if same not in self._states:
            self._states[same] = self._state(child_id, child)
        return self._states[same]

    def _state(self, child_id: UUID, child: _Node) -> ParentState:
        since, all_above = child.since, self._above[child.depends_on]
        down: set[UUID] = set()
        possible: set[UUID] = set()
        asking = []
        for id_ in sorted(all_above, key=self.order.__getitem__):
            node = self.nodes[id_]
            if node.down or (not node.shown(since) and domain.explained_by(node.depends_on, down)):
                down.add(id_)
            elif node.asked(since):
                possible.add(id_)
                asking.append(node.name)
            elif not node.shown(since) and domain.explained_by(node.depends_on, down | possible):
                possible.add(id_)
        causes = domain.causes(self.depends_on, down, child_id)
        explained_by = tuple(Parent(id_, self.nodes[id_].name, self.nodes[id_].type) for id_ in causes)
        if explained_by or not domain.explained_by(child.depends_on, down | possible):
            asking = []
        turned = [self.nodes[id_].well_since for id_ in (child_id, *all_above)]
        return ParentState(explained_by, tuple(asking), max(filter(None, turned), default=None))


async def states(tx: Tx, resource_ids: Collection[UUID]) -> dict[UUID, ParentState]:
    """How their parents are, for those of these that have any. Call it after their incidents are stored."""
    rows = await tx.fetch(UPWARDS, list(resource_ids), list(REACHABILITY)) if resource_ids else []
    if not rows:
        return {}
    graph, now = _Graph(_nodes(rows)), rows[0]["now"]
    found = {id_: graph.state(id_) for id_ in resource_ids if id_ in graph.nodes and graph.nodes[id_].depends_on}
    settling = {
        id_: state.well_since
        for id_, state in found.items()
        if not state.explained_by and state.well_since is not None and now - state.well_since < LONG_AGO
    }
    checked = {id_: since for id_, since in settling.items() if graph.nodes[id_].active}
    counted = await _checked_since(tx, checked) if checked else {}
    for id_, since in settling.items():
        rechecked, until = counted.get(id_) or (now >= since + SETTLED, since + SETTLED)
        if not rechecked:
            found[id_] = ParentState((), found[id_].asking, since, rechecked, until)
    return found


async def states_of_failed(tx: Tx, failed: Mapping[UUID, DependsOn]) -> dict[UUID, ParentState]:
    """As `states`, for those whose check has just failed and what each depends on.

    Where that is down by itself, nothing else is asked: not how the many behind it are, nor what it is behind itself.
    """
    parents = frozenset().union(*map(domain.parents, set(failed.values())))
    down = await _down(tx, parents) if parents else {}
    found = {}
    for id_, depends_on in failed.items():
        why = domain.explained_by(depends_on, down.keys())
        if why is not None:
            found[id_] = ParentState(tuple(down[each] for each in why))
    return found | await states(tx, failed.keys() - found.keys())


async def explanations(tx: Tx, resource_ids: Collection[UUID]) -> dict[UUID, tuple[Parent, ...]]:
    """Those of these whose every ongoing incident is explained: they are unreachable, not down; and by what."""
    if not resource_ids:
        return {}
    types = await incidents.ongoing_types(tx, resource_ids)
    found = await states(tx, [id_ for id_, ongoing in types.items() if ongoing and ongoing.keys() <= REACHABILITY])
    return {id_: state.explained_by for id_, state in found.items() if state.explained_by}


async def children_of(tx: Tx, parent_ids: Collection[UUID]) -> dict[UUID, list[tuple[UUID, str]]]:
    """Those that being down of each of these explains, by name: directly, or behind another. All are in the result.

    One that depends on two together counts if the other is down too.
    """
    named = await behind.parents(tx, parent_ids)
    rows = await tx.fetch(DOWNWARDS, named) if named else []
    below = {key(row["id"]): (row["name"], domain.read(row["depends_on"])) for row in rows}
    others = {
        parent
        for _, depends_on in below.values()
        for entry in depends_on if not isinstance(entry, UUID)
        for parent in entry
    }  # fmt: skip
    down = frozenset(await _down(tx, others)) if others else frozenset()
    found: dict[UUID, list[tuple[UUID, str]]] = {}
    for parent_id in parent_ids:
        explained = _explained({id_: depends_on for id_, (_, depends_on) in below.items()}, parent_id, down)
        found[parent_id] = [(id_, name) for id_, (name, _) in below.items() if id_ in explained]
    return found


def _explained(depends_on: Mapping[UUID, DependsOn], parent_id: UUID, down: frozenset[UUID]) -> set[UUID]:
    """Those that are behind this one, given what else is down."""
    named: dict[UUID, list[UUID]] = {}
    for child_id, each in depends_on.items():
        for parent in domain.parents(each):
            named.setdefault(parent, []).append(child_id)
    behind = {parent_id}
    left = [parent_id]
    while left:
        for child_id in named.get(left.pop(), ()):
            why = domain.explained_by(depends_on[child_id], down | behind)
            if child_id not in behind and why and not behind.isdisjoint(why):
                behind.add(child_id)
                left.append(child_id)
    return behind - {parent_id}


async def _down(tx: Tx, ids: Iterable[UUID]) -> dict[UUID, Parent]:
    """Those of these that are down, each by itself."""
    nodes = _nodes(await tx.fetch(ONLY_THESE, list(ids), list(REACHABILITY)))
    return {id_: Parent(id_, node.name, node.type) for id_, node in nodes.items() if node.down}


async def _checked_since(tx: Tx, since: Mapping[UUID, datetime]) -> dict[UUID, tuple[bool, datetime]]:
    rows = await tx.fetch(CHECKED_SINCE, list(since), list(since.values()), CHECKS)
    return {key(row["id"]): (row["checks"] >= CHECKS, row["until"]) for row in rows}


def _nodes(rows: Iterable[Record]) -> dict[UUID, _Node]:
    return {key(row["id"]): _node(row) for row in rows}


def _node(row: Record) -> _Node:
    failing = row["active"] and row["last_problem"] in REACHABILITY
    return _Node(
        name=row["name"],
        type=row["type"],
        depends_on=domain.read(row["depends_on"]),
        well_since=row["well_since"],
        trouble_since=row["trouble_since"],
        down=failing or row["trouble_since"] is not None,
        active=row["active"],
        last_result_at=row["last_result_at"],
        seen_at=row["seen_at"],
    )
