"""Watches for servers that have stopped reporting."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin.storage.monitoring import downtime
from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger()

BATCH = 500
PAUSE = 1.0
"""Seconds between two looks, and so the most by which a downtime is noticed late."""


async def run(pool: asyncpg.Pool, public_url: str, stop: asyncio.Event) -> None:
    """Open `downtime` for servers that have gone silent, until `stop` is set. Any number of engines may do so at once.

    A database that is away is waited for; nothing is judged by the time that it was.
    """
    while not stop.is_set():
        due = 0
        try:
            async with pool.acquire() as tx, tx.transaction():
                due = (await downtime.check_downtime(tx, BATCH, public_url=public_url)).due
        except UNAVAILABLE as error:
            log.debug("database away", error=str(error))
        except asyncpg.PostgresError as error:
            log.warning("looking for silent servers failed", error=str(error))
        if due < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)
