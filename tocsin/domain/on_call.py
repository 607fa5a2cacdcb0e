"""On-call schedules: who is on duty at a time, who is next, and where nobody is.

Turns begin at hand-overs: a time of the wall clock in a zone, every day or on one day of the week, never so many
seconds after the last one. A hand-over at a time that does not exist, or exists twice, is when `zones.instant` says.
The turn that lasts at the anchor belongs to the first in the list, each later one to the next. Pure: times are given,
and are in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.domain import zones
from tocsin.domain.recurrences import WEEKDAYS

TYPE = "Integrations::OnCallIntegration"

Rotation = Literal["daily", "weekly", "none"]
ROTATIONS: tuple[Rotation, ...] = ("daily", "weekly", "none")

AHEAD = timedelta(days=14)
"""How far gaps are looked for."""

_HANDOVER = re.compile(r"(?:(MO|TU|WE|TH|FR|SA|SU) )?([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_MARGIN = 2
"""Days; more than the date on a wall clock and the hand-overs that have been can differ by."""


class Override(NamedTuple):
    """An integration is on duty from a time up to, but not including, another, whoever's turn it is."""

    integration: UUID
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """Who is on duty when. `handover` is such as `MO 09:00`, or `09:00` where the rotation is daily.

    Of overrides at the same time, the last one counts. Where the rotation is `none`, the first is always on duty.
    """

    timezone: str
    rotation: Rotation
    handover: str | None
    integrations: tuple[UUID, ...]
    anchor: datetime
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True)
class DutySpan:
    """An integration is on duty from a time up to, but not including, another. `override`: it is not its turn."""

    integration: UUID
    starts_at: datetime
    ends_at: datetime
    override: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which `integration` is on duty but cannot be sent to; None: nobody is on duty."""

    integration: UUID | None
    starts_at: datetime
    ends_at: datetime


@lru_cache(maxsize=256)
def handover_of(text: str) -> tuple[int | None, time] | None:
    """The day of the week, if there is one (0 is Monday), and the time on the clock; None where it is neither."""
    match = _HANDOVER.fullmatch(text)
    if match is None:
        return None
    return WEEKDAYS[match[1]] if match[1] else None, time(int(match[2]), int(match[3]))


def on_duty(schedule: Schedule, at: datetime) -> UUID | None:
    """Who is on duty at that time. None if nobody is in the list and nobody has taken over."""
    override = _override(schedule.overrides, at)
    return override.integration if override is not None else _whose_turn(schedule, at)


def order(schedule: Schedule, at: datetime) -> list[UUID]:
    """Who is tried at that time: whoever is on duty, then the next in the list, once each.

    Whoever somebody else has taken over from comes last.
    """
    override = _override(schedule.overrides, at)
    members = list(dict.fromkeys(schedule.integrations))
    turn = _whose_turn(schedule, at)
    if turn is not None:
        place = members.index(turn)
        members = members[place:] + members[:place]
    if override is None:
        return members
    rest = [*members[1:], *members[:1]]
    return [override.integration, *(each for each in rest if each != override.integration)]


def spans(schedule: Schedule, start: datetime, end: datetime) -> list[DutySpan]:
    """Who is on duty in [start, end), in order: a span for each turn and for each override, cut at `start` and `end`.

    Times at which nobody is on duty are left out.
    """
    return [
        DutySpan(whose, begins, ends, override is not None)
        for whose, override, begins, ends in _pieces(schedule, start, end)
        if whose is not None
    ]


def gaps(schedule: Schedule, start: datetime, end: datetime, usable: Collection[UUID]) -> list[Gap]:
    """Where in [start, end) nobody is on duty who is one of `usable`, in order: a gap for each one on duty."""
    found: list[Gap] = []
    for whose, _, begins, ends in _pieces(schedule, start, end):
        if whose is not None and whose in usable:
            continue
        if found and found[-1].integration == whose and found[-1].ends_at == begins:
            found[-1] = replace(found[-1], ends_at=ends)
        else:
            found.append(Gap(whose, begins, ends))
    return found


def next_handover(schedule: Schedule, at: datetime) -> datetime | None:
    """The next time at which who is on duty may change, by turn or by override; None: it stays as it is."""
    edges = [edge for each in schedule.overrides for edge in each[1:] if edge > at]
    if len(set(schedule.integrations)) > 1 and (turn := _next_turn(schedule, at)) is not None:
        edges.append(turn)
    return min(edges, default=None)


def began(schedule: Schedule, at: datetime) -> datetime:
    """When the present turn, or the present override, began: the last time at which who is on duty may have changed."""
    edges = [edge for each in schedule.overrides for edge in each[1:] if edge <= at]
    turn = _turn(schedule, at)
    edges.append(min(schedule.anchor, at) if turn is None else _handover(schedule, turn))
    return max(edges)


def anchored(schedule: Schedule, first: UUID | None, at: datetime) -> datetime:
    """The anchor with which the turn that lasts at that time belongs to `first`; to the first, if it is not a member.

    So that a list can be changed without a change of who is on duty.
    """
    turn = _turn(schedule, at)
    if turn is None or first not in schedule.integrations:
        return at
    place = schedule.integrations.index(first)
    return _handover(schedule, turn - place) if place else at


def _pieces(
    schedule: Schedule, start: datetime, end: datetime
) -> Iterator[tuple[UUID | None, Override | None, datetime, datetime]]:
    """[start, end), cut where who is on duty may change; the pieces of one override are one."""
    if start >= end:
        return
    turns = list(_turns(schedule, start, end))
    edges = {edge for each in schedule.overrides for edge in each[1:] if start < edge < end}
    cuts = sorted({start, *turns, *edges})
    begins, current = start, _override(schedule.overrides, start)
    for cut in cuts[1:]:
        override = _override(schedule.overrides, cut)
        if override is not current or override is None:
            yield _who(schedule, current, begins), current, begins, cut
            begins, current = cut, override
    yield _who(schedule, current, begins), current, begins, end


def _who(schedule: Schedule, override: Override | None, at: datetime) -> UUID | None:
    return override.integration if override is not None else _whose_turn(schedule, at)


def _override(overrides: Sequence[Override], at: datetime) -> Override | None:
    for each in reversed(overrides):
        if each[1] <= at < each[2]:
            return each
    return None


def _whose_turn(schedule: Schedule, at: datetime) -> UUID | None:
    members = schedule.integrations
    if not members:
        return None
    turn = _turn(schedule, at)
    if turn is None:
        return members[0]
    first = _turn(schedule, schedule.anchor)
    assert first is not None
    return members[(turn - first) % len(members)]


def _turns(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """The hand-overs in [start, end)."""
    turn = _turn(schedule, start)
    if turn is None:
        return
    while (at := _handover(schedule, turn)) < end:
        if at >= start:
            yield at
        turn += 1


def _next_turn(schedule: Schedule, at: datetime) -> datetime | None:
    turn = _turn(schedule, at)
    return None if turn is None else _handover(schedule, turn + 1)


def _turn(schedule: Schedule, at: datetime) -> int | None:
    """The number of the turn that lasts at that time; None: there is no rotation."""
    if schedule.rotation == "none":
        return None
    today = at.astimezone(ZoneInfo(schedule.timezone)).date().toordinal()
    turn = (today + _MARGIN) if schedule.rotation == "daily" else (today + _MARGIN) // 7 + 1
    while _handover(schedule, turn) > at:
        turn -= 1
    return turn


def _handover(schedule: Schedule, turn: int) -> datetime:
    """When a turn begins: on day `turn` of the calendar, or in its week of that number."""
    assert schedule.handover is not None
    parsed = handover_of(schedule.handover)
    assert parsed is not None, schedule.handover
    weekday, clock = parsed
    if schedule.rotation == "weekly":
        turn = turn * 7 + 1 + (weekday or 0)  # day 1 of the calendar is a Monday
    return zones.instant(datetime.combine(date.fromordinal(turn), clock), ZoneInfo(schedule.timezone))
