"""The order of the map of places and monitors, and what each place saw of one, in the database."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg

from tests.probe_scene import MANY, SAW
from tests.sites import VAULT
from tests.storage.delivery.test_plans import scanned
from tocsin.domain import ids
from tocsin.domain.incidents import OpenRequest
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.resources.network_monitor import RESOURCE as MONITOR
from tocsin.storage.delivery import openings
from tocsin.storage.monitoring import monitors, places, places_list

URL = "https://tocsin.example.com"


async def make(pool: asyncpg.Pool, project: UUID, name: str, *locations: str, paused: bool = False) -> UUID:
    wanted = MonitorConfig(name, Target(f"http://192.0.2.1/{name}", "http", 5.0), 60.0, paused=paused)
    async with pool.acquire() as tx, tx.transaction():
        for place in {*locations} - {"here"}:
            await tx.execute(
                "INSERT INTO probes (id, project_id, name, token_hash) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                ids.new(), project, place, place.encode(),
            )  # fmt: skip
        made = await monitors.create(tx, VAULT, project, wanted)
        await tx.execute("UPDATE network_monitors SET locations = $2 WHERE id = $1", made, list(locations) or None)
    return made


async def shown(pool: asyncpg.Pool, project: UUID, **given: Any) -> tuple[list[str], int, int]:
    wanted = {"search": "", "disagreed": False, "limit": 20, "offset": 0, **given}
    async with pool.acquire() as tx:
        found, total, disagreed = await places_list.page(tx, project, **wanted)
    return [each.name for each in found], total, disagreed


async def test_what_places_disagree_about_comes_first_then_what_is_down_then_what_one_is_silent_about(
    pool: asyncpg.Pool, project: Any
) -> None:
    three = ("wien", "here", "graz")
    seen: dict[str, list[tuple[str, float, str | None]]] = {
        "calm": [(place, 5, None) for place in three],
        "disputed": [("wien", 5, "timeout"), ("here", 5, None), ("graz", 5, None)],
        "down": [(place, 5, "timeout") for place in three],
        # What is over an age of three intervals and a timeout is no vote, so that nobody disagrees here.
        "silent": [("wien", 190, "timeout"), ("here", 180, None), ("graz", 5, None)],
        "stopped": [("wien", 5, "timeout"), ("here", 5, None)],
        "unheard": [],
    }  # fmt: skip
    for name, votes in seen.items():
        made = await make(pool, project.id, name, *three, paused=name == "stopped")
        for place, ago, problem in votes:
            await pool.execute(SAW, made, place, ago, problem, None, 12.0)
    await make(pool, project.id, "alone")
    broken = await make(pool, project.id, "broken")
    async with pool.acquire() as tx, tx.transaction():
        request = OpenRequest(project.id, MONITOR.type, broken, "timeout", "No answer")
        await openings.open(tx, [request], public_url=URL)
    names, total, disagreed = await shown(pool, project.id)
    assert names == ["disputed", "broken", "down", "silent", "alone", "calm", "unheard", "stopped"]
    assert (total, disagreed) == (8, 1)
    assert await shown(pool, project.id, disagreed=True) == (["disputed"], 1, 1)
    assert (await shown(pool, project.id, search="DOWN"))[0] == ["down"]
    assert (await shown(pool, project.id, limit=2, offset=2))[0] == ["down", "silent"]
    assert await shown(pool, ids.new()) == ([], 0, 0), "those of another project are not shown"


async def test_each_location_is_shown_in_its_order_and_one_that_is_no_place_any_more_is_gone(
    pool: asyncpg.Pool, project: Any
) -> None:
    made = await make(pool, project.id, "site", "wien", "here", "graz")
    await pool.execute(SAW, made, "here", 5.0, None, None, 12.0)
    await pool.execute(SAW, made, "graz", 500.0, "timeout", "No answer", None)
    async with pool.acquire() as tx:
        wien, here, graz = await places.of_locations(tx, made, ["wien", "here", "graz"])
        assert await places_list.in_use(tx, project.id) == ["here", "graz"]
        assert await places.of_locations(tx, made, ()) == []
    assert (wien.place, wien.gone, wien.lives) == ("wien", True, False)
    assert (here.lives, here.problem, here.in_a_row, here.response_ms) == (True, None, 7, 12.0)
    assert (graz.lives, graz.gone, graz.problem, graz.message, graz.in_a_row) == (
        False, False, "timeout", "No answer", 3,
    )  # fmt: skip


async def test_the_map_looks_places_up_by_their_key_on_tables_that_were_empty_when_they_were_counted(
    pool: asyncpg.Pool, project: Any
) -> None:
    await pool.execute("VACUUM (ANALYZE) network_monitors, monitor_places, monitor_states")
    await pool.execute(MANY, project.id, ["here", "graz", "wien"])
    async with pool.acquire() as tx:
        plan = await tx.fetchval(f"EXPLAIN (FORMAT json) {places_list.PAGE}", project.id, "", False, 20, 0, [])
        found = scanned((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
        names, total, disagreed = await shown(pool, project.id)
    assert "monitor_places" not in found
    assert (len(names), total, disagreed) == (20, 1_000, 100)
