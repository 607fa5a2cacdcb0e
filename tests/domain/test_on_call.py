"""Who is on duty when: turns by the clock on the wall, overrides, whom to try next, and gaps."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain import on_call
from tocsin.domain.on_call import DutySpan, Gap, Override, Schedule

ANN, BOB, CARL, DORA = (UUID(int=number) for number in range(1, 5))
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)

NIGHTS = {
    "Europe/Vienna": ((2026, 3, 29), (2026, 10, 25)),
    "America/New_York": ((2026, 3, 8), (2026, 11, 1)),
    "Australia/Lord_Howe": ((2026, 10, 4), (2026, 4, 5)),
}
"""The dates on which clocks go forward and back."""
DATES = [(zone, date) for zone, dates in NIGHTS.items() for date in dates]
TIMES = ["00:00", "01:30", "01:45", "02:00", "02:15", "02:30", "03:00", "09:00", "23:30"]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def weekly(*integrations: UUID, anchor: datetime | None = None, **more: Any) -> Schedule:
    anchor = anchor or utc(2026, 6, 1, 7)
    return Schedule("Europe/Vienna", "weekly", "MO 09:00", integrations or (ANN, BOB, CARL), anchor, **more)


def clock_minutes(zone: ZoneInfo, start: datetime, end: datetime) -> dict[datetime, datetime]:
    """What the clock on the wall showed, with the first minute in UTC at which it did."""
    shown: dict[datetime, datetime] = {}
    at = start
    while at < end:
        shown.setdefault(at.astimezone(zone).replace(tzinfo=None), at)
        at += MINUTE
    return shown


def counted_handovers(
    zone: ZoneInfo, weekday: int | None, clock: time, start: datetime, end: datetime
) -> list[datetime]:
    """The hand-overs found by reading a clock minute by minute.

    Where it never showed the time, as long after the last minute that it did show as the two would be apart.
    """
    shown = clock_minutes(zone, start, end)
    found = []
    day = start.astimezone(zone).date() + DAY
    while day < end.astimezone(zone).date():
        wanted = datetime.combine(day, clock)
        before = wanted
        while before not in shown:
            before -= MINUTE
        if weekday is None or day.weekday() == weekday:
            found.append(shown[before] + (wanted - before))
        day += DAY
    return found


@pytest.mark.parametrize(("zone", "date"), DATES)
@pytest.mark.parametrize("clock", TIMES)
@pytest.mark.parametrize("rotation", ["daily", "weekly"])
def test_hand_overs_are_when_a_clock_on_the_wall_shows_them_also_in_the_nights_when_it_is_changed(
    zone: str, date: tuple[int, int, int], clock: str, rotation: str
) -> None:
    night = utc(*date)
    handover = clock if rotation == "daily" else f"SU {clock}"
    days = 3 if rotation == "daily" else 9
    start, end = night - days * DAY, night + days * DAY
    expected = counted_handovers(
        ZoneInfo(zone), None if rotation == "daily" else 6, time.fromisoformat(clock), start, end
    )
    anchor = expected[0] - HOUR
    schedule = Schedule(zone, rotation, handover, (ANN, BOB, CARL), anchor)  # type: ignore[arg-type]
    assert [each.starts_at for each in on_call.spans(schedule, anchor, expected[-1] + MINUTE)[1:]] == expected
    at = anchor
    while at < expected[-1]:
        passed = bisect_right(expected, at)
        assert on_call.on_duty(schedule, at) == (ANN, BOB, CARL)[passed % 3]
        assert on_call.next_handover(schedule, at) == expected[passed]
        at += 7 * MINUTE


def test_a_week_with_a_change_of_clocks_has_an_hour_less_or_more() -> None:
    spring, autumn = (
        on_call.spans(weekly(), utc(2026, *date), utc(2026, *date) + 9 * DAY)[1] for date in ((3, 22), (10, 18))
    )
    assert (spring.starts_at, spring.ends_at) == (utc(2026, 3, 23, 8), utc(2026, 3, 30, 7))
    assert (autumn.starts_at, autumn.ends_at) == (utc(2026, 10, 19, 7), utc(2026, 10, 26, 8))


def test_the_first_begins_and_each_hand_over_belongs_to_the_next_in_the_list() -> None:
    schedule = weekly(anchor=utc(2026, 6, 3, 12))  # a Wednesday
    weeks = [utc(2026, 6, 3, 12), utc(2026, 6, 8, 6, 59), utc(2026, 6, 8, 7), utc(2026, 6, 15, 7), utc(2026, 6, 22, 7)]
    assert [on_call.on_duty(schedule, at) for at in weeks] == [ANN, ANN, BOB, CARL, ANN]


def test_without_rotation_the_first_is_always_on_duty_and_the_next_are_tried_in_order() -> None:
    schedule = Schedule("Europe/Vienna", "none", None, (ANN, BOB, CARL), utc(2026, 1, 1))
    for at in (utc(2025, 1, 1), utc(2026, 6, 1), utc(2036, 6, 1)):
        assert on_call.on_duty(schedule, at) == ANN
        assert on_call.order(schedule, at) == [ANN, BOB, CARL]
        assert on_call.next_handover(schedule, at) is None


def test_somebody_takes_over_from_a_time_until_another_and_the_later_of_two_arrangements_counts() -> None:
    first = Override(DORA, utc(2026, 6, 3), utc(2026, 6, 6))
    second = Override(CARL, utc(2026, 6, 4), utc(2026, 6, 5))
    schedule = weekly(overrides=(first, second))
    times = [utc(2026, 6, 2, 23, 59), utc(2026, 6, 3), utc(2026, 6, 4), utc(2026, 6, 5), utc(2026, 6, 6)]
    assert [on_call.on_duty(schedule, at) for at in times] == [ANN, DORA, CARL, DORA, ANN]
    assert on_call.spans(schedule, utc(2026, 6, 2), utc(2026, 6, 9)) == [
        DutySpan(ANN, utc(2026, 6, 2), utc(2026, 6, 3)),
        DutySpan(DORA, utc(2026, 6, 3), utc(2026, 6, 4), True),
        DutySpan(CARL, utc(2026, 6, 4), utc(2026, 6, 5), True),
        DutySpan(DORA, utc(2026, 6, 5), utc(2026, 6, 6), True),
        DutySpan(ANN, utc(2026, 6, 6), utc(2026, 6, 8, 7)),
        DutySpan(BOB, utc(2026, 6, 8, 7), utc(2026, 6, 9)),
    ]


def test_who_takes_over_stays_on_duty_over_hand_overs() -> None:
    schedule = weekly(overrides=(Override(DORA, utc(2026, 6, 5), utc(2026, 6, 20)),))
    assert on_call.spans(schedule, utc(2026, 6, 6), utc(2026, 6, 18)) == [
        DutySpan(DORA, utc(2026, 6, 6), utc(2026, 6, 18), True)
    ]


def test_whoever_was_taken_over_from_is_tried_last() -> None:
    at = utc(2026, 6, 9)  # Bob's week
    assert on_call.order(weekly(), at) == [BOB, CARL, ANN]
    assert on_call.order(weekly(overrides=(Override(DORA, at, at + DAY),)), at) == [DORA, CARL, ANN, BOB]
    assert on_call.order(weekly(overrides=(Override(ANN, at, at + DAY),)), at) == [ANN, CARL, BOB]


def test_nobody_is_on_duty_in_an_empty_schedule_but_whoever_takes_over() -> None:
    schedule = Schedule(
        "UTC", "daily", "09:00", (), utc(2026, 1, 1), (Override(ANN, utc(2026, 1, 2), utc(2026, 1, 3)),)
    )
    assert on_call.on_duty(schedule, utc(2026, 1, 1)) is None
    assert on_call.order(schedule, utc(2026, 1, 1)) == []
    assert on_call.order(schedule, utc(2026, 1, 2)) == [ANN]
    assert on_call.gaps(schedule, utc(2026, 1, 1), utc(2026, 1, 4), {ANN}) == [
        Gap(None, utc(2026, 1, 1), utc(2026, 1, 2)), Gap(None, utc(2026, 1, 3), utc(2026, 1, 4))
    ]


def test_a_gap_is_where_whoever_is_on_duty_cannot_be_sent_to() -> None:
    schedule = weekly(overrides=(Override(ANN, utc(2026, 6, 10), utc(2026, 6, 12)),))
    assert on_call.gaps(schedule, utc(2026, 6, 1, 7), utc(2026, 6, 22), {ANN, CARL}) == [
        Gap(BOB, utc(2026, 6, 8, 7), utc(2026, 6, 10)), Gap(BOB, utc(2026, 6, 12), utc(2026, 6, 15, 7))
    ]
    assert on_call.gaps(schedule, utc(2026, 6, 1, 7), utc(2026, 6, 22), {ANN, BOB, CARL}) == []


def test_a_gap_of_several_turns_of_one_is_one() -> None:
    assert on_call.gaps(weekly(ANN), utc(2026, 6, 1), utc(2026, 6, 22), set()) == [
        Gap(ANN, utc(2026, 6, 1), utc(2026, 6, 22))
    ]


def test_alone_in_a_list_one_is_never_relieved() -> None:
    assert on_call.next_handover(weekly(ANN), utc(2026, 6, 1)) is None


def test_a_list_can_be_changed_without_a_change_of_who_is_on_duty() -> None:
    at = utc(2026, 6, 10)  # Bob's week
    for members in ((CARL, DORA, BOB), (BOB, ANN), (ANN, CARL, DORA, BOB)):
        for rotation, handover in (("weekly", "MO 09:00"), ("daily", "09:00")):
            new = Schedule("Europe/Vienna", rotation, handover, members, at)  # type: ignore[arg-type]
            kept = Schedule(
                new.timezone, new.rotation, new.handover, members, on_call.anchored(new, BOB, at)
            )
            assert on_call.on_duty(kept, at) == BOB
            following = on_call.next_handover(kept, at)
            assert following is not None
            assert on_call.on_duty(kept, following) == members[(members.index(BOB) + 1) % len(members)]
    assert on_call.anchored(weekly(CARL, DORA), BOB, at) == at


WHEN = st.integers(0, 400 * 24 * 60).map(lambda minutes: utc(2026, 1, 1) + minutes * MINUTE)
OVERRIDES = st.lists(
    st.tuples(st.sampled_from([ANN, BOB, CARL, DORA]), WHEN, st.integers(1, 20_000)).map(
        lambda drawn: Override(drawn[0], drawn[1], drawn[1] + drawn[2] * MINUTE)
    ),
    max_size=5,
)
SCHEDULES = st.builds(
    Schedule,
    st.sampled_from([*NIGHTS, "UTC", "Pacific/Apia"]),
    st.just("weekly"),
    st.tuples(st.sampled_from(["MO", "SU"]), st.sampled_from(TIMES)).map(" ".join),
    st.lists(st.sampled_from([ANN, BOB, CARL]), max_size=3, unique=True).map(tuple),
    WHEN,
    OVERRIDES.map(tuple),
) | st.builds(
    Schedule,
    st.sampled_from([*NIGHTS, "UTC"]),
    st.sampled_from(["daily", "none"]),
    st.sampled_from(TIMES),
    st.lists(st.sampled_from([ANN, BOB, CARL]), max_size=3, unique=True).map(tuple),
    WHEN,
    OVERRIDES.map(tuple),
)


@given(SCHEDULES, WHEN, st.integers(1, 90), st.lists(st.integers(0, 90 * 24 * 60), max_size=20))
def test_spans_and_gaps_say_what_is_said_of_each_moment_in_them(
    schedule: Schedule, start: datetime, days: int, minutes: list[int]
) -> None:
    end = start + days * DAY
    spans = on_call.spans(schedule, start, end)
    gaps = on_call.gaps(schedule, start, end, {ANN, BOB})
    for at in (start, *(start + each * MINUTE for each in minutes)):
        if at >= end:
            continue
        whose = on_call.on_duty(schedule, at)
        assert [each.integration for each in spans if each.starts_at <= at < each.ends_at] == ([whose] if whose else [])
        unfilled = [each.integration for each in gaps if each.starts_at <= at < each.ends_at]
        assert unfilled == ([] if whose in (ANN, BOB) else [whose])
        assert on_call.order(schedule, at)[:1] == ([whose] if whose else [])
        assert on_call.began(schedule, at) <= at
        assert on_call.on_duty(schedule, on_call.began(schedule, at)) == whose
        following = on_call.next_handover(schedule, at)
        if following is None or following > end:
            assert on_call.on_duty(schedule, end) == whose or following == end
        else:
            assert on_call.on_duty(schedule, following - MINUTE) == whose
