"""What the samples of a server say, by their own time. No clock, no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain import server_alerts, servers
from tocsin.domain.errors import Refused
from tocsin.domain.servers import Row, Sample, Verdict, Watch

NOW = datetime(2025, 5, 1, 12, tzinfo=UTC)
TOTALS = {"ram": 1000.0, "disk": 1000.0}


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def cpu(*values: float, start: float = 0, step: float = 60) -> list[Row]:
    return [(at(start + step * index), {"cpu_used": value}) for index, value in enumerate(values)]


def judge(
    samples: list[Row], *, watch: Watch | None = None, ongoing: Any = (), now: datetime | None = None, **alerts: Any
) -> tuple[Watch, list[Verdict]]:
    """`now` is when the newest sample was taken, unless given."""
    wanted: Any = {**server_alerts.default_alerts(), **alerts}
    lasting = ongoing if isinstance(ongoing, dict) else dict.fromkeys(ongoing, "critical")
    return servers.judge(watch or {}, samples, wanted, TOTALS, lasting, now or samples[-1][0], "web-1")


def one_by_one(samples: list[Row], **alerts: Any) -> list[str]:
    """The kinds of verdict when every sample is a report of its own, arriving as it is taken."""
    watch: Watch = {}
    ongoing: set[str] = set()
    kinds = []
    for sample in samples:
        watch, verdicts = judge([sample], watch=watch, ongoing=ongoing, **alerts)
        for verdict in verdicts:
            kinds.append(verdict.kind)
            (ongoing.add if verdict.kind == "over" else ongoing.discard)(verdict.type)
    return kinds


# ------------------------------------------------------------------------------------------------------------- opening


def test_a_value_over_its_threshold_for_long_enough_opens_in_words_for_people() -> None:
    _, verdicts = judge(cpu(95, 96, 97, 95, 96, 97.04))
    assert verdicts == [Verdict("cpu", "over", "CPU at 97 % for 5 min on web-1 (threshold 90 %)")]


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ([95] * 5, []),
        ([95] * 6, ["over"]),
        ([90] * 6, ["over"]),
        ([95, 95, 95, 89, 95, 95, 95], []),
        ([95] * 6 + [86] * 3, ["over"]),
        ([95] * 6 + [85], ["over", "recovered"]),
        ([95] * 6 + [99] * 20 + [10], ["over", "recovered"]),
        ([95] * 6 + [85] + [95] * 5, ["over", "recovered"]),
        ([95] * 6 + [85] + [95] * 6, ["over", "recovered", "over"]),
    ],
)  # fmt: skip
def test_samples_every_minute_come_to_these_verdicts(values: list[float], kinds: list[str]) -> None:
    assert one_by_one(cpu(*values)) == kinds


def test_a_full_disk_opens_at_once() -> None:
    _, verdicts = judge([(NOW, {"disk_used_b": 905.0})])
    assert verdicts == [Verdict("disk", "over", "Disk at 90.5 % on web-1 (threshold 90 %)")]


def test_memory_is_percent_of_the_total_and_not_judged_without_one() -> None:
    samples: list[Row] = [(NOW, {"mem_used_b": 950.0})]
    at_once: Any = {**server_alerts.default_alerts(), "ram": {"threshold": 90, "for": 0}}
    _, verdicts = servers.judge({}, samples, at_once, TOTALS, {}, NOW, "web-1")
    assert [verdict.type for verdict in verdicts] == ["ram"]
    for total in (None, 0):
        assert servers.judge({}, samples, at_once, {"ram": total}, {}, NOW, "web-1") == ({}, [])


def test_an_alert_that_is_off_is_not_judged() -> None:
    assert judge(cpu(*[99] * 20), cpu=None) == ({}, [])


def test_a_gap_breaks_the_time_over_the_threshold() -> None:
    assert one_by_one(cpu(95, 95, 95) + cpu(95, 95, 95, start=500)) == []
    assert one_by_one(cpu(95, 95, 95) + cpu(95, 95, 95, start=300)) == ["over"]


def test_an_agent_that_sends_rarely_is_judged_by_its_own_pace() -> None:
    assert one_by_one(cpu(*[95] * 8, step=1800), cpu={"threshold": 90, "for": 3600}) == ["over"]


def test_one_long_silence_does_not_pass_for_the_usual_pace() -> None:
    watch, _ = judge(cpu(10, 10, 10) + cpu(10, start=7200))
    assert watch["cpu"]["usual"] == 120


# ---------------------------------------------------------------------------------------------------------------- late


def test_late_samples_from_the_past_open_nothing() -> None:
    _, verdicts = judge(cpu(*[99] * 60), now=at(59 * 60 + 301))
    assert verdicts == []


def test_late_samples_that_reach_to_the_present_open() -> None:
    _, verdicts = judge(cpu(*[99] * 60), now=at(59 * 60 + 300))
    assert [verdict.message for verdict in verdicts] == ["CPU at 99 % for 59 min on web-1 (threshold 90 %)"]


def test_trouble_that_was_over_before_its_samples_came_is_no_incident() -> None:
    assert judge(cpu(*[99] * 60, 20))[1] == []


def test_samples_not_newer_than_the_latest_judged_change_nothing() -> None:
    watch, _ = judge(cpu(95, 95, 95))
    again, verdicts = judge(cpu(10, 10, 10), watch=watch)
    assert (again, verdicts) == (watch, [])


def test_late_samples_can_end_an_incident() -> None:
    _, verdicts = judge(cpu(99, 20), ongoing={"cpu"}, now=at(3600))
    assert verdicts == [Verdict("cpu", "recovered", "CPU at 20 % on web-1 (threshold 90 %)")]


def test_a_recovery_in_the_middle_of_late_samples_does_not_close_what_lasts_now() -> None:
    assert judge(cpu(20, *[99] * 6), ongoing={"cpu"})[1] == []
    watch, verdicts = judge(cpu(20, *[99] * 3), ongoing={"cpu"})
    assert [verdict.kind for verdict in verdicts] == ["recovered"]
    assert watch["cpu"]["over_since"] == at(60).timestamp()


def test_after_an_incident_was_resolved_by_hand_the_count_starts_anew() -> None:
    watch, _ = judge(cpu(*[99] * 6))
    watch, _ = judge(cpu(*[99] * 6, start=360), watch=watch, ongoing={"cpu"})
    assert "over_since" not in watch["cpu"]
    watch, verdicts = judge(cpu(*[99] * 5, start=720), watch=watch)
    assert verdicts == []
    assert [verdict.kind for verdict in judge(cpu(99, start=1020), watch=watch)[1]] == ["over"]


# ---------------------------------------------------------------------------------------------------------- properties

percents = st.floats(0, 100)


@given(st.lists(st.floats(85.0001, 100), max_size=60), st.integers(0, 600))
def test_a_value_that_stays_above_the_margin_never_flaps(values: list[float], wait: int) -> None:
    assert one_by_one(cpu(*values), cpu={"threshold": 90, "for": wait}) in ([], ["over"])


@given(st.lists(percents, max_size=60), st.integers(0, 300))
def test_openings_and_recoveries_alternate(values: list[float], wait: int) -> None:
    kinds = one_by_one(cpu(*values), cpu={"threshold": 90, "for": wait})
    assert kinds == ["over", "recovered"] * (len(kinds) // 2) + ["over"] * (len(kinds) % 2)


@given(st.lists(percents, min_size=1, max_size=60), st.integers(301, 10**6), st.integers(0, 600))
def test_what_is_late_never_opens(values: list[float], late: int, wait: int) -> None:
    samples = cpu(*values)
    _, verdicts = judge(samples, now=samples[-1][0] + timedelta(seconds=late), cpu={"threshold": 90, "for": wait})
    assert verdicts == []


@given(st.lists(percents, min_size=1, max_size=40), st.integers(0, 40), st.integers(0, 300))
def test_it_makes_no_difference_how_samples_are_cut_into_reports(values: list[float], cut: int, wait: int) -> None:
    """As long as nothing is ongoing: the state after two reports is that after one."""
    samples, alert = cpu(*values), {"threshold": 101, "for": wait}
    whole, _ = judge(samples, cpu=alert)
    parts: Watch = {}
    for part in (samples[:cut], samples[cut:]):
        if part:
            parts, _ = judge(part, watch=parts, cpu=alert)
    assert parts == whole


# --------------------------------------------------------------------------------------------------------- validation


def test_a_sample_is_taken_as_it_is() -> None:
    sample = {"metric": "cpu_used", "value": 70, "timestamp": "2025-05-01T13:04:59+01:00"}
    assert servers.validate(sample) == Sample("cpu_used", datetime(2025, 5, 1, 12, 4, 59, tzinfo=UTC), 70.0)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("2025-05-01t13:04:59z", datetime(2025, 5, 1, 13, 4, 59, tzinfo=UTC)),
        ("2025-05-01 13:04:59Z", datetime(2025, 5, 1, 13, 4, 59, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("1990-12-31T15:59:60-08:00", datetime(1991, 1, 1, tzinfo=UTC)),
        ("2016-12-31t23:59:60.25z", datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2025-05-01T13:04:59.123456789Z", datetime(2025, 5, 1, 13, 4, 59, 123_456, tzinfo=UTC)),
        ("2025-05-01T13:04:59.1234567890123456789+01:00", datetime(2025, 5, 1, 12, 4, 59, 123_456, tzinfo=UTC)),
    ],
)
def test_every_time_of_rfc_3339_is_one(text: str, taken: datetime) -> None:
    assert servers.moment(text) == taken


@pytest.mark.parametrize("text", ["2025-05-01T13:60:00Z", "2025-05-01T13:04:61Z", "9999-12-31T23:59:60Z", "t", " "])
def test_no_other_text_is_a_time(text: str) -> None:
    assert servers.moment(text) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "cpu"}, {"metric": None}, {"metric": ["cpu_used"]},
        {"value": "70"}, {"value": None}, {"value": True}, {"value": -0.1},
        {"value": float("inf")}, {"value": float("nan")}, {"value": 10**400},
        {"timestamp": None}, {"timestamp": 1714557600}, {"timestamp": "yesterday"}, {"timestamp": "2025-05-01"},
        {"timestamp": "0001-01-01T00:00:00+14:00"}, {"timestamp": ""},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_sample_is_refused_in_words(fields: dict[str, Any]) -> None:
    sample = {"metric": "cpu_used", "value": 70.0, "timestamp": "2025-05-01T12:00:00Z", **fields}
    assert isinstance(servers.validate(sample), str)


@pytest.mark.parametrize("thing", [None, 1, "cpu_used", [], {}])
def test_other_things_are_no_samples(thing: object) -> None:
    assert isinstance(servers.validate(thing), str)


# ------------------------------------------------------------------------------------------------------------- alerts


def test_alerts_change_field_by_field_and_null_switches_one_off() -> None:
    changed = server_alerts.change_alerts(
        server_alerts.default_alerts(), {"cpu": {"threshold": 50}, "ram": None, "downtime": {"after": 5}, "moon": 1}
    )
    assert changed == {
        "cpu": {"threshold": 50, "for": 300},
        "ram": None,
        "disk": {"threshold": 90, "for": 0},
        "downtime": {"after": 5},
        "swap": None,
        "load": None,
        "unit_failed": None,
        "disks": {},
    }
    assert server_alerts.change_alerts(changed, {"ram": {"for": 0}})["ram"] == {"threshold": 90, "for": 0}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"cpu": {"threshold": 0}}, "alerts.cpu.threshold"),
        ({"cpu": {"threshold": 101}}, "alerts.cpu.threshold"),
        ({"ram": {"threshold": "90"}}, "alerts.ram.threshold"),
        ({"disk": {"for": -1}}, "alerts.disk.for"),
        ({"disk": {"for": True}}, "alerts.disk.for"),
        ({"downtime": {"after": 4}}, "alerts.downtime.after"),
        ({"downtime": {"after": None}}, "alerts.downtime.after"),
        ({"downtime": 5}, "alerts.downtime"),
        ([], "alerts"),
    ],
)
def test_alerts_that_cannot_be_are_refused_by_name(given: object, field: str) -> None:
    with pytest.raises(Refused) as refused:
        server_alerts.change_alerts(server_alerts.default_alerts(), given)
    assert [detail.field for detail in refused.value.details] == [field]
    assert refused.value.status == 422


@given(st.floats(0.1, 100))
def test_recovery_is_always_possible(threshold: float) -> None:
    assert 0 <= servers.recovery_level(threshold) < threshold


# ---------------------------------------------------------------------------------------------------------- severities

TWO_LEVELS = {"threshold": 90, "for": 120, "warning": {"threshold": 80, "for": 60}}


def severities(samples: list[Row]) -> list[tuple[str, str]]:
    """The verdicts, when every sample is a report of its own."""
    watch: Watch = {}
    ongoing: dict[str, str] = {}
    found = []
    for sample in samples:
        watch, verdicts = judge([sample], watch=watch, ongoing=ongoing, cpu=TWO_LEVELS)
        for verdict in verdicts:
            found.append((verdict.kind, verdict.severity))
            if verdict.kind == "over":
                ongoing[verdict.type] = verdict.severity
            else:
                ongoing.pop(verdict.type)
    return found


def test_a_warning_that_gets_worse_is_raised_and_ends_once() -> None:
    samples = cpu(85, 85, 95, 95, 95, 95, 95, 85, 70, 70)
    assert severities(samples) == [("over", "warning"), ("over", "critical"), ("recovered", "warning")]


def test_what_is_critical_at_once_is_not_a_warning_first() -> None:
    watch, verdicts = judge(cpu(95, 95, 95), cpu=TWO_LEVELS)
    assert [(verdict.type, verdict.severity) for verdict in verdicts] == [("cpu", "critical")]
    assert watch.keys() == {"cpu", "cpu.warning"}


def test_a_warning_alone_recovers_by_its_own_threshold() -> None:
    assert severities(cpu(85, 85, 85, 78, 74)) == [("over", "warning"), ("recovered", "warning")]


@pytest.mark.parametrize(
    ("warning", "field"),
    [
        ({"threshold": 90}, "alerts.cpu.warning.threshold"),
        ({"threshold": 95}, "alerts.cpu.warning.threshold"),
        ({"threshold": 0}, "alerts.cpu.warning.threshold"),
        ({"threshold": 80, "for": -1}, "alerts.cpu.warning.for"),
        ("80", "alerts.cpu.warning"),
    ],
)
def test_a_warning_level_that_makes_no_sense_is_refused(warning: object, field: str) -> None:
    with pytest.raises(Refused) as refused:
        server_alerts.change_alerts(server_alerts.default_alerts(), {"cpu": {"threshold": 90, "warning": warning}})
    assert [detail.field for detail in refused.value.details] == [field]


def test_a_warning_level_stays_until_it_is_taken_away() -> None:
    warning = {"threshold": 80, "for": 900}
    changed = server_alerts.change_alerts(server_alerts.default_alerts(), {"cpu": {"warning": warning}})
    assert changed["cpu"] == {"threshold": 90, "for": 300, "warning": {"threshold": 80, "for": 900}}
    raised = server_alerts.change_alerts(changed, {"cpu": {"threshold": 95}})["cpu"]
    assert raised
    assert raised["warning"]["threshold"] == 80
    assert "warning" not in (server_alerts.change_alerts(changed, {"cpu": {"warning": None}})["cpu"] or {})
