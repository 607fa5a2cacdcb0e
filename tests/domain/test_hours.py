"""Hours of the week, minute by minute, also in the nights in which clocks change."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tocsin.domain import hours
from tocsin.domain.errors import Refused
from tocsin.domain.hours import Hours

OFFICE = {"timezone": "Europe/Vienna", "days": "MO-FR", "from": "08:00", "to": "20:00"}
NIGHTS = [
    ("Europe/Vienna", "2026-03-29"), ("Europe/Vienna", "2026-10-25"), ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"), ("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Sao_Paulo", "2018-02-17"), ("America/Sao_Paulo", "2018-11-04"), ("Pacific/Apia", "2011-12-29"),
]  # fmt: skip
DAY = 24 * 60


def parsed(**change: Any) -> Hours:
    return hours.parse({**OFFICE, **change}, "hours")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_within_hours_it_is_now_and_otherwise_when_they_next_begin() -> None:
    office = parsed()
    assert hours.next_open(office, at("2026-11-27 12:00")) == at("2026-11-27 12:00")
    assert hours.next_open(office, at("2026-11-27 19:00")) == at("2026-11-30 07:00")  # Friday, 20:00 there
    assert hours.next_open(office, at("2026-11-30 06:59")) == at("2026-11-30 07:00")


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    night = parsed(days="FR", **{"from": "22:00", "to": "06:00"})
    assert hours.is_open(night, at("2026-11-28 04:00"))  # Saturday, 05:00 there
    assert not hours.is_open(night, at("2026-11-27 04:00"))
    assert hours.next_open(night, at("2026-11-28 05:00")) == at("2026-12-04 21:00")


def test_a_whole_day_ends_at_24_00() -> None:
    sunday = parsed(days="SU", **{"from": "00:00", "to": "24:00"})
    assert hours.is_open(sunday, at("2026-11-29 22:59"))
    assert not hours.is_open(sunday, at("2026-11-29 23:00"))


@pytest.mark.parametrize(
    ("days", "expected", "shown"),
    [("MO-FR", {0, 1, 2, 3, 4}, "MO-FR"), ("MO-FR,SU", {0, 1, 2, 3, 4, 6}, "SU-FR"), ("FR-MO", {4, 5, 6, 0}, "FR-MO"),
     ("MO-SU", {*range(7)}, "MO-SU"), ("we, sa", {2, 5}, "WE,SA"), ("TU-TU", {1}, "TU")],
)  # fmt: skip
def test_days_are_ranges_and_lists(days: str, expected: set[int], shown: str) -> None:
    found = parsed(days=days)
    assert found.days == expected
    assert hours.shown(found) == {**OFFICE, "days": shown}
    assert hours.parse(hours.shown(found), "hours") == found


@pytest.mark.parametrize(("zone", "night"), NIGHTS)
def test_in_nights_in_which_clocks_change_they_begin_when_the_clock_on_the_wall_says_so(zone: str, night: str) -> None:
    chance, wall = random.Random(night), ZoneInfo(zone)
    start = datetime.fromisoformat(night).replace(tzinfo=wall).astimezone(UTC) - timedelta(days=1)
    clocks = [(start + timedelta(minutes=minute)).astimezone(wall) for minute in range(10 * DAY)]
    read = [(clock.weekday(), clock.hour * 60 + clock.minute) for clock in clocks]
    for _ in range(8):
        first = chance.choice([chance.randrange(DAY), chance.randrange(240)])
        last = chance.choice([chance.randrange(DAY + 1), chance.randrange(240), min(first + 20, DAY)])
        if first == last:
            continue
        days = frozenset(chance.sample(range(7), chance.choice([1, 2, 5, 7])))
        given = Hours(zone, days, first, last)
        expected: list[int | None] = [None] * len(read)
        for minute in range(len(read) - 1, -1, -1):
            later = expected[minute + 1] if minute + 1 < len(read) else None
            expected[minute] = minute if is_open(given, *read[minute]) else later
        for minute in chance.sample(range(2 * DAY), 40):
            found = expected[minute]
            if found is not None:
                assert hours.next_open(given, start + timedelta(minutes=minute)) == start + timedelta(minutes=found)


def is_open(given: Hours, day: int, minute: int) -> bool:
    """By what the clock shows alone."""
    if given.start < given.end:
        return day in given.days and given.start <= minute < given.end
    return (day in given.days and minute >= given.start) or ((day - 1) % 7 in given.days and minute < given.end)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"timezone": "Mars/Olympus"}, "hours.timezone"), ({"days": ""}, "hours.days"), ({"days": "MO-"}, "hours.days"),
     ({"days": "MO,,TU"}, "hours.days"), ({"days": "MO," * 100}, "hours.days"), ({"from": "8:00"}, "hours.from"),
     ({"from": "24:00"}, "hours.from"), ({"from": "20:00"}, "hours.to"), ({"to": "24:01"}, "hours.to"),
     ({"to": "08:60"}, "hours.to"), ({"to": 20}, "hours"), ({"more": "x"}, "hours")],
)  # fmt: skip
def test_what_cannot_be_hours_is_refused_by_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refusal:
        parsed(**change)
    assert refusal.value.details[0].field == field
    with pytest.raises(Refused):
        hours.parse(None, "hours")
