"""When silences are: spans, one by one and by rules of RFC 5545, also in the nights in which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tocsin.domain import silences
from tocsin.domain.errors import Refused
from tocsin.domain.silences import Recurring, Rule, ScopedSpan, Span

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rule(rrule: str, duration: int = HOUR, zone: str = "UTC", start: datetime = START, **more: Any) -> Rule:
    return Rule(start, more.get("ends_at"), Recurring(rrule, duration, zone))


def starts(given: Rule, start: str, end: str) -> list[str]:
    return [f"{span.starts_at:%m-%d %H:%M}" for span in silences.spans(given, at(start), at(end))]


def refused(given: Rule) -> str:
    with pytest.raises(Refused) as refusal:
        silences.check(given)
    assert refusal.value.status == 422
    return refusal.value.details[0].field


def test_one_span_is_found_by_whatever_it_overlaps() -> None:
    once = Rule(at("2026-05-01 02:00"), at("2026-05-01 04:00"))
    found = [Span(once.starts_at, once.ends_at)]  # type: ignore[arg-type]
    assert silences.spans(once, at("2026-05-01 03:00"), at("2026-05-01 03:01")) == found
    assert silences.spans(once, at("2026-05-01 04:00"), at("2026-05-01 05:00")) == []
    assert silences.spans(once, at("2026-05-01 01:00"), at("2026-05-01 02:00")) == []


def test_three_in_the_morning_stays_three_in_the_morning_over_a_change_of_clocks() -> None:
    nightly = rule("FREQ=DAILY;BYHOUR=3", zone="Europe/Vienna")
    assert starts(nightly, "2026-03-28", "2026-03-31") == ["03-28 02:00", "03-29 01:00", "03-30 01:00"]
    assert starts(nightly, "2026-10-24", "2026-10-27") == ["10-24 01:00", "10-25 02:00", "10-26 02:00"]


@pytest.mark.parametrize(
    ("zone", "night", "clock", "expected"),
    [
        # 02:30 does not exist: read with the offset before the gap (RFC 5545, 3.3.5), it is 03:30 of the new time.
        ("Europe/Vienna", "2026-03-29", (2, 30), "03-29 01:30"),
        ("America/New_York", "2026-03-08", (2, 30), "03-08 07:30"),
        # Lord Howe goes from 02:00 (+10:30) to 02:30 (+11).
        ("Australia/Lord_Howe", "2026-10-03", (2, 15), "10-03 15:45"),
        # 02:30, or 01:30, exists twice: it is the first.
        ("Europe/Vienna", "2026-10-25", (2, 30), "10-25 00:30"),
        ("America/New_York", "2026-11-01", (1, 30), "11-01 05:30"),
        # Lord Howe goes from 02:00 (+11) back to 01:30 (+10:30).
        ("Australia/Lord_Howe", "2026-04-04", (1, 45), "04-04 14:45"),
    ],
)
def test_a_time_that_does_not_exist_or_exists_twice_is_decided(
    zone: str, night: str, clock: tuple[int, int], expected: str
) -> None:
    nightly = rule(f"FREQ=DAILY;BYHOUR={clock[0]};BYMINUTE={clock[1]}", zone=zone)
    end = (datetime.fromisoformat(night) + timedelta(days=1)).isoformat()
    assert starts(nightly, night, end) == [expected]


@pytest.mark.parametrize("zone", ["Europe/Vienna", "America/New_York", "Australia/Lord_Howe"])
def test_a_span_lasts_its_real_seconds_in_every_night(zone: str) -> None:
    nightly = rule("FREQ=DAILY;BYHOUR=1;BYMINUTE=30", 2 * HOUR, zone)
    found = silences.spans(nightly, at("2026-01-01"), at("2027-01-01"))
    assert len(found) == 365
    assert {span.ends_at - span.starts_at for span in found} == {timedelta(hours=2)}


def test_two_spans_that_a_gap_puts_on_the_same_moment_are_one() -> None:
    both = rule("FREQ=DAILY;BYHOUR=2,3;BYMINUTE=30", zone="Europe/Vienna")
    assert starts(both, "2026-03-29", "2026-03-30") == ["03-29 01:30"]


def test_the_first_time_is_a_span_only_if_the_rule_says_so() -> None:
    thursday = at("2026-01-01 02:00")
    assert starts(rule("FREQ=WEEKLY;BYDAY=SU", start=thursday), "2026-01-01", "2026-01-12") == [
        "01-04 02:00", "01-11 02:00",
    ]  # fmt: skip
    assert starts(rule("FREQ=WEEKLY", start=thursday), "2026-01-01", "2026-01-12") == ["01-01 02:00", "01-08 02:00"]


def test_an_end_cuts_the_span_that_lasts_and_lets_none_begin() -> None:
    ended = rule("FREQ=DAILY", 2 * HOUR, ends_at=at("2026-01-03 01:00"))
    assert silences.spans(ended, START, at("2026-02-01"))[-1] == Span(at("2026-01-03 00:00"), at("2026-01-03 01:00"))
    assert silences.spans(ended, at("2026-01-03 01:00"), at("2026-02-01")) == []


def test_state_and_next_spans_follow_the_time() -> None:
    twice = rule("FREQ=DAILY;COUNT=2", start=at("2026-01-02"))
    states = {text: silences.state(twice, at(text)) for text in ("2026-01-01", "2026-01-02", "2026-01-02 12:00",
                                                                 "2026-01-03 00:59", "2026-01-03 01:00")}
    assert [*states.values()] == ["planned", "active", "planned", "active", "ended"]
    weekly = rule("FREQ=WEEKLY;BYDAY=SU")
    assert [f"{span.starts_at:%m-%d}" for span in silences.next_spans(weekly, at("2026-01-04 00:30"))] == [
        "01-04", "01-11", "01-18", "01-25", "02-01",
    ]  # fmt: skip
    leap = rule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", start=at("2027-01-01"))
    assert silences.next_spans(leap, START)[0].starts_at == at("2028-02-29")


def test_every_window_of_a_rule_is_a_part_of_the_whole() -> None:
    for text in (
        "FREQ=MONTHLY;BYDAY=-1FR;INTERVAL=2", "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,SA;WKST=SU", "FREQ=DAILY;COUNT=90",
        "FREQ=HOURLY;INTERVAL=25", "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO", "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1",
    ):  # fmt: skip
        given = rule(text, start=at("2026-01-07 05:00"), zone="America/New_York")
        whole = silences.spans(given, START, START + timedelta(days=800))
        parts = {
            span
            for day in range(0, 800, 5)
            for span in silences.spans(given, START + timedelta(days=day), START + timedelta(days=day + 5))
        }
        assert sorted(parts) == whole, text
        assert whole


def test_what_cannot_be_a_silence_is_refused_by_its_field() -> None:
    assert refused(Rule(START, START)) == "ends_at"
    assert refused(Rule(START, START - timedelta(1))) == "ends_at"
    assert refused(Rule(START, None)) == "ends_at"
    assert refused(Rule(at("1999-12-31"), START)) == "starts_at"
    assert refused(rule("FREQ=DAILY", zone="Mars/Olympus")) == "recurrence.timezone"
    assert refused(rule("FREQ=DAILY", zone="../etc/passwd")) == "recurrence.timezone"
    assert refused(rule("FREQ=DAILY", zone="America")) == "recurrence.timezone"
    assert refused(rule("FREQ=DAILY", 0)) == "recurrence.duration"
    assert refused(rule("FREQ=DAILY", 32 * 86_400)) == "recurrence.duration"
    assert refused(rule("FREQ=DAILY", 86_401)) == "recurrence.duration"
    silences.check(rule("FREQ=DAILY", 86_400))
    assert refused(rule("FREQ=HOURLY")) == "recurrence.rrule"
    assert refused(rule("FREQ=DAILY;UNTIL=20251231T000000Z")) == "recurrence.rrule"


def test_a_silence_is_limited_to_its_integrations_types_and_to_its_severity_and_milder() -> None:
    sms, mail = uuid4(), uuid4()
    span = ScopedSpan(uuid4(), "Night", START, START, frozenset({sms}), frozenset({"disk"}), "warning")
    assert span.silences(sms, "disk", "warning")
    assert span.silences(sms, "disk", "info")
    assert not span.silences(sms, "disk", "critical")
    assert not span.silences(mail, "disk", "warning")
    assert not span.silences(sms, "cpu", "warning")
