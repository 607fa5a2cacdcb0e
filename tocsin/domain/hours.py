"""Hours of the week in which an integration is notified, by the clock on the wall of a zone. Pure: the time is given.

It is within hours whenever that clock says so: an hour that exists twice counts twice, one that does not exist not at
all. Hours over midnight belong to the day on which they begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.domain import zones
from tocsin.domain.errors import invalid_field
from tocsin.domain.recurrences import WEEKDAYS

FIELDS = frozenset({"timezone", "days", "from", "to"})
DAY = 24 * 60
"""Minutes."""
LOOK = 15
"""Days in which hours begin at least once, whatever the clocks do."""

_NAMES = tuple(WEEKDAYS)
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)
_DAYS = re.compile(r"(MO|TU|WE|TH|FR|SA|SU)(?:-(MO|TU|WE|TH|FR|SA|SU))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hours:
    """On these days of the week (0 is Monday), from a minute of the day up to another, which may be of the next day."""

    timezone: str
    days: frozenset[int]
    start: int
    end: int


def parse(value: object, field: str) -> Hours:
    """`{"timezone": "Europe/Vienna", "days": "MO-FR,SU", "from": "08:00", "to": "20:00"}`.

    Raises `Refused` (422) naming `field`, or what below it is wrong.
    """
    if not isinstance(value, dict) or value.keys() != FIELDS or not all(isinstance(v, str) for v in value.values()):
        raise invalid_field(field, 'must have "timezone", "days", "from" and "to", each of them text')
    timezone = zones.checked(value["timezone"], f"{field}.timezone")
    days = _days(value["days"], f"{field}.days")
    start, end = _minute(value["from"], f"{field}.from"), _minute(value["to"], f"{field}.to")
    if start == DAY:
        raise invalid_field(f"{field}.from", "must be a time such as 08:00; 24:00 is an end")
    if start == end:
        raise invalid_field(f"{field}.to", "must differ from the beginning; a whole day is from 00:00 to 24:00")
    return Hours(timezone, days, start, end)


def shown(hours: Hours) -> dict[str, str]:
    """As `parse` takes it, in its shortest form."""
    return {
        "timezone": hours.timezone, "days": _ranges(hours.days), "from": _clock(hours.start), "to": _clock(hours.end)
    }  # fmt: skip


def is_open(hours: Hours, at: datetime) -> bool:
    """Whether that time is within hours."""
    clock = at.astimezone(ZoneInfo(hours.timezone))
    day, minute = clock.weekday(), clock.hour * 60 + clock.minute
    if hours.start < hours.end:
        return day in hours.days and hours.start <= minute < hours.end
    return (day in hours.days and minute >= hours.start) or ((day - 1) % 7 in hours.days and minute < hours.end)


def next_open(hours: Hours, at: datetime) -> datetime:
    """`at` itself where it is within hours, otherwise when they next begin, in UTC."""
    if is_open(hours, at):
        return at
    return min(each for each in _beginnings(hours, at) if each > at and is_open(hours, each))


def _beginnings(hours: Hours, at: datetime) -> Iterator[datetime]:
    """The times at which hours may begin: when the clock shows their beginning, and when clocks change."""
    zone = ZoneInfo(hours.timezone)
    today = at.astimezone(zone).date()
    midnight = datetime(today.year, today.month, today.day)  # noqa: DTZ001  (a wall-clock time)
    for number in range(LOOK):
        begin = (midnight + timedelta(days=number, minutes=hours.start)).replace(tzinfo=zone)
        for fold in (0, 1):
            yield begin.replace(fold=fold).astimezone(UTC)
    before = at.astimezone(UTC).replace(second=0, microsecond=0)
    for _ in range(LOOK):
        after = before + timedelta(days=1)
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            yield _change(zone, before, after)
        before = after


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The minute at which the clocks of a zone change between the two times."""
    old = before.astimezone(zone).utcoffset()
    first, last = 0, int((after - before).total_seconds() // 60)
    while last - first > 1:
        middle = (first + last) // 2
        if (before + timedelta(minutes=middle)).astimezone(zone).utcoffset() == old:
            first = middle
        else:
            last = middle
    return before + timedelta(minutes=last)


def _minute(text: str, field: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise invalid_field(field, "must be a time such as 08:00 or 20:30")
    return DAY if match[1] is None else int(match[1]) * 60 + int(match[2])


def _days(text: str, field: str) -> frozenset[int]:
    found: set[int] = set()
    parts = text.upper().split(",") if len(text) <= 60 else [""]
    for part in parts:
        match = _DAYS.fullmatch(part.strip())
        if match is None:
            raise invalid_field(field, "must be days such as MO-FR or MO,WE,SA-SU")
        first = WEEKDAYS[match[1]]
        last = WEEKDAYS[match[2] or match[1]]
        found.update((first + more) % 7 for more in range((last - first) % 7 + 1))
    return frozenset(found)


def _ranges(days: frozenset[int]) -> str:
    """`MO-FR,SU`; a range may go over the end of the week."""
    if len(days) == 7:
        return "MO-SU"
    parts = []
    for day in sorted(days):
        if (day - 1) % 7 in days:
            continue
        last = day
        while (last + 1) % 7 in days:
            last = (last + 1) % 7
        parts.append(_NAMES[day] if last == day else f"{_NAMES[day]}-{_NAMES[last]}")
    return ",".join(parts)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
