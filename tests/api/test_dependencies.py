"""What a resource depends on, over the API: given, changed, refused, and what follows from it."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.service import PUBLIC_URL, authorized, new_project
from tocsin.domain import ids
from tocsin.storage.postgres.secrets import Vault

MONITORS = "/api/v1/network_monitors"
REPORT = {"attributes": {"motherboard_id": "board"}, "metrics": [], "agent_version": "1"}


async def monitor(client: httpx.AsyncClient, name: str, **fields: Any) -> str:
    wish = {"url": "tcp://192.0.2.1:1", "name": name, "interval": 3600, "confirmations": 1, **fields}
    answer = await client.post(MONITORS, json={"network_monitor": wish})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def server(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/v1/server_metrics", json=REPORT)
    assert answer.status_code < 300, answer.text
    return str((await client.get("/api/v1/servers")).json()[0]["uuid"])


async def open_incident(client: httpx.AsyncClient, uuid: str, kind: str) -> None:
    type_ = "Server" if uuid.startswith(ids.SERVER) else "NetworkMonitor"
    wish = {"resource_type": type_, "resource_uuid": uuid, "incident_type": kind, "message": "x"}
    answer = await client.post("/api/v1/incidents", json={"incident": wish})
    assert answer.status_code == 201, answer.text


async def test_a_monitor_is_made_and_changed_with_what_it_depends_on(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    router, uplink = await monitor(app_client, "router"), await monitor(app_client, "uplink")
    shop = await monitor(app_client, "shop", depends_on=[router])
    path = f"{MONITORS}/{shop}"
    assert (await app_client.get(path)).json()["depends_on"] == [router]
    answer = await app_client.patch(path, json={"network_monitor": {"depends_on": [[router, uplink]], "name": "till"}})
    assert (answer.json()["depends_on"], answer.json()["name"]) == ([[router, uplink]], "till")
    answer = await app_client.patch(path, json={"network_monitor": {"name": "shop"}})
    assert answer.json()["depends_on"] == [[router, uplink]]
    answer = await app_client.patch(path, json={"network_monitor": {"depends_on": None}})
    assert answer.json()["depends_on"] == []
    log = await pool.fetch("SELECT subject, details FROM audit WHERE action = 'changed dependencies' ORDER BY at")
    assert [row["details"]["depends_on"] for row in log] == [[router], [[router, uplink]], []]
    assert await pool.fetchval("SELECT count(*) FROM dependencies") == 0


async def test_a_server_depends_on_what_its_change_says(app_client: httpx.AsyncClient) -> None:
    router, uuid = await monitor(app_client, "router"), await server(app_client)
    path = f"/api/v1/servers/{uuid}"
    changed = await app_client.patch(path, json={"server": {"depends_on": [router], "alerts": {"cpu": None}}})
    assert (changed.json()["depends_on"], changed.json()["alerts"]["cpu"]) == ([router], None)
    changed = await app_client.patch(path, json={"server": {"depends_on": []}})
    assert (changed.json()["depends_on"], changed.json()["alerts"]["cpu"]) == ([], None)


async def test_circles_and_what_is_not_ones_own_are_refused(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, application: httpx.ASGITransport
) -> None:
    router, machine = await monitor(app_client, "router"), await server(app_client)
    shop = await monitor(app_client, "shop", depends_on=[machine])
    await app_client.patch(f"/api/v1/servers/{machine}", json={"server": {"depends_on": [router]}})
    stranger = await new_project(pool, vault)
    async with authorized(PUBLIC_URL, stranger.api_token, transport=application) as other:
        theirs = await monitor(other, "theirs")
        answer = await other.patch(f"{MONITORS}/{router}", json={"network_monitor": {"depends_on": []}})
        assert answer.status_code == 404
    for depends_on, field in (
        ([shop], "depends_on"),
        ([theirs], "depends_on[0]"),
        ([shop, [machine, theirs]], "depends_on[1][1]"),
        ([ids.public(ids.SERVER, ids.new())], "depends_on[0]"),
        ([machine.replace("SRV", "NM")], "depends_on[0]"),
        ([router], "depends_on"),
        ([f"NM{number}" for number in range(21)], "depends_on"),
        ([[]], "depends_on[0]"),
    ):
        answer = await app_client.patch(f"{MONITORS}/{router}", json={"network_monitor": {"depends_on": depends_on}})
        assert answer.status_code == 422, answer.text
        assert [each["field"] for each in answer.json()["details"]] == [field], answer.text
        if depends_on == [shop]:
            assert f"{router} → {shop} → {machine} → {router}" in answer.json()["details"][0]["message"]
    wish = {"url": "tcp://192.0.2.1:1", "depends_on": [theirs]}
    assert (await app_client.post(MONITORS, json={"network_monitor": wish})).status_code == 422
    assert (await app_client.get(MONITORS)).json()["meta"]["total_count"] == 2
    assert (await app_client.get(f"{MONITORS}/{router}")).json()["depends_on"] == []


@pytest.mark.parametrize("depends_on", ["NM1", 7, {"any": []}, [7], [None], [["NM1", ["NM2"]]]])
async def test_what_is_no_list_is_refused(app_client: httpx.AsyncClient, depends_on: Any) -> None:
    router = await monitor(app_client, "router")
    answer = await app_client.patch(f"{MONITORS}/{router}", json={"network_monitor": {"depends_on": depends_on}})
    assert answer.status_code == 422, answer.text
    assert answer.json()["details"][0]["field"].startswith("depends_on")


async def test_what_is_behind_a_router_that_is_down_is_unreachable_and_not_down(app_client: httpx.AsyncClient) -> None:
    router, machine = await monitor(app_client, "router"), await server(app_client)
    shop = await monitor(app_client, "shop", depends_on=[router])
    await app_client.patch(f"/api/v1/servers/{machine}", json={"server": {"depends_on": [router]}})
    for uuid, kind in ((shop, "timeout"), (machine, "downtime")):
        await open_incident(app_client, uuid, kind)
    assert (await app_client.get(f"{MONITORS}/{shop}")).json()["status"] == "error"
    await open_incident(app_client, router, "connection_error")
    cause = [{"uuid": router, "name": "router"}]
    found = {each["name"]: each for each in (await app_client.get(MONITORS)).json()["data"]}
    assert (found["shop"]["status"], found["shop"]["explained_by"]) == ("unreachable", cause)
    assert (found["router"]["status"], found["router"]["explained_by"]) == ("error", [])
    assert (await app_client.get(f"/api/v1/servers/{machine}")).json()["explained_by"] == cause
    await open_incident(app_client, machine, "disk")
    assert (await app_client.get(f"/api/v1/servers/{machine}")).json()["explained_by"] == []
    await app_client.delete(f"{MONITORS}/{router}")
    found = (await app_client.get(f"{MONITORS}/{shop}")).json()
    assert (found["status"], found["explained_by"], found["depends_on"]) == ("error", [], [])
