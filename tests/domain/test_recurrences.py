"""Recurrence rules: as dateutil reads them, whatever part is asked for; and no rule that makes anybody wait."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil import rrule

from tocsin.domain import recurrences, silences
from tocsin.domain.errors import Refused
from tocsin.domain.recurrences import Unusable
from tocsin.domain.silences import Recurring, Rule

ZONE = ZoneInfo("Europe/Vienna")
FIRST = datetime(2024, 1, 17, 5, 20, 11)  # noqa: DTZ001  (a wall-clock time)
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

MOST = 0.020
"""Seconds that the event loop may be held, as `tests/test_time_by_input.py` has it."""
TRIES = 20

EVERY_HOUR = ",".join(map(str, range(24)))
EVERY_MINUTE = ",".join(map(str, range(60)))
POSITIONS = ",".join(map(str, range(-366, -335)))

HOSTILE = [
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=29;BYHOUR=3;COUNT=1000",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;COUNT=1000",
    "FREQ=DAILY;COUNT=1000000000",
    "FREQ=DAILY;COUNT=" + "9" * 400,
    "FREQ=DAILY;INTERVAL=999999999",
    "FREQ=DAILY;INTERVAL=0",
    "FREQ=HOURLY;INTERVAL=24;BYHOUR=4",
    "FREQ=HOURLY;BYMINUTE=0,1;BYSETPOS=3",
    "FREQ=HOURLY",
    "FREQ=MINUTELY;INTERVAL=10000",
    "FREQ=SECONDLY",
    f"FREQ=YEARLY;INTERVAL=50;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR={EVERY_HOUR}",
    f"FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS={POSITIONS}",
    "FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO;BYSETPOS=366",
    "FREQ=YEARLY;BYYEARDAY=366;INTERVAL=3",
    "FREQ=MONTHLY;BYSETPOS=-366,366;BYHOUR=1,2",
    "FREQ=WEEKLY;BYMONTH=2;BYSETPOS=9",
    f"FREQ=DAILY;BYHOUR=0;BYMINUTE={EVERY_MINUTE};BYSECOND={EVERY_MINUTE}",
    "FREQ=DAILY;UNTIL=99991231T235959Z",
    "FREQ=DAILY;UNTIL=00010101T000000Z",
    "FREQ=DAILY;BYDAY=" + ",".join(["MO"] * 200),
    "FREQ=DAILY;" * 45,
    ";" * 500,
    "=" * 500,
    "A" * 100_000,
]
LEGAL = [
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29", "FREQ=DAILY;BYHOUR=1,2;COUNT=1000", "FREQ=HOURLY;INTERVAL=9",
    "FREQ=WEEKLY;BYMONTH=2;BYDAY=SU", "FREQ=YEARLY;BYDAY=53MO;BYSETPOS=1", "FREQ=HOURLY;BYHOUR=3,4;BYMINUTE=0",
]  # fmt: skip


def random_rule(random: random.Random) -> str:
    frequency = random.choice([*recurrences.FREQUENCIES])
    parts = [f"FREQ={frequency}", f"WKST={random.choice(DAYS)}"]
    if random.random() < 0.5:
        parts.append(f"INTERVAL={random.choice([1, 2, 3, 5, 11])}")
    if random.random() < 0.2:
        parts.append(f"COUNT={random.randint(1, 30)}")
    elif random.random() < 0.3:
        parts.append("UNTIL=" + random.choice(["20250610", "20250610T101500Z", "20250610T101500"]))
    if frequency == "HOURLY":
        if random.random() < 0.7:
            parts.append(f"BYHOUR={random.randint(0, 23)},{random.randint(0, 23)}")
        return ";".join(parts)
    if random.random() < 0.4:
        number = random.choice(["", "1", "-1", "2"]) if frequency in ("MONTHLY", "YEARLY") else ""
        parts.append("BYDAY=" + ",".join(number + day for day in random.sample(DAYS, random.randint(1, 3))))
    elif random.random() < 0.4 and frequency != "WEEKLY":
        parts.append(f"BYMONTHDAY={random.choice([1, 13, 28, -1])}")
    if random.random() < 0.3:
        parts.append(f"BYMONTH={random.randint(1, 12)},{random.randint(1, 12)}")
    elif random.random() < 0.2 and frequency == "YEARLY" and "BYDAY=" not in "".join(parts):
        parts.append(f"BYWEEKNO={random.choice([1, 20, 52, 53, -1])}")
    if random.random() < 0.3:
        parts.append(f"BYHOUR={random.randint(0, 23)}")
    if random.random() < 0.2 and any(part.startswith(("BYDAY", "BYMONTH")) for part in parts):
        parts.append(f"BYSETPOS={random.choice([1, -1])}")
    return ";".join(parts)


def by_dateutil(text: str, start: datetime, end: datetime) -> list[datetime]:
    """The same from the first time on, by dateutil alone; an UNTIL in UTC is put into the zone first."""
    begin, _, until = text.partition("UNTIL=")
    if until:
        value, semicolon, rest = until.partition(";")
        if value.endswith("Z"):
            moment = datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).astimezone(ZONE)
            value = f"{moment:%Y%m%dT%H%M%S}"
        elif "T" not in value:
            value += "T235959"
        text = f"{begin}UNTIL={value}{semicolon}{rest}"
    try:
        found = takewhile(lambda each: each < end, rrule.rrulestr(text, dtstart=FIRST))
        return [each for each in found if each >= start]
    except ValueError:
        return []


@pytest.mark.parametrize("seed", range(4))
def test_any_part_of_a_rule_is_what_dateutil_says_of_the_whole(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        text = random_rule(chance)
        start = FIRST + timedelta(days=chance.randint(-10, 800), hours=chance.randint(0, 23))
        end = start + timedelta(days=chance.choice([1, 40, 400]))
        found = recurrences.occurrences(recurrences.parsed(text), ZONE, FIRST, start, end)
        expected = by_dateutil(text, start, end)
        if "BYSETPOS" in text and "WEEKLY" in text:  # where the first week is cut, dateutil counts what is left of it
            week = FIRST + timedelta(days=7)
            assert [each for each in found if each > week] == [each for each in expected if each > week], text
        else:
            assert [*found] == expected, (text, start, end)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:60])
def test_a_hostile_rule_is_refused_or_bounded_before_it_makes_anybody_wait(text: str) -> None:
    for zone in ("Europe/Vienna", "UTC"):
        rule = Rule(datetime(2000, 12, 31, 3, tzinfo=UTC), None, Recurring(text, 60, zone))
        assert least(lambda rule=rule: checked(rule)) < MOST  # type: ignore[misc]


@pytest.mark.parametrize("text", LEGAL)
def test_what_a_rule_says_of_a_time_decades_later_takes_no_longer(text: str) -> None:
    rule = Rule(datetime(2000, 12, 31, 3, tzinfo=UTC), None, Recurring(text, 60, "Europe/Vienna"))
    silences.check(rule)
    late = datetime(2099, 1, 1, tzinfo=UTC)
    assert least(lambda: silences.next_spans(rule, late)) < MOST
    assert least(lambda: silences.spans(rule, late, late + timedelta(days=366))) < MOST


def checked(rule: Rule) -> None:
    """As it is at its first request."""
    recurrences.parsed.cache_clear()
    recurrences.counted.cache_clear()
    with suppress(Refused):
        silences.check(rule)


def least(work: object) -> float:
    """The CPU time of this thread, the least of a few tries: on a busy machine all else is about the others."""
    took = MOST
    for _ in range(TRIES):
        before = time.thread_time()
        work()  # type: ignore[operator]
        took = min(took, time.thread_time() - before)
        if took < MOST / 2:
            break
    return took


@pytest.mark.parametrize(
    "text",
    ["", "FREQ=", "FREQ=FORTNIGHTLY", "BYDAY=MO", "FREQ=DAILY;FREQ=DAILY", "FREQ=DAILY;COUNT=2;UNTIL=20300101",
     "FREQ=DAILY;BYEASTER=1", "FREQ=DAILY;X-OWN=1", "FREQ=DAILY;BYHOUR=24", "FREQ=DAILY;BYMINUTE=60",
     "FREQ=MONTHLY;BYMONTHDAY=0", "FREQ=MONTHLY;BYMONTHDAY=32", "FREQ=WEEKLY;BYDAY=1MO", "FREQ=WEEKLY;BYMONTHDAY=1",
     "FREQ=WEEKLY;BYDAY=XX", "FREQ=MONTHLY;BYDAY=0MO", "FREQ=MONTHLY;BYDAY=MO(+1)", "FREQ=MONTHLY;BYWEEKNO=1",
     "FREQ=MONTHLY;BYYEARDAY=1", "FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "FREQ=DAILY;BYSETPOS=1", "FREQ=DAILY;WKST=1",
     "FREQ=DAILY;UNTIL=2030-01-01", "FREQ=DAILY;UNTIL=20300230", "FREQ=DAILY;INTERVAL=1.5", "FREQ=DAILY;BYHOUR=１",
     "DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "FREQ=DAILY\nEXDATE:20260101", "FREQ=DAILY;"],
)  # fmt: skip
def test_what_is_no_rule_of_the_rfc_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        recurrences.parsed(text)
