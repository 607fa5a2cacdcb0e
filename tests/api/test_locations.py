"""From which places a monitor is checked, as callers say it."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.service import new_project
from tocsin.domain import ids

PATH = "/api/v1/network_monitors"
SITE = {"url": "http://192.0.2.1/", "paused": True}


@pytest_asyncio.fixture
async def probes(pool: asyncpg.Pool, project: Any, vault: Any) -> None:
    other = await new_project(pool, vault)
    for name, only in (("wien", None), ("graz", None), ("ours", project.id), ("theirs", other.id)):
        await pool.execute(
            "INSERT INTO probes (id, project_id, name, only_project) VALUES ($1, $2, $3, $4)",
            ids.new(), other.id, name, only,
        )  # fmt: skip


async def send(client: httpx.AsyncClient, locations: Any, **more: Any) -> httpx.Response:
    return await client.post(PATH, json={"network_monitor": {**SITE, "locations": locations, **more}})


@pytest.mark.usefixtures("probes")
async def test_places_are_named_and_come_back_in_the_order_in_which_they_were_given(
    app_client: httpx.AsyncClient,
) -> None:
    made = (await send(app_client, ["wien", "here", "ours"])).json()
    assert made["locations"] == ["wien", "here", "ours"]
    path = f"{PATH}/{made['uuid']}"
    kept = await app_client.patch(path, json={"network_monitor": {"name": "Other"}})
    assert kept.json()["locations"] == ["wien", "here", "ours"]
    for locations in (["here"], ["graz"], None):
        changed = await app_client.patch(path, json={"network_monitor": {"locations": locations}})
        assert changed.json()["locations"] == locations
        assert (await app_client.get(path)).json() == changed.json()


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize(
    ("locations", "why"),
    [
        (["wien", "prag"], "no place prag; there are: here, graz, ours, wien"),
        (["theirs"], "no place theirs; there are: here, graz, ours, wien"),
        (["Here"], "no place this one; there are: here, graz, ours, wien"),
        (["wien", "wien"], "must name wien only once"),
        ([], "must be null or 1 to 20 places; there are: here, graz, ours, wien"),
        (["wien"] * 21, "must be null or 1 to 20 places; there are: here, graz, ours, wien"),
    ],
)
async def test_what_is_no_place_is_refused_with_the_names_that_there_are(
    app_client: httpx.AsyncClient, locations: list[str], why: str
) -> None:
    refused = await send(app_client, locations)
    assert refused.status_code == 422
    assert refused.json()["details"] == [{"field": "locations", "message": why}]
    made = (await send(app_client, None)).json()
    refused = await app_client.patch(f"{PATH}/{made['uuid']}", json={"network_monitor": {"locations": locations}})
    assert refused.status_code == 422


@pytest.mark.parametrize("locations", ["wien", [1], [None], {"wien": True}, [["wien"]]])
async def test_locations_are_a_list_of_names(app_client: httpx.AsyncClient, locations: Any) -> None:
    assert (await send(app_client, locations)).status_code == 422


@pytest.mark.usefixtures("probes")
async def test_an_address_that_only_a_probe_may_reach_is_for_its_own_guard(app_client: httpx.AsyncClient) -> None:
    private = {"url": "http://169.254.1.1/"}
    assert (await send(app_client, None, **private)).status_code == 422
    assert (await send(app_client, ["wien", "here"], **private)).status_code == 422
    assert (await send(app_client, ["wien", "graz"], **private)).status_code == 201
