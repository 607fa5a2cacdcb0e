"""Network monitors over the API: making, listing, changing, pausing and deleting them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.service import new_project
from tests.sites import VAULT
from tests.waiting import until
from tocsin.domain import ids
from tocsin.storage.monitoring import due_checks

PATH = "/api/v1/network_monitors"


async def make(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json={"network_monitor": {"url": "http://127.0.0.1:9/", **fields}})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def change(client: httpx.AsyncClient, monitor: dict[str, Any], **fields: Any) -> httpx.Response:
    return await client.patch(f"{PATH}/{monitor['uuid']}", json={"network_monitor": fields})


async def open_incident(client: httpx.AsyncClient, monitor: dict[str, Any], kind: str = "timeout") -> str:
    wish = {"resource_type": "NetworkMonitor", "resource_uuid": monitor["uuid"], "incident_type": kind, "message": "x"}
    answer = await client.post("/api/v1/incidents", json={"incident": wish})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


def key(monitor: dict[str, Any]) -> UUID:
    found = ids.parse(ids.MONITOR, monitor["uuid"])
    assert found
    return found


async def test_a_url_alone_makes_a_monitor_with_the_documented_defaults(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client)
    assert re.fullmatch("NM[0-9A-Z]{26}", made.pop("uuid"))
    for time in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made.pop(time))
    assert made == {
        "id": 1, "name": "http://127.0.0.1:9/", "url": "http://127.0.0.1:9/", "check_type": "http",
        "status": "pending", "uptime": None, "response_time": None, "last_check": None, "open_incident_uuids": [],
        "interval": 60, "timeout": 30, "confirmations": 2, "recoveries": 1, "expected_status": "2xx", "keyword": None,
        "keyword_absent": None, "json_path": None, "json_value": None, "max_response_ms": None,
        "method": "GET", "headers": None, "body": None, "username": None, "password": None, "token": None,
        "follow_redirects": True, "verify_tls": True, "ip_version": None, "tls_days": 30, "paused": False,
        "domain_days": None, "domain": None,
        "explained_by": [], "depends_on": [], "locations": None, "places": [],
        "response_time_p50": None, "response_time_p95": None,
    }  # fmt: skip


async def test_every_setting_comes_back_as_it_was_given(app_client: httpx.AsyncClient) -> None:
    given = {
        "name": "Website Uptime", "url": "http://127.0.0.1:9/health", "check_type": "http", "interval": 1.5,
        "timeout": 10, "confirmations": 3, "recoveries": 4, "expected_status": [200, "3xx"], "keyword": "fine",
        "paused": True,
    }  # fmt: skip
    made = await make(app_client, **given)
    assert {name: made[name] for name in given} == given
    assert made["status"] == "paused"
    read = await app_client.get(f"{PATH}/{made['uuid']}")
    assert read.status_code == 200
    assert read.json() == made


async def test_a_tcp_address_makes_a_tcp_monitor(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, url="tcp://127.0.0.1:25")
    assert (made["check_type"], made["expected_status"]) == ("tcp", None)


async def test_a_ping_address_makes_a_ping_monitor_with_its_own_fields(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, url="ping://127.0.0.1", max_loss=20, ip_version=4)
    assert made["check_type"] == "ping"
    asked = {name: made[name] for name in ("packets", "max_loss", "max_response_ms", "ip_version")}
    assert asked == {"packets": 3, "max_loss": 20, "max_response_ms": None, "ip_version": 4}


async def test_names_and_certificates_are_monitored_by_their_own_addresses(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, url="dns:example.com?type=MX", expected=["10 mx.example.com"], paused=True)
    assert (made["check_type"], made["expected"]) == ("dns", ["10 mx.example.com"])
    made = await make(app_client, url="dns://127.0.0.1:5353/example.com", paused=True)
    assert (made["check_type"], made["expected"]) == ("dns", None)
    made = await make(app_client, url="tls://127.0.0.1:25?starttls=smtp", server_name="mx.example.com", paused=True)
    assert (made["check_type"], made["tls_days"], made["server_name"]) == ("tls", 30, "mx.example.com")


async def test_a_monitor_that_watches_its_domain_says_what_is_known_of_it(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    made = await make(app_client, url="https://www.example.co.uk/", domain_days=30, paused=True)
    nothing = {"name": "example.co.uk", "expires_at": None, "checked_at": None, "problem": None}
    assert (made["domain_days"], made["domain"]) == (30, nothing)
    await pool.execute(
        "UPDATE domains SET expires_at = '2099-08-13 04:00Z', asked_at = '2026-01-02 03:04:05Z', problem = 'Away'"
    )
    path = f"{PATH}/{made['uuid']}"
    assert (await app_client.get(path)).json()["domain"] == {
        "name": "example.co.uk", "expires_at": "2099-08-13T04:00:00Z", "checked_at": "2026-01-02T03:04:05Z",
        "problem": "Away",
    }  # fmt: skip
    changed = await app_client.patch(path, json={"network_monitor": {"domain_days": None}})
    assert (changed.json()["domain_days"], changed.json()["domain"]) == (None, None)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("tcp://db.example.com:5432", "example.com"), ("tls://mx.example.com:25", "example.com"),
        ("ping://www.example.com", "example.com"), ("dns://192.0.2.53/mx.example.com?type=MX", "example.com"),
        ("dns:example.com?type=A", "example.com"),
    ],
)  # fmt: skip
async def test_every_type_of_check_can_watch_its_domain(app_client: httpx.AsyncClient, url: str, named: str) -> None:
    assert (await make(app_client, url=url, domain_days=14, paused=True))["domain"]["name"] == named


async def test_numbers_count_within_the_project(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    other = await new_project(pool, vault)
    assert [(await make(app_client))["id"] for _ in range(3)] == [1, 2, 3]
    app_client.headers["Authorization"] = f"Bearer {other.api_token}"
    assert (await make(app_client))["id"] == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "example.com"}, "url"),
        ({"url": "http://169.254.169.254/"}, "url"),
        ({"url": "tcp://127.0.0.1"}, "url"),
        ({"url": "tcp://127.0.0.1:25", "check_type": "http"}, "url"),
        ({"check_type": "pigeon"}, "check_type"),
        ({"interval": 0.9}, "interval"),
        ({"interval": 1e300}, "interval"),
        ({"interval": "60"}, "interval"),
        ({"timeout": -1}, "timeout"),
        ({"confirmations": 0}, "confirmations"),
        ({"confirmations": True}, "confirmations"),
        ({"recoveries": 0}, "recoveries"),
        ({"recoveries": 101}, "recoveries"),
        ({"confirmations": 1.5}, "confirmations"),
        ({"expected_status": 1000}, "expected_status"),
        ({"expected_status": {"from": 200}}, "expected_status"),
        ({"keyword": ""}, "keyword"),
        ({"url": "tcp://127.0.0.1:25", "keyword": "x"}, "keyword"),
        ({"url": "ping://127.0.0.1:25"}, "url"),
        ({"url": "ping://127.0.0.1", "packets": 21}, "packets"),
        ({"url": "ping://127.0.0.1", "ip_version": 5}, "ip_version"),
        ({"url": "tcp://127.0.0.1:25", "packets": 2}, "packets"),
        ({"url": "dns://169.254.169.254/example.com"}, "url"),
        ({"url": "dns:example.com?type=MX", "expected": ["mx.example.com"]}, "expected[0]"),
        ({"url": "tls://127.0.0.1"}, "url"),
        ({"url": "tls://127.0.0.1:443", "tls_days": 366}, "tls_days"),
        ({"url": "http://127.0.0.1:9/", "domain_days": 30}, "domain_days"),
        ({"url": "https://example.com/", "domain_days": 0}, "domain_days"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"paused": "yes"}, "paused"),
    ],
)
async def test_what_cannot_be_accepted_is_refused_by_field_and_changes_nothing(
    app_client: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    answer = await app_client.post(PATH, json={"network_monitor": {"url": "http://127.0.0.1:9/", **fields}})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"] == "invalid_request"
    assert [detail["field"] for detail in answer.json()["details"]] == [field]
    made = await make(app_client)
    answer = await change(app_client, made, **fields)
    assert answer.status_code == 422, answer.text
    assert (await app_client.get(f"{PATH}/{made['uuid']}")).json() == made


async def test_a_url_is_needed(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.post(PATH, json={"network_monitor": {}})
    assert answer.status_code == 422
    assert answer.json()["details"] == [{"field": "url", "message": "is required"}]
    assert (await app_client.post(PATH, json={})).status_code == 400


async def test_a_name_that_cannot_be_found_is_accepted_with_a_warning(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.post(PATH, json={"network_monitor": {"url": "https://no-such-name.invalid/"}})
    assert answer.status_code == 201
    assert "no-such-name.invalid" in answer.headers.get("Tocsin-Warning", "no-such-name.invalid")


async def test_in_production_the_least_interval_is_five_seconds(
    environ: dict[str, str], settings_of_production: None, app_client: httpx.AsyncClient
) -> None:
    answer = await app_client.post(PATH, json={"network_monitor": {"url": "http://203.0.113.9/", "interval": 4}})
    assert answer.status_code == 422
    assert answer.json()["details"] == [{"field": "interval", "message": "must be from 5 to 86400 seconds"}]


@pytest.fixture
def settings_of_production(environ: dict[str, str]) -> None:
    environ["TOCSIN_ENV"] = "production"


# ----------------------------------------------------------------------------------------------------------------- list


async def test_the_list_pages_and_says_in_which_order(app_client: httpx.AsyncClient) -> None:
    for number in range(5):
        await make(app_client, name=f"site {number}")
    first = (await app_client.get(PATH, params={"per_page": 2, "sort": "created_at"})).json()
    assert first["meta"] == {
        "current_page": 1, "per_page": 2, "total_pages": 3, "total_count": 5, "sort": "created_at",
    }  # fmt: skip
    assert [monitor["name"] for monitor in first["data"]] == ["site 4", "site 3"]
    assert set(first["data"][0]) == {
        "id", "uuid", "name", "url", "check_type", "status", "uptime", "response_time", "last_check",
        "open_incident_uuids", "created_at", "explained_by",
    }  # fmt: skip
    last = (await app_client.get(PATH, params={"per_page": 2, "page": 3, "sort": "created_at"})).json()
    assert [monitor["name"] for monitor in last["data"]] == ["site 0"]
    beyond = (await app_client.get(PATH, params={"per_page": 2, "page": 9})).json()
    assert (beyond["data"], beyond["meta"]["total_count"]) == ([], 5)


async def test_by_status_those_with_incidents_come_first_and_the_paused_last(app_client: httpx.AsyncClient) -> None:
    paused = await make(app_client, name="paused", paused=True)
    broken = await make(app_client, name="broken")
    await make(app_client, name="fine")
    incident = await open_incident(app_client, broken)
    listed = (await app_client.get(PATH, params={"sort": "status"})).json()["data"]
    assert [monitor["name"] for monitor in listed] == ["broken", "fine", "paused"]
    assert [monitor["status"] for monitor in listed] == ["error", "pending", "paused"]
    assert listed[0]["open_incident_uuids"] == [incident]
    assert paused["status"] == "paused"


async def test_search_finds_a_part_of_name_or_url_in_whatever_case(app_client: httpx.AsyncClient) -> None:
    await make(app_client, name="Größe 100%", url="http://127.0.0.1:9/one")
    await make(app_client, name="other", url="http://127.0.0.1:9/TWO")
    for search, found in [
        ("größe", ["Größe 100%"]), ("TWO", ["other"]), ("two", ["other"]), ("0%", ["Größe 100%"]),
        ("%", ["Größe 100%"]), ("_", []), ("'", []), ("127.0", ["other", "Größe 100%"]),
    ]:  # fmt: skip
        answer = (await app_client.get(PATH, params={"search": search})).json()
        assert [monitor["name"] for monitor in answer["data"]] == found, search
        assert answer["meta"]["total_count"] == len(found)


async def test_an_unknown_order_is_refused(app_client: httpx.AsyncClient) -> None:
    assert (await app_client.get(PATH, params={"sort": "colour"})).status_code == 422


async def test_uptime_counts_gathered_hours_and_what_came_since(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    made, untouched = await make(app_client), await make(app_client)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await pool.execute("INSERT INTO rollups VALUES ('checks', $1)", hour)
    hourly = "INSERT INTO checks_hourly (monitor_id, at, total, ok) VALUES ($1, $2, $3, $4)"
    await pool.execute(hourly, key(made), hour - timedelta(hours=1), 100, 98)
    await pool.execute(hourly, key(made), hour - timedelta(days=29), 90, 90)
    await pool.execute(hourly, key(made), hour - timedelta(days=31), 1000, 0)
    raw = "INSERT INTO checks (monitor_id, at, ok) VALUES ($1, $2, $3)"
    await pool.execute(raw, key(made), hour - timedelta(minutes=1), False)  # gathered already
    for seconds in range(10):
        await pool.execute(raw, key(made), hour + timedelta(seconds=seconds), seconds != 0)
    listed = {each["uuid"]: each["uptime"] for each in (await app_client.get(PATH)).json()["data"]}
    assert listed == {made["uuid"]: 98.5, untouched["uuid"]: None}
    assert (await app_client.get(f"{PATH}/{made['uuid']}")).json()["uptime"] == 98.5


# ------------------------------------------------------------------------------------------------ change, pause, delete


async def test_a_change_leaves_what_it_does_not_name(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, name="mine", keyword="fine", expected_status=204, interval=30)
    changed = (await change(app_client, made, interval=120)).json()
    assert changed == made | {"interval": 120, "updated_at": changed["updated_at"]}
    changed = (await change(app_client, made, keyword=None, expected_status=None, name=None, interval=None)).json()
    assert [changed[name] for name in ("keyword", "expected_status", "name", "interval")] == [
        None, "2xx", made["url"], 60,
    ]  # fmt: skip


async def test_a_name_that_is_the_url_follows_it(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client)
    assert (await change(app_client, made, url="http://127.0.0.1:9/new")).json()["name"] == "http://127.0.0.1:9/new"
    named = await make(app_client, name="mine")
    assert (await change(app_client, named, url="http://127.0.0.1:9/new")).json()["name"] == "mine"


async def test_a_monitor_can_become_one_of_another_type(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, keyword="fine")
    answer = await change(app_client, made, check_type="tcp")
    assert [detail["field"] for detail in answer.json()["details"]] == ["url"]
    changed = (await change(app_client, made, check_type="tcp", url="tcp://127.0.0.1:25")).json()
    assert (changed["check_type"], changed["expected_status"], changed["keyword"]) == ("tcp", None, None)


async def test_pausing_ends_its_incidents_and_its_checks_until_it_goes_on(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    made = await make(app_client)
    incident = await open_incident(app_client, made)
    paused = (await change(app_client, made, paused=True)).json()
    assert (paused["status"], paused["open_incident_uuids"]) == ("paused", [])
    assert (await app_client.get(f"/api/v1/incidents/{incident}")).json()["status"] == "resolved"
    assert await due(pool) == []
    resumed = (await change(app_client, made, paused=False)).json()
    assert resumed["status"] == "pending"
    assert await due(pool) == [key(made)]


async def due(pool: asyncpg.Pool) -> list[UUID]:
    async with pool.acquire() as tx, tx.transaction():
        return [each.id for each in await due_checks.claim_due(tx, VAULT, 100)]


async def test_the_first_check_is_due_at_once_and_a_changed_target_too_but_not_a_new_name(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    made = await make(app_client)

    async def first() -> list[UUID] | None:
        return await due(pool) or None

    assert await until(first, timeout=3) == [key(made)]
    assert await due(pool) == []
    await change(app_client, made, name="new")
    assert await due(pool) == []
    await change(app_client, made, url="http://127.0.0.1:9/new")
    assert await due(pool) == [key(made)]


async def test_deleting_ends_its_incidents_and_everything_about_it(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    made = await make(app_client)
    incident = await open_incident(app_client, made)
    assert (await app_client.delete(f"{PATH}/{made['uuid']}")).status_code == 204
    assert (await app_client.get(f"/api/v1/incidents/{incident}")).json()["status"] == "resolved"
    for answer in (
        await app_client.get(f"{PATH}/{made['uuid']}"),
        await app_client.delete(f"{PATH}/{made['uuid']}"),
        await change(app_client, made, name="x"),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"] == "network_monitor_not_found"
    for table in ("network_monitors", "monitor_states", "attachments", "ongoing"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_another_projects_monitor_does_not_exist(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    made = await make(app_client)
    mine = app_client.headers["Authorization"]
    app_client.headers["Authorization"] = f"Bearer {(await new_project(pool, vault)).api_token}"
    assert (await app_client.get(PATH)).json()["data"] == []
    for answer in (
        await app_client.get(f"{PATH}/{made['uuid']}"),
        await change(app_client, made, paused=True),
        await change(app_client, made, url="http://127.0.0.1:10/"),
        await app_client.delete(f"{PATH}/{made['uuid']}"),
    ):
        assert answer.status_code == 404
    app_client.headers["Authorization"] = mine
    assert (await app_client.get(f"{PATH}/{made['uuid']}")).json() == made


async def test_what_is_attached_to_all_is_attached_to_a_new_monitor(app_client: httpx.AsyncClient) -> None:
    webhook = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "http://127.0.0.1:9/"}}
    integration = (await app_client.post("/api/v1/integrations", json={"integration": webhook})).json()["uuid"]
    await app_client.post(f"/api/v1/integrations/{integration}/attach_all")
    made = await make(app_client)
    attached = (await app_client.get(f"{PATH}/{made['uuid']}/integrations")).json()
    assert [each["uuid"] for each in attached] == [integration]


async def test_a_monitor_whose_address_is_refused_by_now_can_be_paused(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    made = await app_client.post("/api/v1/network_monitors", json={"network_monitor": {"url": "http://a.example.com"}})
    path = f"/api/v1/network_monitors/{made.json()['uuid']}"
    await pool.execute("UPDATE network_monitors SET url = 'http://a..b.com'")
    paused = await app_client.patch(path, json={"network_monitor": {"paused": True}})
    assert (paused.status_code, paused.json()["paused"], paused.json()["url"]) == (200, True, "http://a..b.com")
    judged = await app_client.patch(path, json={"network_monitor": {"timeout": 5}})
    assert [each["field"] for each in judged.json()["details"]] == ["url"]
