"""Decides about deliveries that wait for their turn, when it has come or what they wait for has changed."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin.storage.notifying import turns
from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger(__name__)

BATCH = 200
POLL = 0.5
"""Seconds between two looks while nobody wakes this; so late can a turn be."""
PUT_OFF = 60.0
"""Seconds until the next try to decide about what could not be decided about."""


async def run(pool: asyncpg.Pool, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Until `stop`: decide about what is due, whenever woken and at each poll. Any number of engines may do so.

    One that cannot be decided about, by a fault of ours, keeps no other from it.
    """
    limit = BATCH
    while not stop.is_set():
        wake.clear()
        try:
            async with pool.acquire() as tx, tx.transaction():
                decided = await turns.decide_due(tx, limit)
            limit = BATCH if decided == 0 else limit
        except UNAVAILABLE:
            raise
        except Exception:
            log.exception("It could not be decided who is notified", deliveries=limit)
            if limit == 1:
                async with pool.acquire() as tx, tx.transaction():
                    await turns.put_off(tx, PUT_OFF)
            limit, decided = 1, 1
        if decided:
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await wake.wait()
