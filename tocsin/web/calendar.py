"""The next two weeks, day by day: what is silenced, who is on duty, and whatever else has a beginning and an end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from tocsin.domain.zones import instant

DAYS = 14
MOST = 6
"""Entries of one day that are shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that lasts from one time to another. `kind` is its CSS class, `href` the page about it."""

    title: str
    kind: str
    starts_at: datetime
    ends_at: datetime
    href: str


@dataclass(frozen=True, slots=True)
class Line:
    """An entry on one day, with its times there: `02:00–04:00`, `until 07:00`, `from 22:00`, `all day`."""

    entry: Entry
    times: str


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the calendar; `more` are left out."""

    date: date
    lines: list[Line]
    more: int


def bounds(zone: str, now: datetime) -> tuple[datetime, datetime]:
    """From the start of today to the end of the last day, in UTC."""
    starts = _starts(zone, now)
    return starts[0], starts[-1]


def two_weeks(entries: Iterable[Entry], zone: str, now: datetime) -> list[Day]:
    """The days from today on, in the reader's zone, each with what is on it, by its beginning."""
    wall, starts = ZoneInfo(zone), _starts(zone, now)
    known = sorted(entries, key=lambda entry: (entry.starts_at, entry.ends_at, entry.title))
    days = []
    for start, end in pairwise(starts):
        here = [entry for entry in known if entry.starts_at < end and entry.ends_at > start]
        lines = [Line(entry, _times(entry, start, end, wall)) for entry in here[:MOST]]
        days.append(Day(start.astimezone(wall).date(), lines, len(here) - len(lines)))
    return days


def _starts(zone: str, now: datetime) -> list[datetime]:
    """The starts of the days, and the end of the last."""
    wall = ZoneInfo(zone)
    today = now.astimezone(wall).date()
    return [instant(datetime.combine(today + timedelta(days=number), time()), wall) for number in range(DAYS + 1)]


def _times(entry: Entry, start: datetime, end: datetime, wall: ZoneInfo) -> str:
    first, last = (f"{at.astimezone(wall):%H:%M}" for at in (entry.starts_at, entry.ends_at))
    if entry.starts_at <= start:
        return "all day" if entry.ends_at >= end else f"until {last}"
    return f"from {first}" if entry.ends_at > end else f"{first}–{'24:00' if entry.ends_at == end else last}"
