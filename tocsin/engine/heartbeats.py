"""Watches for heartbeats that are late."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import asyncpg
import structlog

from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import lateness
from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger()

BATCH = 500
PAUSE = 1.0
"""Seconds between two looks, and so the maximum delay in noticing that something is late."""


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `missed` and `overrun`, until `stop` is set. Several engines may do so at once.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    heartbeat.
    """
    away_since: float | None = None
    while not stop.is_set():
        due = 0
        try:
            async with pool.acquire() as tx, tx.transaction():
                if connectivity is not None and connectivity.away:
                    away_since = away_since or monotonic()
                else:
                    if away_since is not None:
                        await lateness.record_away(tx, monotonic() - away_since)
                    back_for = connectivity.back_for if connectivity else None
                    due = (await lateness.look(tx, BATCH, public_url=public_url, back_for=back_for)).due
            away_since = away_since if connectivity is not None and connectivity.away else None
        except UNAVAILABLE as error:
            log.debug("Database unavailable", error=str(error))
        except asyncpg.PostgresError as error:
            log.warning("Look for late heartbeats failed", error=str(error))
        if due < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)
