"""Recurrence rules of RFC 5545 (3.3.10), in wall-clock times, with a bound on the work that a rule can cause.

`dateutil` knows when a rule happens, but it searches to the year 9999 where it does not, and counts from the first
time on. Here the values of a rule are checked before it sees them, it begins at the period that is asked for, and its
interval counts the periods, so that it ends with the last of them. A rule with COUNT must have come to its end in five
years. HOURLY has no days, months or positions: DAILY with BYHOUR says the same, in a twentieth of the steps.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

from dateutil import rrule

from tocsin.domain import zones

MAX_LENGTH = 500
"""Characters of a rule."""
MAX_COUNT = 1_000
COUNT_WITHIN = timedelta(days=5 * 366)
MAX_INTERVAL = 1_000
MAX_POSITIONS = 31
MAX_TIMES = 1_000
"""Times of one day."""
EARLIEST, LATEST = datetime(1970, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001  (wall-clock times)

Frequency = Literal[0, 1, 2, 3, 4]
FREQUENCIES: dict[str, Frequency] = {
    "YEARLY": rrule.YEARLY, "MONTHLY": rrule.MONTHLY, "WEEKLY": rrule.WEEKLY, "DAILY": rrule.DAILY,
    "HOURLY": rrule.HOURLY,
}  # fmt: skip
WEEKDAYS = {each: number for number, each in enumerate(("MO", "TU", "WE", "TH", "FR", "SA", "SU"))}

_NUMBERS = {
    "BYSECOND": (0, 59), "BYMINUTE": (0, 59), "BYHOUR": (0, 23), "BYMONTHDAY": (1, 31), "BYYEARDAY": (1, 366),
    "BYWEEKNO": (1, 53), "BYMONTH": (1, 12), "BYSETPOS": (1, 366),
}  # fmt: skip
_FROM_THE_END = frozenset({"BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYSETPOS"})
_TIME_PARTS = {"BYHOUR", "BYMINUTE", "BYSECOND"}
_DAY_PARTS = ("BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY")
_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,4}", re.ASCII)
_UNTIL = re.compile(r"\d{8}(?:T\d{6}Z?)?", re.ASCII)


class Unusable(ValueError):
    """A rule that cannot be used, and why, as the end of a sentence that begins with the field's name."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule that was checked. `until` is the last wall-clock time that counts, or a time in UTC."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    week_start: int = 0
    by: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Its BY… parts; days are pairs of weekday and number, 0 where each of them is meant."""

    def last(self, zone: ZoneInfo) -> datetime:
        """The last wall-clock time at which it can happen."""
        if self.until is None:
            return LATEST
        return self.until if self.until.tzinfo is None else zones.wall_clock(self.until, zone)


@lru_cache(maxsize=1024)
def parsed(text: str) -> Recurrence:
    """The rule that `text` writes. Raises `Unusable`."""
    if len(text) > MAX_LENGTH:
        raise Unusable(f"must have at most {MAX_LENGTH} characters")
    parts: dict[str, str] = {}
    for part in text.upper().removeprefix("RRULE:").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise Unusable("must be a rule as in RFC 5545, such as FREQ=WEEKLY;BYDAY=SU")
        if name in parts:
            raise Unusable(f"must have {name} once only")
        parts[name] = value
    return _checked(parts)


def _checked(parts: dict[str, str]) -> Recurrence:
    frequency = parts.pop("FREQ", "")
    if frequency in ("SECONDLY", "MINUTELY"):
        raise Unusable(f"must not be {frequency}: HOURLY is the most")
    if frequency not in FREQUENCIES:
        raise Unusable(f"must begin with FREQ= and one of {', '.join(FREQUENCIES)}")
    interval = _number("INTERVAL", parts.pop("INTERVAL", "1"), 1, MAX_INTERVAL)
    count = _number("COUNT", parts.pop("COUNT"), 1, MAX_COUNT) if "COUNT" in parts else None
    if count is not None and "UNTIL" in parts:
        raise Unusable("must have COUNT or UNTIL, not both")
    until = _until(parts.pop("UNTIL")) if "UNTIL" in parts else None
    start = parts.pop("WKST", "MO")
    if start not in WEEKDAYS:
        raise Unusable("must have a day such as MO in WKST")
    by: dict[str, tuple[Any, ...]] = {}
    for name, value in parts.items():
        if name == "BYDAY":
            by[name] = _days(value)
        elif name in _NUMBERS:
            by[name] = _numbers(name, value)
        else:
            raise Unusable(f"must not have {name[:20] or 'a part without name'}: RFC 5545 knows no such part")
    _check_together(frequency, by)
    if frequency == "HOURLY" and interval == 1 and "BYHOUR" in by:
        frequency = "DAILY"  # the same times, without a look at all other hours
    return Recurrence(FREQUENCIES[frequency], interval, count, until, WEEKDAYS[start], tuple(by.items()))


def _check_together(frequency: str, by: Mapping[str, tuple[Any, ...]]) -> None:
    """What the RFC forbids together, and what would be too much work."""
    if "BYWEEKNO" in by and frequency != "YEARLY":
        raise Unusable("must have BYWEEKNO with FREQ=YEARLY only")
    if frequency == "HOURLY" and by.keys() - _TIME_PARTS:
        raise Unusable("must be DAILY with BYHOUR rather than HOURLY with days, months or positions")
    if "BYYEARDAY" in by and frequency != "YEARLY":
        raise Unusable("must have BYYEARDAY with FREQ=YEARLY only")
    if "BYMONTHDAY" in by and frequency == "WEEKLY":
        raise Unusable("must not have BYMONTHDAY with FREQ=WEEKLY")
    if any(number for _, number in by.get("BYDAY", ())):
        if frequency not in ("MONTHLY", "YEARLY"):
            raise Unusable("must have days with numbers, such as 1MO, with FREQ=MONTHLY or YEARLY only")
        if "BYWEEKNO" in by:
            raise Unusable("must not have days with numbers, such as 1MO, with BYWEEKNO")
    if "BYSETPOS" in by:
        if len(by) == 1:
            raise Unusable("must have another BY… part beside BYSETPOS")
        if len(by["BYSETPOS"]) > MAX_POSITIONS:
            raise Unusable(f"must have at most {MAX_POSITIONS} positions in BYSETPOS")
    times = len(by.get("BYHOUR", "1")) * len(by.get("BYMINUTE", "1")) * len(by.get("BYSECOND", "1"))
    if times > MAX_TIMES:
        raise Unusable(f"must not happen more than {MAX_TIMES:,} times a day")


def _number(name: str, value: str, least: int, most: int, *, negative: bool = False) -> int:
    number = int(value) if _NUMBER.fullmatch(value) else None
    if number is None or not least <= (abs(number) if negative else number) <= most:
        raise Unusable(f"must have {name} from {least} to {most}{' (or counted from the end: -1)' if negative else ''}")
    return number


def _numbers(name: str, value: str) -> tuple[int, ...]:
    least, most = _NUMBERS[name]
    found = {_number(name, each, least, most, negative=name in _FROM_THE_END) for each in value.split(",")}
    return tuple(sorted(found))


def _days(value: str) -> tuple[tuple[int, int], ...]:
    """Days of the week, each with its number (-1: the last one), or 0 for each of them."""
    found = set()
    for each in value.split(","):
        match = _DAY.fullmatch(each)
        number = int(match[1] or 0) if match else 0
        if match is None or abs(number) > 53 or (match[1] and not number):
            raise Unusable("must have days in BYDAY, such as MO,TU or 1SU or -1FR")
        found.add((WEEKDAYS[match[2]], number))
    return tuple(sorted(found))


def _until(value: str) -> datetime:
    moment = None
    if _UNTIL.fullmatch(value):
        try:
            moment = datetime.strptime(value[:15], "%Y%m%dT%H%M%S" if "T" in value else "%Y%m%d")  # noqa: DTZ007
        except ValueError:
            moment = None
    if moment is None or not EARLIEST < moment < LATEST - timedelta(days=2):
        raise Unusable("must have a time in UNTIL such as 20301231T235959Z")
    if "T" not in value:
        return datetime.combine(moment, time(23, 59, 59))
    return moment.replace(tzinfo=UTC) if value.endswith("Z") else moment


class _Beyond(Exception):
    """The last period that matters is over."""


class _Periods(int):
    """An interval that counts how often it is added to the start of a period, and raises `_Beyond` in the end."""

    left: int

    def __radd__(self, other: int) -> int:
        self._count()
        return other + int(self)

    def __mul__(self, other: int) -> int:  # weeks are added as seven days
        self._count()
        return int(self) * other

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Beyond


def occurrences(
    recurrence: Recurrence, zone: ZoneInfo, first: datetime, start: datetime, end: datetime
) -> Iterator[datetime]:
    """When it happens in [start, end), in order: wall-clock times, as are `first`, from which on it counts, and the
    other two. `first` itself is one of them only if the rule says so.
    """
    last = recurrence.last(zone)
    start, end = max(start, first), min(end, last + timedelta(seconds=1), LATEST)
    if start >= end:
        return
    if recurrence.count is None:
        yield from _search(recurrence, first, _period(recurrence, first, start), start, end)
    else:
        times = counted(recurrence, first)
        yield from times[bisect_left(times, start) : bisect_left(times, end)]


@lru_cache(maxsize=64)
def counted(recurrence: Recurrence, first: datetime) -> tuple[datetime, ...]:
    """All wall-clock times of a rule with COUNT; fewer than that where they do not come within five years."""
    return tuple(_search(recurrence, first, first, first, min(first + COUNT_WITHIN, LATEST)))


def _search(
    recurrence: Recurrence, first: datetime, begin: datetime, start: datetime, end: datetime
) -> Iterator[datetime]:
    """The times in [start, end) of a rule that is asked from `begin` on."""
    interval = _Periods(recurrence.interval)
    interval.left = _periods_between(recurrence, begin, end) // recurrence.interval + 1
    try:
        for each in _rule(recurrence, interval, first, begin):
            if each >= end:
                return
            if each >= start:
                yield each
    except (_Beyond, ValueError):  # a ValueError: hours that its interval never meets
        return


def _rule(recurrence: Recurrence, interval: int, first: datetime, begin: datetime) -> rrule.rrule:
    """What it takes from its first time by default is spelled out, since it may begin later."""
    by, frequency = dict(recurrence.by), recurrence.frequency
    if not by.keys() & set(_DAY_PARTS):
        if frequency == rrule.YEARLY:
            by.setdefault("BYMONTH", (first.month,))
        if frequency in (rrule.YEARLY, rrule.MONTHLY):
            by["BYMONTHDAY"] = (first.day,)
        if frequency == rrule.WEEKLY:
            by["BYDAY"] = ((first.weekday(), 0),)
    if frequency != rrule.HOURLY:
        by.setdefault("BYHOUR", (first.hour,))
    by.setdefault("BYMINUTE", (first.minute,))
    by.setdefault("BYSECOND", (first.second,))
    return rrule.rrule(
        frequency, dtstart=begin, interval=interval, wkst=recurrence.week_start, count=recurrence.count,
        bysetpos=by.get("BYSETPOS"), bymonth=by.get("BYMONTH"), bymonthday=by.get("BYMONTHDAY"),
        byyearday=by.get("BYYEARDAY"), byweekno=by.get("BYWEEKNO"),
        byweekday=[rrule.weekday(day, number or None) for day, number in by["BYDAY"]] if "BYDAY" in by else None,
        byhour=by.get("BYHOUR"), byminute=by["BYMINUTE"], bysecond=by["BYSECOND"],
    )  # fmt: skip


def _period(recurrence: Recurrence, first: datetime, start: datetime) -> datetime:
    """The start of the period that `start` is in, or of the last one before it, counted from that of `first`."""
    frequency, interval = recurrence.frequency, recurrence.interval
    if frequency == rrule.HOURLY:
        begin = first.replace(minute=0, second=0, microsecond=0)
    else:
        begin = datetime.combine(first, time())
    if frequency == rrule.YEARLY:
        begin = begin.replace(month=1, day=1)
    elif frequency == rrule.MONTHLY:
        begin = begin.replace(day=1)
    elif frequency == rrule.WEEKLY:
        begin -= timedelta(days=(begin.weekday() - recurrence.week_start) % 7)
    passed = max(0, _periods_between(recurrence, begin, start)) // interval * interval
    if frequency in (rrule.YEARLY, rrule.MONTHLY):
        months = begin.year * 12 + begin.month - 1 + passed * (12 if frequency == rrule.YEARLY else 1)
        return begin.replace(year=months // 12, month=months % 12 + 1)
    return begin + passed * _length(frequency)


def _periods_between(recurrence: Recurrence, begin: datetime, at: datetime) -> int:
    """How many periods of one year, month … begin after `begin` until `at`, never too few."""
    frequency = recurrence.frequency
    if frequency == rrule.YEARLY:
        return at.year - begin.year
    if frequency == rrule.MONTHLY:
        return (at.year - begin.year) * 12 + at.month - begin.month
    return (at - begin) // _length(frequency)


def _length(frequency: Frequency) -> timedelta:
    return timedelta(days=7) if frequency == rrule.WEEKLY else timedelta(hours=24 if frequency == rrule.DAILY else 1)
