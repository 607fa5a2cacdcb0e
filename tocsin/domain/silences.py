"""Silences: spans of time in which nobody in their scope is notified.

A silence is one span, or a rule of RFC 5545 whose spans begin at wall-clock times in a zone and each last so many real
seconds. Its `starts_at` is the first time that counts, and a span only if the rule says so. Its `ends_at` ends it:
nothing begins then or later, and a span that lasts is cut short. Pure: `now` is given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.domain import recurrences, zones
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import at_least
from tocsin.domain.recurrences import Unusable

State = Literal["planned", "active", "ended"]

FIRST_YEAR, LAST_YEAR = 2000, 2100
MIN_DURATION, MAX_DURATION = 60, 31 * 86_400
"""Seconds of a recurring span."""
MAX_SPANS_A_YEAR = 1_000
YEAR = timedelta(days=366)
AHEAD = 5 * YEAR
"""How far to look for the next span."""
MARGIN = timedelta(days=1)
"""More than the difference between a wall clock and UTC can change at once."""
FIRST_LOOK, FURTHER = timedelta(days=32), 4


@dataclass(frozen=True, slots=True)
class Recurring:
    """A rule of RFC 5545 in the wall-clock times of a zone; each span lasts `duration` seconds."""

    rrule: str
    duration: int
    timezone: str


@dataclass(frozen=True, slots=True)
class Rule:
    """When a silence is. Without recurrence it has an end."""

    starts_at: datetime
    ends_at: datetime | None
    recurrence: Recurring | None = None


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From a time in UTC up to, but not including, another."""

    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class ScopedSpan:
    """One span of a silence that includes a resource, and what else it is limited to; None: not limited.

    `severity` is the worst that it silences; `timezone` is in whose wall-clock times people think of it.
    """

    silence_id: UUID
    name: str
    starts_at: datetime
    ends_at: datetime
    integrations: frozenset[UUID] | None = None
    incident_types: frozenset[str] | None = None
    severity: str | None = None
    timezone: str = "UTC"

    def silences(self, integration_id: UUID, incident_type: str, severity: str) -> bool:
        """Whether this integration is not told, while the span lasts, of an incident of this type and severity."""
        return (
            _includes(self.integrations, integration_id)
            and _includes(self.incident_types, incident_type)
            and (self.severity is None or at_least(self.severity, severity))
        )


def _includes(limited: Collection[object] | None, one: object) -> bool:
    return limited is None or one in limited


def check(rule: Rule) -> Span:
    """Its first span. Raises `Refused` (422), naming the field that cannot be accepted."""
    for name, at in (("starts_at", rule.starts_at), ("ends_at", rule.ends_at)):
        if at is not None and not FIRST_YEAR <= at.year < LAST_YEAR:
            raise invalid_field(name, f"must be a time between {FIRST_YEAR} and {LAST_YEAR}")
    if rule.ends_at is not None and rule.ends_at <= rule.starts_at:
        raise invalid_field("ends_at", "must be after starts_at")
    if rule.recurrence is None:
        if rule.ends_at is None:
            raise invalid_field("ends_at", "is required where there is no recurrence")
        return Span(rule.starts_at, rule.ends_at)
    return _checked_recurrence(rule, rule.recurrence)


def _checked_recurrence(rule: Rule, recurrence: Recurring) -> Span:
    zone = ZoneInfo(zones.checked(recurrence.timezone, "recurrence.timezone"))
    if not MIN_DURATION <= recurrence.duration <= MAX_DURATION:
        raise invalid_field("recurrence.duration", f"must be {MIN_DURATION} to {MAX_DURATION:,} seconds")
    try:
        parsed = recurrences.parsed(recurrence.rrule)
    except Unusable as error:
        raise invalid_field("recurrence.rrule", str(error)) from None
    first = zones.wall_clock(rule.starts_at, zone)
    begins = [first]
    if parsed.frequency == recurrences.FREQUENCIES["YEARLY"]:  # its first year may be nearly over
        begins.append(datetime(first.year + min(parsed.interval, 50), 1, 1))  # noqa: DTZ001  (a wall-clock time)
    for begin in begins:
        times = recurrences.occurrences(parsed, zone, first, begin, begin + YEAR)
        found = [*islice(times, MAX_SPANS_A_YEAR + 1)]
        if len(found) > MAX_SPANS_A_YEAR:
            raise invalid_field("recurrence.rrule", f"must not happen more than {MAX_SPANS_A_YEAR:,} times a year")
        if any((after - before).total_seconds() < recurrence.duration for before, after in pairwise(found)):
            raise invalid_field("recurrence.duration", "must not be longer than the time from one span to the next")
    if parsed.count is not None and len(recurrences.counted(parsed, first)) < parsed.count:
        raise invalid_field("recurrence.rrule", "must have happened COUNT times in five years; UNTIL has no such limit")
    coming = next_spans(rule, rule.starts_at, 1)
    if not coming:
        raise invalid_field("recurrence.rrule", "never happens, from starts_at, in the five years that follow")
    return coming[0]


def spans(rule: Rule, start: datetime, end: datetime) -> list[Span]:
    """Every span that overlaps [start, end), in order. All times are in UTC.

    Times of the wall clock that do not exist, or exist twice, are read as `zones.instant` says. Where clocks change,
    two spans may overlap, and two that would begin at the same moment are one.
    """
    if rule.recurrence is None:
        assert rule.ends_at is not None
        if rule.ends_at <= rule.starts_at:  # it was ended before it began
            return []
        return [Span(rule.starts_at, rule.ends_at)] if rule.starts_at < end and rule.ends_at > start else []
    zone, duration = ZoneInfo(rule.recurrence.timezone), timedelta(seconds=rule.recurrence.duration)
    until = end if rule.ends_at is None else min(end, rule.ends_at)
    begin = max(start - duration, rule.starts_at) if start > rule.starts_at else rule.starts_at
    if begin >= until:
        return []
    first = zones.wall_clock(rule.starts_at, zone)
    times = recurrences.occurrences(
        recurrences.parsed(rule.recurrence.rrule), zone, first,
        zones.wall_clock(begin, zone) - MARGIN, zones.wall_clock(until, zone) + MARGIN,
    )  # fmt: skip
    beginnings = {zones.instant(each, zone) for each in times}
    found = [Span(at, _end(at + duration, rule)) for at in sorted(beginnings) if rule.starts_at <= at < until]
    return [each for each in found if each.ends_at > start]


def _end(at: datetime, rule: Rule) -> datetime:
    return at if rule.ends_at is None else min(at, rule.ends_at)


def next_spans(rule: Rule, now: datetime, count: int = 5) -> list[Span]:
    """The next spans that are not over at `now`, the one that lasts included, if they begin within five years."""
    found: list[Span] = []
    start, look = max(now, rule.starts_at), FIRST_LOOK
    limit = start + AHEAD
    while start < limit and len(found) < count:
        end = min(start + look, limit)
        found += [each for each in spans(rule, start, end) if not found or each.starts_at > found[-1].starts_at]
        start, look = end, look * FURTHER
    return found[:count]


def state(rule: Rule, now: datetime) -> State:
    """`active` while a span lasts, `planned` while one is still to come, then `ended`."""
    coming = next_spans(rule, now, 1)
    if not coming:
        return "ended"
    return "active" if coming[0].starts_at <= now else "planned"
