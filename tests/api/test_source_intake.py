"""What is sent to sources: one incident for each alert, documented answers, and what is bad refused with a reason."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests import sent_alerts
from tests.api.test_sources import incidents, made, path_of
from tests.waiting import until

API = "/api/v2/alerts"


def alert(name: str = "DiskFull", *, ends: int | None = 240, starts: int = -60, **labels: str) -> dict[str, Any]:
    """As Prometheus sends it: `ends` and `starts` are seconds from now."""
    now = datetime.now(UTC)
    found: dict[str, Any] = {
        "labels": {"alertname": name, **labels}, "annotations": {"summary": f"{name} is on"},
        "generatorURL": "http://prometheus.example.com/graph", "startsAt": _at(now, starts),
    }  # fmt: skip
    return found if ends is None else {**found, "endsAt": _at(now, ends)}


def _at(now: datetime, seconds: int) -> str:
    return (now + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


async def send(client: httpx.AsyncClient, path: str, body: object, status: int = 200) -> Any:
    """What it is answered. As every sender does, one that is told so tries again in a moment."""
    answer = await client.post(path, json=body)
    while answer.status_code == 503 != status:
        await asyncio.sleep(0.5)
        answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_prometheus_alerts_are_one_incident_each_until_they_are_over(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "alertmanager")) + API
    firing = [alert(instance="a", severity="warning"), alert(instance="b")]
    took = await send(app_client, path, firing)
    assert took == {"status": "success", "opened": 2, "changed": 0, "ongoing": 0, "resolved": 0, "nothing": 0}
    assert (await send(app_client, path, firing))["ongoing"] == 2
    found = await incidents(app_client)
    assert [(each["incident_type"], each["severity"]) for each in found] == [
        ("DiskFull", "critical"), ("DiskFull", "warning")
    ]  # fmt: skip
    read = (await app_client.get(f"/api/v1/incidents/{found[1]['uuid']}")).json()
    assert read["details"]["labels"] == {"alertname": "DiskFull", "instance": "a", "severity": "warning"}
    assert len(read["dedup_key"]) == 16
    over = await send(app_client, path, [alert(instance="a", severity="warning", ends=-1), alert(instance="b")])
    assert (over["resolved"], over["ongoing"]) == (1, 1)
    [ended] = await incidents(app_client, "resolved")
    assert ended["uuid"] == found[1]["uuid"]
    # Prometheus says so again for a quarter of an hour.
    assert (await send(app_client, path, [alert(instance="a", severity="warning", ends=-1)]))["nothing"] == 1


async def test_what_a_body_does_not_mention_is_not_resolved(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "alertmanager")) + API
    await send(app_client, path, [alert(instance="a"), alert(instance="b")])
    await send(app_client, path, [alert(instance="b")])
    assert (await send(app_client, path, []))["opened"] == 0
    assert len(await incidents(app_client)) == 2


async def test_good_alerts_of_a_body_with_bad_ones_are_kept_and_the_answer_names_the_bad(
    app_client: httpx.AsyncClient,
) -> None:
    source = await made(app_client, "alertmanager")
    body = [alert(instance="a"), {"labels": {}}, {"labels": {"alertname": 5}}, alert(instance="b")]
    answer = await send(app_client, path_of(source) + API, body, 400)
    assert answer["message"] == (
        "These cannot be taken: [1]: at least one label pair required; [2]: labels.alertname must be a string. "
        "The rest was taken"
    )
    assert len(await incidents(app_client)) == 2
    [kept] = (await app_client.get(f"/api/v1/sources/{source['uuid']}/bodies")).json()["data"]
    assert kept["became"].endswith("Of the rest: 2 opened")


async def test_the_latest_annotations_count_and_a_worse_severity(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "pagerduty"))
    await send(app_client, path, sent_alerts.event(severity="info"), 202)
    await send(app_client, path, sent_alerts.event(severity="error", summary="It is fuller"), 202)
    await send(app_client, path, sent_alerts.event(severity="info", summary="It is fullest"), 202)
    [incident] = await incidents(app_client)
    assert incident["error_message"] == "It is fullest (db1.example.com)"
    assert incident["severity"] == "critical"


async def test_prometheus_and_an_alertmanager_meet_in_one_incident(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "alertmanager", settings={"ignore_labels": ["replica"]}))
    await send(app_client, path + API, [alert(instance="a", replica="one")])
    told = sent_alerts.told(instance="a", replica="two")
    assert (await send(app_client, path, sent_alerts.alertmanager(told)))["opened"] == 0
    assert len(await incidents(app_client)) == 1
    over = sent_alerts.told("resolved", ends=alert(ends=1)["endsAt"], instance="a", replica="three")
    took = await send(app_client, path, sent_alerts.alertmanager(over, status="resolved", truncatedAlerts=2))
    assert took["resolved"] == 1
    assert not await incidents(app_client)


async def test_an_end_that_comes_late_does_not_end_what_has_begun_since(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "alertmanager"))
    late = sent_alerts.told("resolved", "2025-05-01T10:00:00Z", "2025-05-01T10:05:00Z")
    now = sent_alerts.told(starts="2025-05-01T10:06:00Z")
    await send(app_client, path, sent_alerts.alertmanager(now))
    assert (await send(app_client, path, sent_alerts.alertmanager(late)))["nothing"] == 1
    assert len(await incidents(app_client)) == 1


async def test_what_somebody_has_resolved_here_stays_so_until_it_begins_anew(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "alertmanager")) + API
    await send(app_client, path, [alert()])
    [incident] = await incidents(app_client)
    await app_client.post(f"/api/v1/incidents/{incident['uuid']}/resolve")
    assert (await send(app_client, path, [alert()]))["opened"] == 0
    assert not await incidents(app_client)
    assert (await send(app_client, path, [alert(starts=60)]))["opened"] == 1


async def test_grafana_is_believed_only_with_its_signature_where_a_secret_is_set(app_client: httpx.AsyncClient) -> None:
    secret = "what-Grafana-signs-with"
    source = await made(app_client, "grafana", signing_secret=secret)
    assert source["signing_secret"] == "********"
    body, path = json.dumps(sent_alerts.grafana()).encode(), path_of(source)
    assert (await app_client.post(path, content=body)).status_code == 401
    moment = str(int(time.time()))
    signature = hmac.new(secret.encode(), moment.encode() + b":" + body, hashlib.sha256).hexdigest()
    headers = {"X-Grafana-Alerting-Signature": signature, "X-Grafana-Alerting-Timestamp": moment}
    assert (await app_client.put(path, content=body, headers=headers)).json()["opened"] == 1
    [incident] = await incidents(app_client)
    assert incident["incident_type"] == "High_memory_usage"
    over = json.dumps(sent_alerts.grafana("resolved")).encode()
    headers = {"X-Grafana-Alerting-Signature": hmac.new(secret.encode(), over, hashlib.sha256).hexdigest()}
    assert (await app_client.post(path, content=over, headers=headers)).json()["resolved"] == 1


async def test_uptime_kuma_says_down_and_up(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "uptime_kuma"))
    assert (await send(app_client, path, sent_alerts.uptime_kuma(0)))["opened"] == 1
    [incident] = await incidents(app_client)
    assert incident["incident_type"] == "Web_shop"
    assert incident["error_message"] == "Web shop: connect ECONNREFUSED 192.0.2.7:443"
    assert (await send(app_client, path, sent_alerts.uptime_kuma(2)))["resolved"] == 0
    assert (await send(app_client, path, sent_alerts.uptime_kuma(1)))["resolved"] == 1
    test = {"heartbeat": None, "monitor": None, "msg": "Test Webhook Testing"}
    assert (await send(app_client, path, test))["opened"] == 0


async def test_pagerduty_answers_are_as_there_and_an_acknowledgement_is_ours(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "pagerduty", name="Old monitor")) + "/v2/enqueue"
    taken = {"status": "success", "message": "Event processed", "dedup_key": "db1/disk"}
    assert await send(app_client, path, sent_alerts.event("resolve"), 202) == taken  # which resolves nothing
    assert await send(app_client, path, sent_alerts.event(), 202) == taken
    [incident] = await incidents(app_client)
    assert incident["incident_type"] == "disk_full"
    assert await send(app_client, path, sent_alerts.event("acknowledge"), 202) == taken
    [incident] = await incidents(app_client)
    assert incident["acknowledged_by"] == "Old monitor"
    assert await send(app_client, path, sent_alerts.event("resolve"), 202) == taken
    assert not await incidents(app_client)
    refused = await send(app_client, path, {"event_action": "trigger"}, 400)
    assert refused == {"status": "invalid event", "message": "Event object is invalid",
                       "errors": ["'payload' must be an object"]}
    wrong = await send(app_client, "/v2/enqueue", {**sent_alerts.event(), "routing_key": "x" * 32}, 400)
    assert wrong["errors"] == ["'routing_key' is not the key of a source here"]


async def test_a_change_event_is_kept_as_a_note(app_client: httpx.AsyncClient) -> None:
    source = await made(app_client, "pagerduty")
    body = {"routing_key": path_of(source).removeprefix("/in/"),
            "payload": {"summary": "Version 7 was deployed", "source": "ci", "timestamp": "2025-05-01T10:00:00Z"}}
    assert await send(app_client, "/v2/change/enqueue", body, 202) == {
        "status": "success", "message": "Change event processed"
    }  # fmt: skip
    [kept] = (await app_client.get(f"/api/v1/sources/{source['uuid']}/bodies")).json()["data"]
    assert (kept["kind"], kept["became"]) == ("note", "a note, not an alert: Version 7 was deployed")
    assert not await incidents(app_client)


async def test_alerts_with_the_same_key_of_two_sources_are_two(app_client: httpx.AsyncClient) -> None:
    for _ in range(2):
        source = await made(app_client)
        assert (await send(app_client, path_of(source), {"dedup_key": "a", "title": "x"}))["opened"] == 1
    assert len(await incidents(app_client)) == 2


async def test_a_thousand_alerts_in_one_body_are_all_taken_or_none(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    path = path_of(await made(app_client, "alertmanager")) + API
    body = [alert(instance=f"host-{number}") for number in range(1_000)]
    assert (await send(app_client, path, body))["opened"] == 1_000
    assert await pool.fetchval("SELECT count(DISTINCT created_at) FROM incidents") == 1
    assert await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM incidents") == 1
    over = [alert(instance=f"host-{number}", ends=-1) for number in range(1_000)]
    assert (await send(app_client, path, over))["resolved"] == 1_000
    assert await pool.fetchval("SELECT count(*) FROM alerts") == 0


async def test_bodies_that_come_at_once_neither_lose_nor_repeat_an_alert(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "alertmanager")) + API
    bodies = [[alert(instance=f"{number % 20}-{index}") for index in range(10)] for number in range(60)]
    took = await asyncio.gather(*[send(app_client, path, body) for body in bodies])
    assert sum(each["opened"] for each in took) == 200
    assert sum(sum(each[name] for name in ("opened", "ongoing", "nothing", "changed")) for each in took) == 600
    keys = [str(number % 5) for number in range(100)]
    generic = path_of(await made(app_client))
    said = ("firing", "resolved")
    await asyncio.gather(*[
        send(app_client, generic, {"dedup_key": key, "title": "x", "status": said[number // 5 % 2]})
        for number, key in enumerate(keys)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\x1f\x8b\x08abc", 400, "compressed"),
        (b"[" * 10_000 + b"]" * 10_000, 400, "nested too deeply"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "nested too deeply"),
        (json.dumps([{"labels": {f"l{number}": "x" for number in range(100_000)}}]).encode(), 413, "too large"),
        (json.dumps([{"labels": {f"l{number}": "x" for number in range(10_000)}}]).encode(), 400, "200 labels"),
        (b"[" + b"1," * 70_000 + b"1]", 413, "too large"),
        (b"[" + b"9" * 50_000 + b"]", 400, "must be an object"),
        (b'[{"labels": {"alertname": "\\ud800"}, "startsAt": 9e999}]', 400, "startsAt"),
    ],
    ids=["nothing", "half", "gzip", "deep lists", "deep objects", "100,000 labels", "10,000 labels", "many values",
         "a long number", "a lone surrogate"],
)  # fmt: skip
async def test_bad_bodies_are_refused_with_their_reason_and_kept(
    app_client: httpx.AsyncClient, body: bytes, status: int, reason: str
) -> None:
    source = await made(app_client, "alertmanager")
    began = time.monotonic()
    answer = await app_client.post(path_of(source) + API, content=body)
    assert time.monotonic() - began < 10
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["message"]
    [kept] = (await app_client.get(f"/api/v1/sources/{source['uuid']}/bodies")).json()["data"]
    assert (kept["kind"], kept["size"]) == ("refused", len(body))
    assert reason in kept["became"]


async def test_what_cannot_be_stored_is_replaced_and_nothing_else_is_lost(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client))
    body = b'{"dedup_key": "a\\u0000b", "title": "x", "message": "half \\ud83d", "number": 123456789012345678901234567}'
    answer = await app_client.post(path, content=body)
    assert answer.status_code == 200, answer.text
    [incident] = await incidents(app_client)
    read = (await app_client.get(f"/api/v1/incidents/{incident['uuid']}")).json()
    assert read["dedup_key"] == "a\ufffdb"
    assert read["details"]["message"] == "half \ufffd"
    assert read["details"]["number"] == "123456789012345678901234567"


@pytest.mark.parametrize("path", ["/in/x", "/in/" + "x" * 32, "/in/" + "é" * 32, "/in/" + "x" * 4_000])
async def test_a_wrong_address_is_not_found(visitor: httpx.AsyncClient, path: str) -> None:
    for rest in ("", API, "/v2/enqueue", "/v2/change/enqueue"):
        assert (await visitor.post(path + rest, json=[])).status_code == 404


async def test_an_address_of_another_type_says_so(app_client: httpx.AsyncClient) -> None:
    path = path_of(await made(app_client, "grafana"))
    answer = await send(app_client, path + API, [], 400)
    assert answer["message"] == "This source is of type grafana, and this address is for alertmanager"
    answer = await send(app_client, path + "/v2/enqueue", {}, 400)
    assert "pagerduty" in answer["message"]


async def test_while_the_database_is_away_the_answer_is_503_and_never_429(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, database: str
) -> None:
    path = path_of(await made(app_client, "alertmanager")) + API
    await pool.execute("ALTER TABLE alerts RENAME TO gone")
    assert (await app_client.post(path, json=[alert()])).status_code == 503
    await pool.execute("ALTER TABLE gone RENAME TO alerts")

    async def again() -> bool:
        return bool((await app_client.post(path, json=[alert()])).status_code == 200)

    await until(again)
    assert len(await incidents(app_client)) == 1
