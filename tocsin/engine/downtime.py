"""Watches for servers that have stopped reporting."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import downtime
from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger()

BATCH = 500
PAUSE = 1.0
"""Seconds between two checks, and so the maximum delay in noticing a downtime."""


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `downtime` for servers that have stopped reporting, until `stop` is set. Several engines may do so at once.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    server.
    """
    while not stop.is_set():
        due = 0
        try:
            async with pool.acquire() as tx, tx.transaction():
                if connectivity is None or not connectivity.away:
                    back_for = connectivity.back_for if connectivity else None
                    due = (await downtime.check_servers(tx, BATCH, public_url=public_url, back_for=back_for)).due
        except UNAVAILABLE as error:
            log.debug("Database unavailable", error=str(error))
        except asyncpg.PostgresError as error:
            log.warning("Downtime check failed", error=str(error))
        if due < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)
