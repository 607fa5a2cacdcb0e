"""Decides about deliveries that wait for their turn, when it has come or what they wait for has changed."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg

from tocsin.storage.notifying import turns

BATCH = 200
POLL = 0.5
"""Seconds between two looks while nobody wakes this; so late can a turn be."""


async def run(pool: asyncpg.Pool, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Until `stop`: decide about what is due, whenever woken and at each poll. Any number of engines may do so."""
    while not stop.is_set():
        wake.clear()
        async with pool.acquire() as tx, tx.transaction():
            decided = await turns.decide_due(tx, BATCH)
        if decided:
            continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await wake.wait()
