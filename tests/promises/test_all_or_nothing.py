"""The first promise: an incident and all its deliveries are stored in one transaction, or neither is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncpg

from tests.promise_scene import scene
from tests.receivers import Receiver
from tests.service import Service
from tests.waiting import until


async def test_an_incident_and_its_deliveries_are_there_together_or_not_at_all(
    own_service: Service, receiver: Receiver
) -> None:
    async with own_service.client() as client:
        stage = await scene(client, {"first": receiver.url("/1"), "second": receiver.url("/2")})
        for round_ in range(5):
            asked = [asyncio.create_task(stage.open(20, round_ * 1000 + at)) for at in range(0, 800, 20)]
            await until(enough(asked, 1 + 4 * round_), what="the first answers")
            await asyncio.to_thread(own_service.api.kill)
            await asyncio.gather(*asked, return_exceptions=True)
            await asyncio.to_thread(own_service.start)
    connection = await asyncpg.connect(own_service.database)
    try:
        counts = await connection.fetch(
            "SELECT incidents.id, count(deliveries.id) AS deliveries FROM incidents "
            "LEFT JOIN deliveries ON deliveries.incident_id = incidents.id GROUP BY incidents.id"
        )
    finally:
        await connection.close()
    assert Counter(row["deliveries"] for row in counts) == {2: len(counts)}
    assert len(counts) % 20 == 0, "a batch is opened as a whole"


def enough(tasks: list[asyncio.Task[Any]], count: int) -> Callable[[], Any]:
    async def look() -> bool:
        return sum(task.done() for task in tasks) >= count

    return look
