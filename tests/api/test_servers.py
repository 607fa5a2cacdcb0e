"""Servers as their owners see them: list, read, time series, alerts, delete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.service import new_project
from tocsin.api.servers import MAX_POINTS, fitting_resolution
from tocsin.domain import ids


def at(back: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - back).isoformat().replace("+00:00", "Z")


async def send(client: httpx.AsyncClient, *metrics: tuple[str, float, str], motherboard_id: str = "mb-1") -> str:
    """Report, and the server's uuid."""
    body = {
        "attributes": {"motherboard_id": motherboard_id, "hostname": motherboard_id, "disk_total_bytes": 100},
        "metrics": [{"metric": metric, "value": value, "timestamp": taken} for metric, value, taken in metrics],
        "agent_version": "1.2.3",
    }
    assert (await client.post("/api/v1/server_metrics", json=body)).status_code == 201
    found = (await client.get("/api/v1/servers", params={"per_page": 100})).json()
    return str(next(server["uuid"] for server in found if server["motherboard_id"] == motherboard_id))


async def ongoing(client: httpx.AsyncClient) -> list[str]:
    found = (await client.get("/api/v1/incidents?status=ongoing")).json()["data"]
    return sorted(incident["error_message"] for incident in found)


async def test_servers_are_a_plain_array_page_by_page_oldest_first(app_client: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await send(app_client, motherboard_id=name)

    async def names(**page: int) -> list[str]:
        return [each["hostname"] for each in (await app_client.get("/api/v1/servers", params=page)).json()]

    assert await names() == ["a", "b", "c"]
    assert await names(per_page=2) == ["a", "b"]
    assert await names(per_page=2, page=2) == ["c"]
    assert await names(page=9) == []


async def test_one_server_has_every_field_of_its_page(app_client: httpx.AsyncClient) -> None:
    uuid = await send(app_client, ("cpu_used", 7, "2026-05-01T12:00:00.750Z"))
    server = (await app_client.get(f"/api/v1/servers/{uuid}")).json()
    assert server.keys() == {
        "uuid", "hostname", "public_ip", "private_ip", "mac_address", "motherboard_id", "cpu_cores", "cpu_model",
        "operating_system", "kernel_version", "disk_total_bytes", "memory_total_bytes", "swap_total_bytes",
        "agent_version", "last_metrics", "disks", "failed_units", "alerts", "depends_on", "explained_by",
        "created_at", "updated_at",
    }  # fmt: skip
    assert server["last_metrics"] == {"cpu_used": {"value": 7.0, "timestamp": "2026-05-01T12:00:00Z"}}
    assert server["alerts"] == {
        "cpu": {"threshold": 90, "for": 300},
        "ram": {"threshold": 90, "for": 300},
        "disk": {"threshold": 90, "for": 0},
        "downtime": {"after": 180},
        "swap": None,
        "load": None,
        "unit_failed": None,
        "disks": {},
    }
    assert [list(alert) for alert in server["alerts"].values() if alert] == [["threshold", "for"]] * 3 + [["after"]]


async def test_a_late_sample_does_not_replace_the_latest(app_client: httpx.AsyncClient) -> None:
    uuid = await send(app_client, ("cpu_used", 7, at()))
    await send(app_client, ("cpu_used", 50, at(timedelta(hours=1))))
    assert (await app_client.get(f"/api/v1/servers/{uuid}")).json()["last_metrics"]["cpu_used"]["value"] == 7


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "METRICS"])
async def test_what_is_not_there_or_of_another_project_does_not_exist(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, method: str
) -> None:
    stranger = await new_project(pool, vault)
    theirs = await send(app_client)
    for uuid, token in (("SRV123", None), (ids.public(ids.SERVER, ids.new()), None), (theirs, stranger.api_token)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        path = f"/api/v1/servers/{uuid}"
        if method == "METRICS":
            answer = await app_client.get(f"{path}/metrics", headers=headers)
        else:
            body = {"json": {"server": {}}} if method == "PATCH" else {}
            answer = await app_client.request(method, path, headers=headers, **body)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]) == (404, "server_not_found")
    assert (await app_client.get(f"/api/v1/servers/{theirs}")).status_code == 200


# -------------------------------------------------------------------------------------------------------------- alerts


async def test_alerts_change_and_what_was_counted_starts_anew(app_client: httpx.AsyncClient) -> None:
    uuid = await send(app_client, ("cpu_used", 60, at(timedelta(seconds=30))))
    body = {"server": {"alerts": {"cpu": {"threshold": 50, "for": 0}, "ram": None, "moon": 1}, "name": "ignored"}}
    answer = await app_client.patch(f"/api/v1/servers/{uuid}", json=body)
    assert answer.status_code == 200
    assert answer.json()["alerts"] == {
        "cpu": {"threshold": 50, "for": 0},
        "ram": None,
        "disk": {"threshold": 90, "for": 0},
        "downtime": {"after": 180},
        "swap": None,
        "load": None,
        "unit_failed": None,
        "disks": {},
    }
    assert await ongoing(app_client) == []
    await send(app_client, ("cpu_used", 60, at()))
    assert await ongoing(app_client) == ["CPU at 60 % on mb-1 (threshold 50 %)"]


async def test_switching_an_alert_off_resolves_its_incident(app_client: httpx.AsyncClient) -> None:
    uuid = await send(app_client, ("disk_used_b", 99, at()))
    assert len(await ongoing(app_client)) == 1
    await app_client.patch(f"/api/v1/servers/{uuid}", json={"server": {"alerts": {"disk": None}}})
    assert await ongoing(app_client) == []
    await send(app_client, ("disk_used_b", 99, at()))
    assert await ongoing(app_client) == []


async def test_a_level_that_is_only_a_warning_is_set_shown_and_taken_away(app_client: httpx.AsyncClient) -> None:
    uuid = await send(app_client, ("cpu_used", 60, at()))

    async def changed(warning: Any) -> httpx.Response:
        body = {"server": {"alerts": {"cpu": {"warning": warning}}}}
        return await app_client.patch(f"/api/v1/servers/{uuid}", json=body)

    alert = {"threshold": 90, "for": 300, "warning": {"threshold": 80, "for": 900}}
    answer = await changed({"threshold": 80, "for": 900})
    assert answer.json()["alerts"]["cpu"] == alert
    assert (await app_client.get("/api/v1/servers")).json()[0]["alerts"]["cpu"] == alert
    refused = await changed({"threshold": 95})
    assert (refused.status_code, refused.json()["details"][0]["field"]) == (422, "alerts.cpu.warning.threshold")
    assert (await changed(None)).json()["alerts"]["cpu"] == {"threshold": 90, "for": 300}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"server": {"alerts": {"cpu": {"threshold": 200}}}}, 422, "alerts.cpu.threshold"),
        ({"server": {"alerts": {"cpu": {"threshold": "90"}}}}, 422, "alerts.cpu.threshold"),
        ({"server": {"alerts": {"cpu": {"for": None}}}}, 422, "alerts.cpu.for"),
        ({"server": {"alerts": {"downtime": {"after": 4}}}}, 422, "alerts.downtime.after"),
        ({"server": {"alerts": {"disk": 90}}}, 422, "alerts.disk"),
        ({"server": {"alerts": None}}, 422, "alerts"),
        ({"alerts": {}}, 400, None),
        ([], 400, None),
    ],
    ids=str,
)
async def test_alerts_that_cannot_be_change_nothing(
    app_client: httpx.AsyncClient, body: object, status: int, field: str | None
) -> None:
    uuid = await send(app_client)
    before = (await app_client.get(f"/api/v1/servers/{uuid}")).json()
    answer = await app_client.patch(f"/api/v1/servers/{uuid}", json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, "invalid_request")
    assert [detail["field"] for detail in answer.json()["details"]] == ([field] if field else [])
    assert (await app_client.get(f"/api/v1/servers/{uuid}")).json() == before


# -------------------------------------------------------------------------------------------------------------- delete


async def test_a_deleted_server_is_gone_with_its_incidents_and_comes_back_with_a_report(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    uuid = await send(app_client, ("disk_used_b", 99, at()))
    answer = await app_client.delete(f"/api/v1/servers/{uuid}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert await ongoing(app_client) == []
    assert (await app_client.get(f"/api/v1/servers/{uuid}")).status_code == 404
    assert (await app_client.get("/api/v1/servers")).json() == []
    assert await pool.fetchval("SELECT count(*) FROM server_states") == 0
    assert await send(app_client) != uuid


# --------------------------------------------------------------------------------------------------------- time series


async def series(client: httpx.AsyncClient, uuid: str, **query: Any) -> Any:
    if "start" in query:
        query["from"] = query.pop("start")
    answer = await client.get(f"/api/v1/servers/{uuid}/metrics", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_time_series_is_averaged_into_buckets_oldest_first(app_client: httpx.AsyncClient) -> None:
    taken = [("cpu_used", value, f"2026-05-01T12:00:{second}Z") for second, value in (("05", 10), ("55", 20))]
    later = [("cpu_used", 40, "2026-05-01T12:01:00Z"), ("pkt_sent", 7, "2026-05-01T12:01:59Z")]
    uuid = await send(app_client, *later, *taken)
    query = {"start": "2026-05-01T12:00:00Z", "to": "2026-05-01T13:00:00+00:00", "resolution": 60}
    assert await series(app_client, uuid, **query) == {
        "data": [
            {"metric": "cpu_used", "timestamp": "2026-05-01T12:00:00Z", "value": 15.0},
            {"metric": "cpu_used", "timestamp": "2026-05-01T12:01:00Z", "value": 40.0},
            {"metric": "pkt_sent", "timestamp": "2026-05-01T12:01:00Z", "value": 7.0},
        ],
        "meta": {"from": "2026-05-01T12:00:00Z", "to": "2026-05-01T13:00:00Z", "resolution": 60},
    }
    only = await series(app_client, uuid, **query, metric="pkt_sent,net_recv_b")
    assert [point["metric"] for point in only["data"]] == ["pkt_sent"]


async def test_without_a_range_the_last_day_is_shown(app_client: httpx.AsyncClient) -> None:
    uuid = await send(app_client, ("cpu_used", 7, at()), ("cpu_used", 9, at(timedelta(days=2))))
    shown = await series(app_client, uuid)
    assert [point["value"] for point in shown["data"]] == [7.0]
    assert shown["meta"]["resolution"] == 120


async def test_beyond_the_raw_samples_hours_are_shown(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    old, recent = datetime.now(UTC) - timedelta(days=40), datetime.now(UTC) - timedelta(days=1)
    uuid = await send(app_client, ("cpu_used", 7, recent.isoformat()))
    hour = old.replace(minute=0, second=0, microsecond=0)
    await pool.execute(
        "INSERT INTO samples_hourly (server_id, at, cpu_used) VALUES ($1, $2, 33), ($1, $3, 99)",
        ids.parse(ids.SERVER, uuid), hour, recent.replace(minute=0, second=0, microsecond=0),
    )  # fmt: skip
    shown = await series(app_client, uuid, start=(old - timedelta(days=1)).isoformat(), metric="cpu_used")
    assert [point["value"] for point in shown["data"]] == [33.0, 7.0]


@pytest.mark.parametrize("span", [1, 59, 3600, 86_400, 7 * 86_400, 400 * 86_400, 2_000 * 366 * 86_400])
def test_the_chosen_resolution_gives_at_most_a_thousand_points(span: int) -> None:
    assert span / fitting_resolution(span) + 1 <= MAX_POINTS


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01T00:00:00Z"}, "to"),
        ({"from": "2026-05-02", "to": "2026-05-01"}, "from"),
        ({"metric": "cpu"}, "metric"),
        ({"resolution": "0"}, "resolution"),
        ({"resolution": "soon"}, "resolution"),
        ({"resolution": "1", "from": "2020-01-01"}, "resolution"),
        ({"resolution": str(32 * 86_400)}, "resolution"),
        ({"from": "0001-01-01"}, "from"),
        ({"from": "2000-01-01", "to": "2020-01-01"}, "from"),
        ({"resolution": str(10**30)}, "resolution"),
    ],
    ids=str,
)
async def test_a_time_series_that_cannot_be_is_refused(
    app_client: httpx.AsyncClient, query: dict[str, str], field: str
) -> None:
    uuid = await send(app_client)
    answer = await app_client.get(f"/api/v1/servers/{uuid}/metrics", params=query)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    assert [detail["field"] for detail in answer.json()["details"]] == [field]


@pytest.mark.parametrize("query", [{"to": "0001-01-02"}, {"to": "9999-12-31T23:59:59Z"}])
async def test_the_edges_of_time_are_no_trouble(app_client: httpx.AsyncClient, query: dict[str, str]) -> None:
    uuid = await send(app_client)
    assert (await app_client.get(f"/api/v1/servers/{uuid}/metrics", params=query)).status_code == 200


async def test_a_month_of_samples_is_shown_in_as_many_points_as_a_chart_can_hold(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    uuid = await send(app_client)
    await pool.execute(
        "INSERT INTO samples (server_id, at, cpu_used) SELECT $1, now() - n * interval '1 min', n % 100"
        " FROM generate_series(1, 40000) n",
        ids.parse(ids.SERVER, uuid),
    )
    shown = await series(app_client, uuid, start=(datetime.now(UTC) - timedelta(days=27)).isoformat())
    assert 300 < len(shown["data"]) <= MAX_POINTS
