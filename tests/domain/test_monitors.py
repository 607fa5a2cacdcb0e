"""What follows from a check: pure, so told as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tocsin.domain import ids, monitors
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import MonitorConfig, Open, Resolve, Target, Verdict
from tocsin.storage.monitoring.monitors import Monitor


@pytest.mark.parametrize(
    ("failures", "problem", "confirmations", "ongoing", "verdict"),
    [
        (1, None, 2, set(), None),
        (1, "timeout", 2, set(), None),
        (2, "timeout", 2, set(), Open("timeout")),
        (1, "timeout", 1, set(), Open("timeout")),
        (2, "http_status", 2, set(), Open("http_status")),
        (3, "timeout", 2, {"timeout"}, None),
        (3, "http_status", 2, {"timeout"}, None),
        (7, "timeout", 2, set(), Open("timeout")),
        (1, None, 2, {"timeout"}, Resolve(("timeout",))),
        (1, None, 2, {"keyword", "dns_error"}, Resolve(("dns_error", "keyword"))),
        (2, "packet_loss", 2, set(), Open("packet_loss", "warning")),
        (3, "packet_loss", 2, {"packet_loss"}, None),
        (3, "timeout", 2, {"packet_loss"}, Open("timeout")),  # what was a warning has become worse
        (3, "packet_loss", 2, {"timeout"}, None),
        (1, None, 2, {"packet_loss", "timeout"}, Resolve(("packet_loss", "timeout"))),
        (1, None, 2, {"said_from_outside"}, None),
        (2, "timeout", 2, {"said_from_outside"}, Open("timeout")),
    ],
)
def test_enough_failures_in_a_row_open_one_incident_and_the_first_good_check_resolves(
    failures: int, problem: Any, confirmations: int, ongoing: set[str], verdict: Verdict
) -> None:
    assert monitors.judge(failures, problem, confirmations, ongoing) == verdict


def test_so_many_good_checks_in_a_row_end_an_incident_as_recoveries_says() -> None:
    verdicts = [monitors.judge(good, None, 2, {"timeout"}, recoveries=3) for good in (1, 2, 3, 4)]
    assert verdicts == [None, None, Resolve(("timeout",)), Resolve(("timeout",))]
    assert monitors.judge(3, "timeout", 2, {"timeout"}, recoveries=3) is None, "failed checks are no good ones"


@pytest.mark.parametrize(
    ("expected", "good", "bad"),
    [
        ("2xx", [200, 204, 299], [199, 301, 404, 500]),
        (204, [204], [200]),
        ([200, "3xx"], [200, 301, 399], [201, 404]),
        ("5xx", [503], [200]),
    ],
)
def test_a_status_is_expected_by_number_by_class_or_by_list(expected: Any, good: list[int], bad: list[int]) -> None:
    assert all(monitors.is_expected(status, expected) for status in good)
    assert not any(monitors.is_expected(status, expected) for status in bad)


@pytest.mark.parametrize(
    ("given", "kept", "words"),
    [
        (200, 200, "200"),
        ("204", 204, "204"),
        ("2XX", "2xx", "2xx"),
        ([200, "204"], [200, 204], "200 or 204"),
        ([200, 204, "3xx"], [200, 204, "3xx"], "200, 204 or 3xx"),
    ],
)
def test_expected_statuses_are_kept_in_the_form_they_were_given(given: Any, kept: Any, words: str) -> None:
    assert monitors.parse_expected(given) == kept
    assert monitors.worded(kept) == words


@pytest.mark.parametrize("given", [0, 99, 600, True, "", "2x", "6xx", "OK", "٢٠٠", [], [[200]], [None], [200] * 51, {}])
def test_what_is_no_status_is_refused_by_name(given: Any) -> None:
    with pytest.raises(Refused) as refused:
        monitors.parse_expected(given)
    assert [detail.field for detail in refused.value.details] == ["expected_status"]


@pytest.mark.parametrize(
    ("paused", "checked", "incidents", "word"),
    [
        (False, False, False, "pending"),
        (False, True, False, "success"),
        (False, True, True, "error"),
        (False, False, True, "error"),
        (True, True, True, "paused"),
    ],
)
def test_a_status_is_one_word(paused: bool, checked: bool, incidents: bool, word: str) -> None:
    assert monitors.status(paused=paused, checked=checked, incidents=incidents) == word


@pytest.mark.parametrize(
    ("interval", "timeout", "confirmations", "wrong"),
    [
        (60, 30, 2, []),
        (5, 0.1, 1, []),
        (4.9, 30, 2, ["interval"]),
        (60, 0, 0, ["timeout", "confirmations"]),
        (float("inf"), 121, 101, ["interval", "timeout", "confirmations"]),
    ],
)
def test_numbers_out_of_bounds_are_all_named(
    interval: float, timeout: float, confirmations: int, wrong: list[str]
) -> None:
    wanted = MonitorConfig("name", Target("https://example.com", "http", timeout), interval, confirmations)
    assert [detail.field for detail in monitors.check_numbers(wanted, 5)] == wrong


@pytest.mark.parametrize(("uptime", "word"), [(0.0, "pending"), (0.1, "success"), (None, "success")])
def test_a_monitor_that_was_never_found_good_is_no_success(uptime: float | None, word: str) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    wanted = MonitorConfig("name", Target("https://example.com", "http", 30), 60, 2)
    assert Monitor(ids.new(), ids.new(), 1, wanted, now, now, now, None, uptime, ()).status == word
