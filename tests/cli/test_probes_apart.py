"""Three probes on machines of their own: one is cut off, one slow, one has a wrong clock; the service is killed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncpg

from tests import needed
from tests.places_scene import HUB, SITE_PORT, Machine, Network, network
from tests.probes import made_probe
from tests.waiting import until
from tocsin.domain import places
from tocsin.storage.postgres.secrets import Vault

PLACES = ["cut", "slow", "odd"]
TIMEOUT = 5
"""Seconds; beside other work, a check of one that has nothing to wait for may take two."""
SILENT = places.LIVING + TIMEOUT + 1
"""Seconds after which a place, whose checks are a second apart, has no vote any more."""


async def test_most_of_the_places_that_live_decide_whatever_becomes_of_one_of_them(
    pool: asyncpg.Pool, database: str, vault: Vault, project: Any, tmp_path: Path
) -> None:
    preload = needed.library("libfaketime.so.1")
    with ExitStack() as stack:
        there, machines = await asyncio.to_thread(
            stack.enter_context, network(database, tmp_path, lambda _: project.api_token)
        )
        cut, _, odd = machines
        odd.environ = {"LD_PRELOAD": preload, "FAKETIME": "+2h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for each in machines:
            token = (await made_probe(pool, vault, project.id, each.name))[1]
            stack.enter_context(each.probing(token))
        uuid = await asyncio.to_thread(watch, there)
        await all_vote(pool, PLACES)
        assert await pool.fetchval("SELECT max(at) < now() AND min(at) > now() - interval '2 minutes' FROM checks")

        there.well.unlink()
        await incidents(pool, (True,))
        there.well.touch()
        await incidents(pool, (False,))

        await all_vote(pool, PLACES)  # else the last word of one of them is of before
        cut.cut()
        since = await pool.fetchval("SELECT now()")
        await is_silent(pool, cut)
        assert len(await messages(pool)) == 1, f"one that sees nothing is no majority: {await messages(pool)}"
        there.well.unlink()
        await incidents(pool, (False, True))
        assert (await messages(pool))[1].startswith("From 2 of 2 places (slow, odd): ")

        there.api.kill()
        killed = await pool.fetchval("SELECT now()")
        there.well.touch()
        await asyncio.sleep(4)
        assert await pool.fetchval("SELECT count(*) FROM checks WHERE at > $1", killed) == 0
        await asyncio.to_thread(there.start)
        await incidents(pool, (False, False))
        assert await pool.fetchval("SELECT count(*) FROM checks WHERE at > $1 AND ok", killed) > 0

        cut.mend()
        await all_vote(pool, PLACES)
        late = "SELECT count(*) FROM checks WHERE place = 'cut' AND NOT ok AND at BETWEEN $1 AND $2"
        assert await pool.fetchval(late, since, killed) >= 1, "what it saw meanwhile comes in late"
        await asyncio.sleep(2)
        assert [each[1] for each in await ongoing(pool)] == [False, False], "and decides nothing"
        found = await asyncio.to_thread(there.call, "GET", f"/network_monitors/{uuid}")
        assert found["status"] == "success"


def watch(there: Network) -> str:
    wanted = {
        "url": f"http://{HUB}:{SITE_PORT}/", "interval": 1, "timeout": TIMEOUT, "confirmations": 2, "locations": PLACES,
    }  # fmt: skip
    return str(there.call("POST", "/network_monitors", {"network_monitor": wanted})["uuid"])


async def ongoing(pool: asyncpg.Pool) -> list[tuple[str, bool]]:
    rows = await pool.fetch("SELECT type, closed_at FROM incidents WHERE resource_type = 'NetworkMonitor' ORDER BY id")
    return [(row["type"], row["closed_at"] is None) for row in rows]


async def messages(pool: asyncpg.Pool) -> list[str]:
    return [row["message"] for row in await pool.fetch("SELECT message FROM incidents ORDER BY id")]


async def incidents(pool: asyncpg.Pool, lasting: tuple[bool, ...]) -> None:
    """Until there are so many, each lasting or not."""

    async def look() -> bool:
        return tuple(each[1] for each in await ongoing(pool)) == lasting

    await until(look, what=f"incidents {lasting}")


async def all_vote(pool: asyncpg.Pool, wanted: list[str]) -> None:
    """Until all of them see it well, and have a vote."""

    async def look() -> bool:
        good = "SELECT count(*) FROM monitor_places WHERE successes > 0 AND heard_at > now() - $1 * interval '1 s'"
        return bool(await pool.fetchval(good, SILENT) == len(wanted))

    await until(look, what="all places to see it well")


async def is_silent(pool: asyncpg.Pool, machine: Machine) -> None:
    async def look() -> bool:
        old = "SELECT heard_at < now() - make_interval(secs => $2) FROM monitor_places WHERE place = $1"
        return bool(await pool.fetchval(old, machine.name, SILENT))

    await until(look, what=f"silence of {machine.name}")
