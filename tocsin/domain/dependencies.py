"""Dependencies: which resources explain that another cannot be reached. Pure.

`depends_on` is a list of which any that is down explains its owner; an inner list explains it only while all of its
members are down (two uplinks): `["NM1", ["NM2", "NM3"]]`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from functools import lru_cache
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.resources import base as resources

FIELD = "depends_on"
MAX_PARENTS, MAX_TOGETHER = 20, 10
"""Most entries of the list, and of an inner list."""
MAX_LEVELS = 10
"""Most resources one behind the other."""

REACHABILITY = frozenset({"downtime", "connection_error", "timeout", "dns_error", "packet_loss", "missed"})
"""Types of incident that a parent explains, and that make a parent count as down. All else is the resource's own."""

DependsOn = tuple[UUID | tuple[UUID, ...], ...]
Written = list[str | list[str]]
"""`depends_on` as callers write it and as it is stored: with public identifiers."""


def parse(given: object, itself: UUID | None = None) -> Written:
    """The caller's `depends_on`; null is none. An inner list of one stands for its member.

    Raises `Refused` (422) naming the place: `depends_on[2][0]`.
    """
    if given is None:
        return []
    if not isinstance(given, list):
        raise invalid_field(FIELD, "must be a list of identifiers, or of lists of these")
    if len(given) > MAX_PARENTS:
        raise invalid_field(FIELD, f"may have at most {MAX_PARENTS} entries")
    parsed: Written = []
    for place, each in enumerate(given):
        parsed.append(_entry(f"{FIELD}[{place}]", each, itself))
    known: set[frozenset[str]] = set()
    for place, entry in enumerate(parsed):
        members = frozenset([entry] if isinstance(entry, str) else entry)
        if members in known:
            raise invalid_field(f"{FIELD}[{place}]", "is in the list already")
        known.add(members)
    return parsed


def read(written: Sequence[str | Sequence[str]]) -> DependsOn:
    """The keys behind what was parsed or stored."""
    return tuple(_key(each) if isinstance(each, str) else tuple(map(_key, each)) for each in written)


def parents(depends_on: DependsOn) -> frozenset[UUID]:
    """All that are named, in whatever list."""
    return frozenset(parent for entry in depends_on for parent in _members(entry))


def without(written: Written, gone: str) -> Written:
    """The list after one of its members was deleted: no inner list of one or none is left, and nothing twice."""
    left: Written = []
    for each in written:
        members = [name for name in ([each] if isinstance(each, str) else each) if name != gone]
        entry = members[0] if len(members) == 1 else members
        if members and entry not in left:
            left.append(entry)
    return left


def explained_by(depends_on: DependsOn, down: Set[UUID]) -> tuple[UUID, ...] | None:
    """The parents that explain the owner of this list, in its order; None where what is down explains nothing."""
    found: dict[UUID, None] = {}
    for entry in depends_on:
        members = _members(entry)
        if all(member in down for member in members):
            found.update(dict.fromkeys(members))
    return tuple(found) or None


def causes(graph: Mapping[UUID, DependsOn], down: Set[UUID], owner: UUID) -> tuple[UUID, ...]:
    """Those that explain the owner and are not themselves explained by another: the router, not the switch behind it.

    `down` holds all that count as down, those that are only behind one included.
    """
    found: dict[UUID, None] = {}
    looked: set[UUID] = set()
    left = list(explained_by(graph.get(owner, ()), down) or ())
    while left:
        parent = left.pop(0)
        if parent in looked:
            continue
        looked.add(parent)
        behind = explained_by(graph.get(parent, ()), down)
        if behind is None:
            found[parent] = None
        else:
            left += behind
    return tuple(found)


def circle(graph: Mapping[UUID, Collection[UUID]], start: UUID) -> tuple[UUID, ...] | None:
    """The shortest way from `start` through its parents back to it, both ends named; None where there is none."""
    came_from: dict[UUID, UUID] = {}
    level = [start]
    while level:
        following = []
        for child in level:
            for parent in graph.get(child, ()):
                if parent == start:
                    return _way(came_from, start, child)
                if parent not in came_from:
                    came_from[parent] = child
                    following.append(parent)
        level = following
    return None


def circular(names: Iterable[str]) -> Refused:
    """422 that names the circle."""
    return invalid_field(FIELD, f"would make a circle: {' → '.join(names)}")


def _way(came_from: Mapping[UUID, UUID], start: UUID, last: UUID) -> tuple[UUID, ...]:
    way = [start, last] if last != start else [start]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    if len(way) == 1:
        way.append(start)
    return tuple(reversed(way))


def _entry(field: str, given: object, itself: UUID | None) -> str | list[str]:
    if not isinstance(given, list):
        return _name(field, given, itself)
    if not 1 <= len(given) <= MAX_TOGETHER:
        raise invalid_field(field, f"must have from 1 to {MAX_TOGETHER} members")
    members = [_name(f"{field}[{place}]", each, itself) for place, each in enumerate(given)]
    if len(set(members)) < len(members):
        raise invalid_field(field, "names one of them twice")
    return members[0] if len(members) == 1 else members


def _name(field: str, given: object, itself: UUID | None) -> str:
    if not isinstance(given, str) or (key := _parsed(given)) is None:
        raise invalid_field(field, "must be the identifier of a resource of this project")
    if key == itself:
        raise circular((given, given))
    return given


@lru_cache(maxsize=4_096)  # the same few parents are named by many
def _parsed(name: str) -> UUID | None:
    keys = (ids.parse(kind.prefix, name) for kind in resources.kinds().values())
    return next((key for key in keys if key is not None), None)


def _key(name: str) -> UUID:
    key = _parsed(name)
    assert key is not None, name
    return key


def _members(entry: UUID | tuple[UUID, ...]) -> tuple[UUID, ...]:
    return (entry,) if isinstance(entry, UUID) else entry
