"""What agents report: stored once, judged at once, at a cost that does not grow with the number of servers."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.reports import OK, URL, ongoing, only_server, report, sample
from tocsin.domain import ids, server_alerts
from tocsin.domain.reports import Report
from tocsin.storage.monitoring import servers
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.group_commit import GroupCommit

# ---------------------------------------------------------------------------------------------------- the agent's form


async def test_the_first_report_makes_the_server_and_answers_as_printed(app_client: httpx.AsyncClient) -> None:
    body = {
        "attributes": {
            "motherboard_id": "unique_mb_id_123", "mac_address": "00-0a-95-9d-67-16", "cpu_cores": 4,
            "cpu_model": "A CPU", "hostname": "my-server", "public_ip": "203.0.113.10", "private_ip": "10.0.0.4",
            "operating_system": "linux", "uptime": 1234, "kernel_version": "6.8.0",
            "disk_total_bytes": 512000000000, "memory_total_bytes": 17179869184,
        },
        "metrics": [
            {"metric": "cpu_used", "value": 70.0, "timestamp": "2025-05-01T10:00:00Z"},
            {"metric": "mem_used_b", "value": 6000000000.0, "timestamp": "2025-05-01T10:00:00Z"},
        ],
        "agent_version": "1.2.3",
    }  # fmt: skip
    answer = await app_client.post(URL, json=body)
    assert answer.status_code == 201
    assert answer.json() == {"success_count": 2, "failure_count": 0, "message": OK}
    server = await only_server(app_client)
    assert {name: server[name] for name in body["attributes"] if name != "uptime"} == {  # type: ignore[attr-defined]
        name: value for name, value in body["attributes"].items() if name != "uptime"  # type: ignore[attr-defined]
    }
    assert server["uuid"].startswith("SRV")
    assert server["agent_version"] == "1.2.3"
    assert server["last_metrics"] == {
        "cpu_used": {"value": 70.0, "timestamp": "2025-05-01T10:00:00Z"},
        "mem_used_b": {"value": 6000000000.0, "timestamp": "2025-05-01T10:00:00Z"},
    }


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}"])
async def test_a_token_works_with_and_without_the_word_bearer(
    app_client: httpx.AsyncClient, project: Any, form: str
) -> None:
    headers = {"Authorization": form.format(project.api_token)}
    assert (await app_client.post(URL, json=report(), headers=headers)).status_code == 201


async def test_without_a_good_token_nothing_is_taken(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.post(URL, json=report(), headers={"Authorization": "nonsense"})
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert (await app_client.get("/api/v1/servers")).json() == []


async def test_the_identity_is_the_motherboard_within_the_project(app_client: httpx.AsyncClient) -> None:
    for hostname in ("web-1", "web-1", "web-2"):
        await app_client.post(URL, json=report(hostname=hostname))
    assert (await only_server(app_client))["hostname"] == "web-2"
    await app_client.post(URL, json=report(motherboard_id="mb-2"))
    assert len((await app_client.get("/api/v1/servers")).json()) == 2


async def test_attributes_that_are_left_out_stay_and_loose_types_are_read(app_client: httpx.AsyncClient) -> None:
    await app_client.post(URL, json=report(cpu_cores="4", memory_total_bytes=1000.0, kernel_version=6))
    await app_client.post(URL, json=report(cpu_cores="many", memory_total_bytes=None, disk_total_bytes=-1, hostname={}))
    server = await only_server(app_client)
    assert (server["cpu_cores"], server["memory_total_bytes"], server["kernel_version"]) == (4, 1000, "6")
    assert server["disk_total_bytes"] is None


async def test_bad_samples_fail_alone(app_client: httpx.AsyncClient) -> None:
    bad = [sample("cpu_used", 101), sample("moon", 1), sample("cpu_used", "7"), {"metric": "cpu_used", "value": 1}, 7]
    answer = await app_client.post(URL, json=report(sample("cpu_used", 7), *bad))
    assert answer.status_code == 201
    told = answer.json()
    assert (told["success_count"], told["failure_count"]) == (1, 5)
    assert told["message"] != OK
    assert [error["field"] for error in told["errors"]] == [f"metrics[{index}]" for index in range(1, 6)]


@pytest.mark.parametrize("value", ["1e400", "-1e400", "9" * 5000])
async def test_a_number_that_nothing_can_hold_is_one_bad_sample(app_client: httpx.AsyncClient, value: str) -> None:
    body = json.dumps(report(sample("cpu_used", 7), sample("mem_used_b", 12.5)))
    answer = await app_client.post(URL, content=body.replace("12.5", value).encode())
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["success_count"], told["failure_count"]) == (1, 1)
    assert told["errors"][0]["field"] == "metrics[1]"


async def test_a_sample_of_a_clock_that_was_never_set_is_a_bad_one(app_client: httpx.AsyncClient) -> None:
    old = [sample("cpu_used", 7, datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 1970, 1999)]
    told = (await app_client.post(URL, json=report(*old, sample("cpu_used", 7)))).json()
    assert (told["success_count"], told["failure_count"]) == (1, 3)
    assert "2000" in told["errors"][0]["message"]


async def test_a_report_without_samples_still_says_that_the_server_lives(app_client: httpx.AsyncClient) -> None:
    assert (await app_client.post(URL, json=report())).json()["success_count"] == 0
    assert (await only_server(app_client))["last_metrics"] == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"agent_version": "unknown"}, "agent_version"),
        ({"agent_version": ""}, "agent_version"),
        ({"agent_version": ...}, "agent_version"),
        ({"attributes": {"motherboard_id": "unknown"}}, "attributes.motherboard_id"),
        ({"attributes": {"hostname": "web-1"}}, "attributes.motherboard_id"),
        ({"attributes": {"motherboard_id": "x" * 256}}, "attributes.motherboard_id"),
        ({"attributes": {"motherboard_id": ["mb"]}}, "attributes.motherboard_id"),
        ({"agent_version": {}}, "agent_version"),
        ({"attributes": {"motherboard_id": "a\0b"}}, "attributes.motherboard_id"),
        ({"attributes": ...}, "attributes"),
        ({"attributes": []}, "attributes"),
        ({"metrics": ...}, "metrics"),
        ({"metrics": {}}, "metrics"),
        ({"metrics": None}, "metrics"),
    ],
    ids=str,
)
async def test_a_bad_report_is_refused_by_the_name_of_its_field(
    app_client: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    body = {name: value for name, value in {**report(), **change}.items() if value is not ...}
    answer = await app_client.post(URL, json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    assert [detail["field"] for detail in answer.json()["details"]] == [field]
    assert (await app_client.get("/api/v1/servers")).json() == []


@pytest.mark.parametrize("content", [b"", b"{", b"nonsense", b'{"a": NaN}', b"\xff", b"[" * 50_000])
async def test_what_is_no_json_is_a_bad_request(app_client: httpx.AsyncClient, content: bytes) -> None:
    answer = await app_client.post(URL, content=content)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_body_over_one_mebibyte_is_too_large(app_client: httpx.AsyncClient) -> None:
    body = json.dumps(report()).encode()
    assert (await app_client.post(URL, content=body + b" " * (2**20 - len(body)))).status_code == 201
    answer = await app_client.post(URL, content=body + b" " * (2**20 + 1 - len(body)))
    assert answer.status_code == 413
    assert answer.json().keys() == {"error", "message", "details"}


async def test_of_too_many_samples_the_newest_are_taken(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    newest = datetime.now(UTC).replace(microsecond=0)
    samples = [sample("cpu_used", 5, newest - timedelta(seconds=back)) for back in range(5_010)]
    answer = await app_client.post(URL, json=report(*samples))
    assert answer.json() == {"success_count": 5000, "failure_count": 0, "message": OK}
    oldest = await pool.fetchval("SELECT min(at) FROM samples")
    assert oldest == newest - timedelta(seconds=4_999)


async def test_the_buffer_of_a_service_that_was_away_is_stored_once_and_opens_nothing(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    past = datetime.now(UTC) - timedelta(hours=7)
    body = report(*(sample("cpu_used", 99, past + timedelta(minutes=minute)) for minute in range(360)))
    for _ in range(2):
        assert (await app_client.post(URL, json=body)).json()["success_count"] == 360
    assert await pool.fetchval("SELECT count(*) FROM samples") == 360
    assert await ongoing(app_client) == []


async def test_a_second_report_for_the_same_moment_completes_the_first(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    at = datetime.now(UTC)
    await app_client.post(URL, json=report(sample("cpu_used", 5, at)))
    await app_client.post(URL, json=report(sample("pkt_sent", 6, at)))
    assert [tuple(row) for row in await pool.fetch("SELECT cpu_used, pkt_sent FROM samples")] == [(5, 6)]


# ------------------------------------------------------------------------------------------------------------ verdicts


async def test_a_full_disk_opens_an_incident_and_room_on_it_resolves_it(app_client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    for used, seconds, expected in (
        (89, -60, []),
        (97, -50, [("web-1", "Disk at 97 % on web-1 (threshold 90 %)")]),
        (88, -40, [("web-1", "Disk at 97 % on web-1 (threshold 90 %)")]),
        (85, -30, []),
    ):
        body = report(sample("disk_used_b", used, now + timedelta(seconds=seconds)), disk_total_bytes=100)
        await app_client.post(URL, json=body)
        assert await ongoing(app_client) == expected


async def test_cpu_over_its_threshold_for_five_minutes_opens_an_incident(app_client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    body = report(*(sample("cpu_used", 97, now - timedelta(minutes=5 - minute)) for minute in range(6)))
    await app_client.post(URL, json=body)
    assert await ongoing(app_client) == [("web-1", "CPU at 97 % for 5 min on web-1 (threshold 90 %)")]


async def test_reports_that_share_a_commit_are_judged_in_their_order(pool: asyncpg.Pool, project: Any) -> None:
    now = datetime.now(UTC)

    def disk(name: str, used: float, seconds: float) -> Report:
        rows = [(now + timedelta(seconds=seconds), {"disk_used_b": used})]
        return Report(project.id, name, {"agent_version": "1", "disk_total_bytes": 100}, rows)

    reports = [disk("a", 99, 0), disk("b", 99, 0), disk("a", 10, 1), disk("c", 1, 0), disk("a", 99, 2)]
    async with pool.acquire() as tx, tx.transaction():
        recorded = await servers.record(tx, reports, public_url="https://tocsin.example.com")
    verdicts = [[verdict.kind for verdict in each.verdicts] for each in recorded]
    assert verdicts == [["over"], ["over"], ["recovered"], [], ["over"]]
    assert len({each.server_id for each in recorded}) == 3
    rows = await pool.fetch("SELECT motherboard_id FROM ongoing o JOIN servers s ON s.id = o.resource_id ORDER BY 1")
    assert [row["motherboard_id"] for row in rows] == ["a", "b"]
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 3


async def test_many_first_reports_at_once_make_each_server_once(pool: asyncpg.Pool, project: Any) -> None:
    async def run(tx: Any, reports: Any) -> Any:
        return await servers.record(tx, reports, public_url="https://tocsin.example.com")

    groups = [GroupCommit(pool, run, limit=7) for _ in range(4)]
    reports = [Report(project.id, f"mb-{number % 20}", {"agent_version": "1"}, []) for number in range(200)]
    recorded = await asyncio.gather(*(groups[at % 4](each) for at, each in enumerate(reversed(reports))))
    assert len({each.server_id for each in recorded}) == 20
    assert await pool.fetchval("SELECT count(*) FROM servers") == 20


async def test_a_new_server_gets_the_integrations_that_are_for_all(pool: asyncpg.Pool, project: Any) -> None:
    integration = ids.new()
    await pool.execute(
        "INSERT INTO integrations (id, project_id, type, settings, attach_all, for_people, repeatable)"
        " VALUES ($1, $2, 'Integrations::WebhookIntegration', '{}', true, false, true)",
        integration, project.id,
    )  # fmt: skip
    async with pool.acquire() as tx, tx.transaction():
        report = Report(project.id, "mb", {"agent_version": "1"}, [])
        (recorded,) = await servers.record(tx, [report], public_url="https://tocsin.example.com")
    attached = await pool.fetch("SELECT resource_id, integration_id FROM attachments")
    assert [tuple(row) for row in attached] == [(recorded.server_id, integration)]


# --------------------------------------------------------------------------------------------------------------- plans


async def seed(pool: asyncpg.Pool, project_id: Any, count: int) -> None:
    await pool.execute(
        """WITH made AS (
            INSERT INTO servers (id, project_id, motherboard_id, agent_version, alerts)
            SELECT new_id(), $1, 'mb-' || n, '1', $3 FROM generate_series(1, $2) n RETURNING id)
        INSERT INTO server_states (server_id, seen_at, downtime_check_at)
        SELECT id, now(), now() + interval '1 hour' FROM made""",
        project_id, count, server_alerts.default_alerts(),
    )  # fmt: skip


async def plan(tx: Any, query: str, *values: object) -> str:
    return "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN (COSTS OFF) {query}", *values))


@pytest.mark.parametrize("analyzed", [False, True])
async def test_the_hot_queries_look_up_by_key_however_many_servers_there_are(
    pool: asyncpg.Pool, project: Any, analyzed: bool
) -> None:
    await seed(pool, project.id, 5_000)
    if analyzed:
        await pool.execute("ANALYZE servers, server_states")
    identities = [project.id] * 300, [f"mb-{number}" for number in range(300)]
    async with pool.acquire() as tx, tx.transaction():
        found = await plan(tx, servers.LOCK, *identities)
        assert "Seq Scan" not in found, found
        assert "servers_project_id_motherboard_id_key" in found
        assert "server_states_pkey" in found
        store = await plan(tx, servers.STORE, *([[]] * (servers.FIRST_OF_STATE + len(servers.STATE))))
        assert "Scan on s" not in store, store
        assert "Hash" not in store


async def test_a_report_updates_its_state_in_place(pool: asyncpg.Pool, project: Any) -> None:
    """Heap-only updates: no index grows with the number of reports."""
    async with pool.acquire() as connection:
        for minute in range(50):
            at = datetime.now(UTC) + timedelta(seconds=minute)
            values = {metric: 12345.678 + minute for metric in servers.METRICS if metric != "cpu_used"}
            async with connection.transaction():
                reports = [Report(project.id, "mb", {"agent_version": "1"}, [(at, {**values, "cpu_used": 7.0})])]
                await servers.record(connection, reports, public_url="https://tocsin.example.com")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'server_states'"
        )
    assert row["n_tup_upd"] >= 49
    assert row["n_tup_hot_upd"] >= row["n_tup_upd"] - 2


# ----------------------------------------------------------------------------------------------------------- retention


async def test_a_sample_of_an_unset_clock_does_not_keep_the_gathering_of_hours_busy(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    taken = datetime.now(UTC) - timedelta(hours=2)
    unset = datetime(1970, 1, 1, tzinfo=UTC)
    await app_client.post(URL, json=report(sample("cpu_used", 5, unset), sample("cpu_used", 7, taken)))
    await asyncio.wait_for(retention.roll_up(pool), 60)
    hours = await pool.fetch("SELECT at, cpu_used FROM samples_hourly")
    assert [tuple(row) for row in hours] == [(taken.replace(minute=0, second=0, microsecond=0), 7)]


@pytest.mark.parametrize("hostname", ["\u200b\u200b", "\u3164", " \u200d ", "\u202e\u00a0"])
async def test_a_hostname_of_which_nothing_can_be_seen_is_none(app_client: httpx.AsyncClient, hostname: str) -> None:
    body = report(sample("disk_used_b", 99.9), hostname=hostname, disk_total_bytes=100)
    assert (await app_client.post(URL, json=body)).status_code == 201
    assert (await only_server(app_client))["hostname"] is None
    [(name, message)] = await ongoing(app_client)
    assert name == body["attributes"]["motherboard_id"]
    assert f" on {name} " in message
