"""What other systems say, read by type: identities, names, severities, bad members, bounds."""

from __future__ import annotations

import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tocsin.domain import alerts, json_paths
from tocsin.domain.alerts import Alert, Known, Step
from tocsin.domain.errors import Refused
from tocsin.domain.sources import grafana
from tocsin.domain.sources.base import Left, Note, Said, Unreadable, Wrong, types

NOW = datetime(2025, 5, 1, 10, 0, tzinfo=UTC)


def read(kind: str, body: object, **settings: Any) -> list[Said]:
    return list(types()[kind].read(body, settings, NOW))


def sent(*given: object, **settings: Any) -> list[Said]:
    kind: Any = types()["alertmanager"]
    return list(kind.read_alerts([*given], settings, NOW))


def fired(**more: Any) -> dict[str, Any]:
    return {"labels": {"alertname": "DiskFull", "instance": "db1"}, "annotations": {"summary": "full"}, **more}


# --------------------------------------------------------------------------------------------------- identities, names


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # prometheus/common, model/signature_test.go and labelset_test.go
        ({}, f"{14695981039346656037:016x}"),
        ({"name": "garland, briggs", "fear": "love is not enough"}, f"{5799056148416392346:016x}"),
    ],
)  # fmt: skip
def test_an_alerts_fingerprint_is_the_one_that_prometheus_computes(labels: dict[str, str], expected: str) -> None:
    assert alerts.fingerprint(labels) == expected


def test_ignored_labels_do_not_tell_two_alerts_apart() -> None:
    first, second = ({"alertname": "Down", "replica": each} for each in "ab")
    assert alerts.fingerprint(first) != alerts.fingerprint(second)
    assert alerts.fingerprint(first, {"replica"}) == alerts.fingerprint(second, {"replica"})
    assert alerts.fingerprint(first, {"replica"}) == alerts.fingerprint({"alertname": "Down"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("DiskFull", "DiskFull"), ("Disk is full", "Disk_is_full"), ("Диск", "____"), ("", "alert"), ("drill", "drill_"),
     ("x" * 100, "x" * 64), ("a\nb", "a_b")],
)  # fmt: skip
def test_an_alerts_name_is_made_fit_for_the_type_of_an_incident(name: str, expected: str) -> None:
    assert alerts.incident_type(name) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("critical", "critical"), ("Warning", "warning"), ("info", "info"), ("error", "critical"), ("page", "critical"),
     (None, "critical"), (5, "critical"), ("none", "info")],
)  # fmt: skip
def test_severities_of_others_are_ours(word: object, expected: str) -> None:
    assert alerts.severity(word) == expected


def test_details_that_are_too_long_are_cut_and_say_so() -> None:
    long = {"labels": {"alertname": "x"}, "annotations": {f"a{number}": "y" * 5_000 for number in range(50)}}
    fitted = alerts.fitted(long)
    assert fitted["truncated"] is True
    assert fitted["labels"] == {"alertname": "x"}
    assert alerts.fitted({"labels": {"a": "b"}}) == {"labels": {"a": "b"}}


# ---------------------------------------------------------------------------------------------------------- prometheus


def test_an_alert_without_an_end_lasts_five_minutes_and_one_whose_end_is_past_is_over() -> None:
    [open_, later, over] = sent(
        fired(startsAt="2025-05-01T09:59:00Z"),
        fired(startsAt="2025-05-01T09:59:00Z", endsAt="2025-05-01T10:04:00.123456789Z"),
        fired(startsAt="2025-05-01T09:50:00Z", endsAt="2025-05-01T09:59:00+00:00"),
    )
    assert isinstance(open_, Alert)
    assert isinstance(later, Alert)
    assert isinstance(over, Alert)
    assert (open_.status, open_.ends_at) == ("firing", NOW + timedelta(minutes=5))
    assert (later.status, later.ends_at) == ("firing", NOW + timedelta(minutes=4, microseconds=123456))
    assert over.status == "resolved"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"labels": {}}, "at least one label pair required"),
        ({"labels": {"alertname": ""}}, "at least one label pair required"),
        ({"labels": {"alert-name": "x"}}, "invalid label name 'alert-name'"),
        ({"labels": {"alertname": 5}}, "labels.alertname must be a string"),
        ({"labels": {"alertname": "x"}, "annotations": []}, "annotations must be an object"),
        ({"labels": {"alertname": "x"}, "startsAt": "yesterday"}, "startsAt must be a time"),
        ({"labels": {"alertname": "x"}, "startsAt": "2025-05-01T10:00:00Z", "endsAt": "2025-05-01T09:00:00Z"},
         "start time must be before end time"),
        ({"labels": {f"l{number}": "x" for number in range(201)}}, "more than 200 labels"),
        ("no alert", "it must be an object"),
    ],
)  # fmt: skip
def test_bad_alerts_are_named_and_their_neighbours_are_taken(wrong: object, reason: str) -> None:
    first, second, third = sent(fired(), wrong, fired())
    assert isinstance(first, Alert)
    assert isinstance(third, Alert)
    assert isinstance(second, Wrong)
    assert second.reason.startswith("[1]: ")
    assert reason in second.reason


def test_an_alert_says_its_summary_and_description_and_links_to_where_it_came_from() -> None:
    [alert] = sent({
        "labels": {"alertname": "DiskFull", "severity": "warning"},
        "annotations": {"summary": "The disk is full", "description": "98 % are used"},
        "generatorURL": "https://prometheus.example.com/graph",
    })  # fmt: skip
    assert isinstance(alert, Alert)
    assert (alert.type, alert.message) == ("DiskFull", "The disk is full\n98 % are used")
    assert (alert.severity, alert.url) == ("warning", "https://prometheus.example.com/graph")
    assert alert.details["labels"]["severity"] == "warning"
    [silent] = sent({"labels": {"alertname": "DiskFull", "job": "a", "instance": "b"}, "generatorURL": "javascript:1"})
    assert isinstance(silent, Alert)
    assert (silent.message, silent.url) == ("DiskFull: instance=b job=a", None)


def test_both_entrances_give_an_alert_the_same_key() -> None:
    one = {**fired()["labels"], "replica": "a"}
    [by_api] = sent({"labels": one}, ignore_labels=["replica"])
    body = {"version": "4", "truncatedAlerts": 3, "alerts": [
        {"status": "firing", "labels": {**one, "replica": "b"}, "endsAt": "0001-01-01T00:00:00Z"},
        {"status": "odd", "labels": one},
    ]}  # fmt: skip
    by_webhook, wrong, left = read("alertmanager", body, ignore_labels=["replica"])
    assert isinstance(by_api, Alert)
    assert isinstance(by_webhook, Alert)
    assert (by_webhook.dedup_key, by_webhook.ends_at) == (by_api.dedup_key, None)
    assert wrong == Wrong("alerts[1]: status must be firing or resolved")
    assert left == Left(3)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("alertmanager", []), ("alertmanager", {"version": "3", "alerts": []}), ("alertmanager", {"version": "4"}),
        ("grafana", {"state": "alerting", "title": "legacy"}), ("grafana", None),
        ("uptime_kuma", {}), ("uptime_kuma", {"msg": "x", "heartbeat": {"status": 7}, "monitor": {"id": 1}}),
        ("uptime_kuma", {"msg": "x", "heartbeat": {"status": True}, "monitor": {"id": 1}}),
        ("pagerduty", {}), ("pagerduty", {"event_action": "trigger"}), ("pagerduty", {"event_action": "resolve"}),
        ("pagerduty", {"event_action": "resolve", "dedup_key": "x" * 256}), ("pagerduty", {"event_action": ["x"]}),
        ("pagerduty", {"event_action": "trigger", "payload": {"summary": "a", "source": "b", "severity": "bad"}}),
        ("generic", {}), ("generic", []), ("generic", {"dedup_key": "x" * 256}),
        ("generic", {"dedup_key": "a", "status": "perhaps"}),
    ],
)  # fmt: skip
def test_a_body_that_is_not_one_of_its_type_says_why(kind: str, body: object) -> None:
    with pytest.raises(Unreadable) as error:
        read(kind, body)
    assert len(str(error.value)) > 10


# -------------------------------------------------------------------------------------------------------------- others


def test_grafana_signs_the_body_or_a_time_and_the_body() -> None:
    body, secret, now = b'{"alerts":[]}', "what-it-signs-with", 1_746_093_600
    plain = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    timed = hmac.new(secret.encode(), b"%d:" % now + body, hashlib.sha256).hexdigest()
    assert grafana.is_signed(body, secret, plain, None, now)
    assert grafana.is_signed(body, secret, timed, str(now), now + 299)
    assert not grafana.is_signed(body, secret, timed, str(now), now + 301)
    assert not grafana.is_signed(body, secret, plain, str(now), now)
    assert not grafana.is_signed(body + b" ", secret, plain, None, now)
    for odd in ("", "é", "0" * 64):
        assert not grafana.is_signed(body, secret, odd, None, now)
    assert not grafana.is_signed(body, secret, timed, "٣", now)


def test_a_mapping_finds_its_fields_wherever_they_are() -> None:
    mapping = {"dedup_key": "$.check.id", "status": "$.check.state", "title": "$.check.name", "message": "$.text",
               "severity": "$.check.level", "url": "$.links[0]"}
    body = {"check": {"id": 7, "state": "CRITICAL", "name": "web", "level": "minor"}, "text": "Slow",
            "links": ["https://example.com/7"]}
    [alert] = read("generic", body, map=mapping)
    assert isinstance(alert, Alert)
    assert (alert.dedup_key, alert.status, alert.type, alert.message) == ("7", "firing", "web", "Slow")
    assert (alert.severity, alert.url, alert.details) == ("warning", "https://example.com/7", body)


def test_a_mapping_can_find_several_alerts_in_one_body_and_names_the_bad_ones() -> None:
    mapping = {"each": "$.events[*]", "dedup_key": "$.id", "status": "$.ok", "title": "backup_failed"}
    found = read("generic", {"events": [{"id": "a", "ok": False}, {"ok": True}, {"id": "c", "ok": True}]}, map=mapping)
    assert [getattr(each, "dedup_key", each) for each in found] == [
        "a", Wrong("alert 1: dedup_key is missing: it says which alerts are the same"), "c"
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["$..*..*..*..none", "$..[?@..none]", "$[*][?count($..*) > 99999]"])
def test_no_mapping_runs_for_longer_than_its_bound(path: str) -> None:
    body = {"a": [[{"b": [number] * 5} for number in range(100)] for _ in range(50)]}
    kind = types()["generic"]
    kind.checked({"map": {"dedup_key": path}})
    took = []
    for _ in range(5):  # the least of a few: a machine that is busy elsewhere makes each of them longer
        began = time.thread_time()
        with pytest.raises(Unreadable, match="needs too many steps"):
            read("generic", body, map={"dedup_key": path, "title": path})
        took.append(time.thread_time() - began)
    assert min(took) < 0.2


def test_a_mapping_of_names_finds_hundreds_of_alerts_in_one_body() -> None:
    mapping = {"each": "$.events[*]", "dedup_key": "$.check.id", "title": "$.check.name", "url": "$.links[0]"}
    events = [{"check": {"id": number, "name": "web"}, "links": ["https://example.com"]} for number in range(500)]
    took = []
    for _ in range(5):
        began = time.thread_time()
        assert len(read("generic", {"events": events}, map=mapping)) == 500
        took.append(time.thread_time() - began)
    assert min(took) < 0.05


def test_regular_expressions_are_refused_in_paths_because_nothing_interrupts_them() -> None:
    for path in ("$[?match(@.a, '(a*)*b')]", "$[?search(@.a, 'a')]", "$[", "x" * 501):
        with pytest.raises(json_paths.Faulty):
            json_paths.check(path)
    with pytest.raises(Refused):
        types()["generic"].checked({"map": {"dedup_key": "$..a[?match(@, 'a')]"}})


# --------------------------------------------------------------------------------------------------- what follows of it


def known(**more: Any) -> Known:
    return Known(**{"type": "DiskFull", "digest": ALERT.digest, "starts_at": NOW, "closed_at": None, **more})


ALERT = Alert("k", "firing", "DiskFull", "full", starts_at=NOW)
OVER = Alert("k", "resolved", "DiskFull", "", ends_at=NOW + timedelta(minutes=1))
LATER = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("alert", "is_known", "step"),
    [
        (ALERT, None, Step.OPEN),
        (ALERT, known(), Step.PUSH_ON),
        (ALERT, known(digest=b"other"), Step.CHANGE),
        (OVER, known(), Step.RESOLVE),
        (OVER, None, Step.NOTHING),
        (OVER, known(starts_at=LATER), Step.NOTHING),
        # somebody has resolved it here meanwhile
        (ALERT, known(closed_at=LATER), Step.PUSH_ON),
        (Alert("k", "firing", "DiskFull", "full", starts_at=LATER + timedelta(seconds=1)), known(closed_at=LATER),
         Step.OPEN),
        (Alert("k", "firing", "DiskFull", "full", anew=True), known(closed_at=LATER), Step.OPEN),
        (Alert("k", "firing", "DiskFull", "full"), known(closed_at=LATER), Step.PUSH_ON),
        (Alert("k", "acknowledged", "DiskFull", ""), known(), Step.ACKNOWLEDGE),
        (Alert("k", "acknowledged", "DiskFull", ""), known(closed_at=LATER), Step.NOTHING),
        (Alert("k", "acknowledged", "DiskFull", ""), None, Step.NOTHING),
    ],
)  # fmt: skip
def test_what_follows_from_an_alert(alert: Alert, is_known: Known | None, step: Step) -> None:
    assert alerts.judge(alert, is_known) is step


def test_of_two_mentions_the_earliest_start_and_the_latest_words_count() -> None:
    later = Alert("k", "firing", "DiskFull", "fuller", starts_at=LATER)
    merged = alerts.merged(ALERT, later)
    assert (merged.starts_at, merged.message) == (NOW, "fuller")
    assert alerts.merged(later, ALERT).starts_at == NOW
    assert alerts.merged(ALERT, OVER) is OVER


def test_what_uptime_kuma_says_of_no_heartbeat_is_a_note() -> None:
    assert read("uptime_kuma", {"heartbeat": None, "monitor": None, "msg": "x Testing"}) == [Note("x Testing")]
