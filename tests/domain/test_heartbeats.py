"""When a heartbeat is due, until when it may come, and what pings and their absence mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tocsin.domain import cron, heartbeats, ping_urls, pings
from tocsin.domain.errors import Refused
from tocsin.domain.heartbeats import Schedule
from tocsin.domain.pings import Ping, Run, State

DAY = Schedule()
NIGHTLY = Schedule(None, "0 3 * * *", "UTC", 3_600)
HOURLY = Schedule(None, "0 * * * *", "UTC", 1_200)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=UTC)


def ping(kind: Any = "success", rid: str = "", **given: Any) -> Ping:
    return Ping("0" * 32, None, kind, "GET", None, rid, **given)


class Told:
    """A heartbeat's state and its incidents, as pings and looks leave them."""

    def __init__(self, schedule: Schedule = DAY) -> None:
        self.schedule, self.state, self.ongoing = schedule, State(), set[tuple[str, str]]()

    def take(self, given: Ping, now: datetime, methods: str = "", paused: bool = False) -> pings.Taken:
        return pings.take(self.state, given, self.schedule, self.ongoing, now, methods=methods, paused=paused)

    def look(self, now: datetime, credited: Any = (), since: datetime = LONG_AGO) -> list[tuple[str, str]]:
        opened, self.again = pings.judge(
            self.state, self.schedule, self.ongoing, now, credited=credited, listening_since=since
        )
        return [(each.type, each.dedup_key) for each in opened]


# ---------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("schedule", "success", "awaited", "due"),
    [
        (DAY, "10T12:00:00", None, "11T12:00:00"),
        (NIGHTLY, "10T03:00:20", None, "11T03:00:00"),
        (NIGHTLY, "10T03:00:00", "10T03:00:00", "11T03:00:00"),
        (NIGHTLY, "10T02:59:58", "10T03:00:00", "11T03:00:00"),  # a clock that is ahead
        (NIGHTLY, "10T02:00:00", "10T03:00:00", "11T03:00:00"),  # earlier by the whole grace
        (NIGHTLY, "10T01:59:59", "10T03:00:00", "10T03:00:00"),  # too early: somebody has run it by hand
        (HOURLY, "10T14:50:00", "10T14:00:00", "10T15:00:00"),  # late for 14:00, not early for 15:00
        (HOURLY, "10T14:50:00", "10T15:00:00", "10T16:00:00"),
        (HOURLY, "10T14:44:59", "10T15:00:00", "10T15:00:00"),  # more than a quarter of the gap
    ],
)
def test_the_next_success_is_due_at_the_next_slot_and_may_come_a_little_early(
    schedule: Schedule, success: str, awaited: str | None, due: str
) -> None:
    assert heartbeats.next_due(schedule, at(success), at(awaited) if awaited else None) == at(due)


def test_summer_time_moves_a_slot_as_debians_cron_does() -> None:
    vienna = "Europe/Vienna"
    gap = cron.around("30 2 * * *", vienna, datetime(2026, 3, 29, 0, 0, tzinfo=UTC))
    assert gap.next == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # 03:00, when 02:30 is left out
    twice = cron.around("30 2 * * *", vienna, datetime(2026, 10, 25, 0, 31, tzinfo=UTC))
    assert twice.last == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert twice.next == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)  # not again an hour later


@pytest.mark.parametrize("wrong", ["", "@daily", "0 3 * *", "61 * * * *", "0 0 30 2 *", "* * * * * *", "0 0 * 2 5#5"])
def test_what_cron_would_not_run_is_refused(wrong: str) -> None:
    with pytest.raises(Refused) as refused:
        cron.checked("cron", wrong)
    assert refused.value.details[0].field == "cron"


def test_after_a_change_nothing_is_due_before_it_was_announced() -> None:
    now = at("10T12:00:00")
    assert heartbeats.due_after_change(Schedule(300), at("10T09:00:00"), now) == at("10T12:05:00")
    assert heartbeats.due_after_change(DAY, at("10T09:00:00"), now) == at("11T09:00:00")
    assert heartbeats.due_after_change(NIGHTLY, at("02T03:00:00"), now) == at("11T03:00:00")
    assert heartbeats.due_after_change(NIGHTLY, None, now) is None


@pytest.mark.parametrize(
    ("spans", "until"),
    [
        ([], "10T04:00:00"),
        ([("10T01:00:00", "10T02:00:00")], "10T04:00:00"),
        ([("10T01:00:00", "10T03:30:00")], "10T04:30:00"),
        ([("10T03:30:00", "10T05:00:00")], "10T05:30:00"),
        ([("10T03:30:00", "10T05:00:00"), ("10T03:40:00", "10T04:00:00")], "10T05:30:00"),
        ([("10T03:10:00", "10T03:20:00"), ("10T03:50:00", "10T05:00:00")], "10T05:20:00"),
        ([("10T04:00:01", "10T09:00:00")], "10T04:00:00"),
    ],
)
def test_time_that_is_credited_does_not_count_and_none_is_credited_twice(
    spans: list[tuple[str, str]], until: str
) -> None:
    credited = [(at(start), at(end)) for start, end in spans]
    assert heartbeats.deadline(at("10T03:00:00"), timedelta(hours=1), credited) == at(until)


# -------------------------------------------------------------------------------------------------------------- pings


def test_nothing_is_expected_before_the_first_ping() -> None:
    told = Told(NIGHTLY)
    assert pings.look_at(told.state, NIGHTLY) is None
    assert told.look(at("10T12:00:00")) == []


def test_what_is_not_there_by_due_and_grace_is_missed_until_a_success() -> None:
    told = Told(NIGHTLY)
    told.take(ping(), at("10T03:00:05"))
    assert pings.look_at(told.state, NIGHTLY) == at("11T04:00:00")
    assert told.look(at("11T03:59:59")) == []
    assert told.again == at("11T04:00:00")
    assert told.look(at("11T04:00:00")) == [("missed", "")]
    assert told.state.due_at == at("12T03:00:00")
    taken = told.take(ping(), at("11T09:00:00"))
    assert [type(step).__name__ for step in taken.steps] == ["Ends"]
    assert (told.ongoing, told.state.due_at) == (set(), at("12T03:00:00"))


def test_what_somebody_resolved_is_missed_again_at_the_next_slot() -> None:
    told = Told(NIGHTLY)
    told.take(ping(), at("10T03:00:05"))
    assert told.look(at("11T04:00:00")) == [("missed", "")]
    assert told.look(at("12T04:00:00")) == []  # it lasts
    told.ongoing.clear()
    assert told.look(at("13T04:00:00")) == [("missed", "")]


def test_a_run_that_does_not_end_by_its_grace_is_overrun_and_not_missed_besides() -> None:
    told = Told(NIGHTLY)
    told.take(ping(), at("10T03:00:05"))
    told.take(ping("start"), at("11T03:50:00"))
    assert told.look(at("11T04:00:00")) == []
    assert told.again == at("11T04:50:00")
    assert told.look(at("11T04:50:00")) == [("overrun", "")]
    assert told.look(at("11T04:50:01")) == []
    assert told.look(at("12T04:00:00")) == []
    taken = told.take(ping(), at("12T05:00:00"))
    assert (told.ongoing, len(taken.steps)) == (set(), 1)


def test_runs_that_overlap_are_judged_one_by_one() -> None:
    told = Told(Schedule(86_400, grace=600))
    told.take(ping("start", "a"), at("10T03:00:00"))
    told.take(ping("start", "b"), at("10T03:05:00"))
    assert told.take(ping("success", "b"), at("10T03:06:00")).duration_ms == 60_000
    assert told.look(at("10T03:10:00")) == [("overrun", "a")]
    told.take(ping("start", "c"), at("10T03:11:00"))
    told.take(ping("success", "c"), at("10T03:12:00"))
    assert told.ongoing == set()  # a later run has succeeded
    told.take(ping("start", "d"), at("10T04:00:00"))
    told.take(ping("start", "e"), at("10T04:01:00"))
    assert told.look(at("10T04:11:00")) == [("overrun", "d"), ("overrun", "e")]
    told.take(ping("success", "d"), at("10T04:12:00"))
    assert told.ongoing == {("overrun", "e")}  # it began later, and still goes on
    told.take(ping("fail", "e"), at("10T04:13:00"))
    assert told.ongoing == {("failed", "")}


def test_a_failure_is_told_at_once_and_a_missed_slot_not_besides() -> None:
    told = Told(NIGHTLY)
    told.take(ping(), at("10T03:00:05"))
    told.take(ping("fail"), at("11T03:00:05"))
    assert told.ongoing == {("failed", "")}
    assert told.state.due_at == at("11T03:00:00")  # the next slot after the last success
    assert told.look(at("11T04:00:00")) == []
    told.take(ping(), at("11T05:00:00"))
    assert (told.ongoing, told.state.due_at) == (set(), at("12T03:00:00"))


def test_nobody_is_judged_while_paused_or_by_what_is_ignored() -> None:
    told = Told()
    told.take(ping("fail"), at("10T03:00:00"), paused=True)
    assert told.take(ping("fail"), at("10T03:00:00"), methods="POST").kind == "ignored"
    assert (told.ongoing, told.state.due_at, told.state.runs) == (set(), None, {})


def test_a_start_and_an_end_three_days_apart_are_of_different_runs() -> None:
    told = Told()
    told.take(ping("start"), at("10T00:00:00"))
    assert told.take(ping(), at("13T00:00:01")).duration_ms is None
    assert told.take(ping(duration_ms=1_500.0), at("14T00:00:00")).duration_ms == 1_500


def test_runs_that_never_end_are_forgotten_at_some_time() -> None:
    told = Told()
    for number in range(50):
        told.take(ping("start", str(number)), at("10T00:00:00") + timedelta(seconds=number))
    assert sorted(map(int, told.state.runs)) == list(range(30, 50))
    assert pings.read_runs(pings.written_runs(told.state.runs)) == told.state.runs
    assert pings.read_runs({"x": [0.5, 1]}) == {"x": Run(datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC), True)}


def test_whoever_was_away_judges_nobody_in_the_first_minute() -> None:
    told = Told(Schedule(60, grace=120))
    told.take(ping(), at("10T00:00:00"))
    back = at("10T06:00:00")
    credited = [(at("10T00:02:00"), back)]
    assert told.look(back, credited, back) == []
    assert told.again == at("10T06:01:00")  # a minute of its two was left
    assert told.look(at("10T06:01:00"), credited, back) == [("missed", "")]
    short = Told(Schedule(60, grace=120))
    short.take(ping(), at("10T00:00:00"))
    assert short.look(at("10T00:02:59"), [], at("10T00:02:50")) == []
    assert short.look(at("10T00:03:00"), [], at("10T00:02:50")) == []
    assert short.again == at("10T00:03:50")


# ---------------------------------------------------------------------------------------------------------- addresses


def test_a_body_is_cut_between_two_characters() -> None:
    assert ping_urls.text_of(b"x" * 99_999 + "ü".encode()) == "x" * 99_999
    assert ping_urls.text_of(b"x" * 99_998 + "üü".encode()) == "x" * 99_998 + "ü"
    assert ping_urls.text_of(b"x" * 99_997 + "😀".encode()) == "x" * 99_997
    assert len(ping_urls.text_of(b"\xbf" * 200_000)) == 100_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("10s", 10_000), ("1m30s", 90_000), ("250ms", 250), ("1.5h", 5_400_000), ("12.25", 12_250), ("-1s", None),
     ("", None), ("10", 10_000), ("1e9s", None), ("99999999h", None), ("1.2.3s", None)],
)  # fmt: skip
def test_durations_are_those_of_go_or_seconds(text: str, milliseconds: float | None) -> None:
    found = ping_urls.ping("GET", "/ping/" + "0" * 32, f"duration={text}", "")
    assert isinstance(found, Ping)
    assert found.duration_ms == milliseconds
