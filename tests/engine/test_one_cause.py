"""One cause, one message: real sites behind a real router, checked and told by a running engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg

from tests.lines import Line, lines
from tests.receivers import Receiver
from tests.waiting import until
from tests.world import World, start, world
from tocsin.domain import dependencies
from tocsin.domain.attachments import Attachment
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.channels import attachments
from tocsin.storage.monitoring import monitors
from tocsin.storage.notifying import depends_on

__all__ = ["lines", "start", "world"]

SHOPS = 15


async def test_a_router_with_fifteen_shops_behind_it_is_one_message(
    world: World, start: Callable[[], Awaitable[None]], lines: Callable[[int], Awaitable[list[Line]]],
    receiver: Receiver, pool: asyncpg.Pool,
) -> None:  # fmt: skip
    router, *shops = await lines(SHOPS + 1)
    webhook = await world.attach(receiver.url("/hook"))
    keys = {each.url: await watch(world, each, webhook, f"site {place}") for place, each in enumerate((router, *shops))}
    for shop in shops:
        async with pool.acquire() as tx, tx.transaction():
            written = dependencies.parse([NETWORK_MONITOR.public(keys[router.url])])
            await depends_on.replace(tx, world.project_id, NETWORK_MONITOR, keys[shop.url], written)
    await start()
    await until(lambda: count(pool, "SELECT count(DISTINCT monitor_id) = $1 FROM checks WHERE ok", SHOPS + 1))
    for line in (router, *shops):
        await line.cut()
    await until(lambda: count(pool, "SELECT count(*) = $1 FROM ongoing", SHOPS + 1))
    await until(lambda: count(pool, "SELECT count(*) = $1 FROM outstanding WHERE held IS NOT NULL", SHOPS))
    told = await until(lambda: opened(receiver, 1))
    assert told == {"site 0": 1}
    async with pool.acquire() as tx:
        found, _ = await monitors.list_(tx, world.project_id, search="", sort="status", limit=50, offset=0)
    assert Counter(each.status for each in found) == {"error": 1, "unreachable": SHOPS}

    for line in (router, *shops[1:]):  # one of them stays down
        await line.mend()
    await until(lambda: count(pool, "SELECT count(*) = $1 FROM ongoing", 1))
    assert await until(lambda: opened(receiver, 2)) == {"site 0": 1, "site 1": 1}
    await until(lambda: count(pool, "SELECT count(*) = $1 FROM outstanding", 0))
    assert await opened(receiver, 2) == {"site 0": 1, "site 1": 1}


async def watch(world: World, line: Line, webhook: UUID, name: str) -> UUID:
    async with world.pool.acquire() as tx, tx.transaction():
        wanted = MonitorConfig(name, Target(line.url, "tcp", 5.0), interval=1.0, confirmations=1)
        made = await monitors.create(tx, world.vault, world.project_id, wanted)
        await attachments.attach(tx, made, webhook, Attachment())
    return made


async def count(pool: asyncpg.Pool, question: str, wanted: int) -> bool:
    return bool(await pool.fetchval(question, wanted))


async def opened(receiver: Receiver, least: int) -> Any:
    """Whose openings were received, once there are so many of them."""
    names = [each.json["resource_name"] for each in receiver.requests if each.json["incident_status"] == "ongoing"]
    return Counter(names) if len(names) >= least else None
