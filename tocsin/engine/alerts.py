"""Ends alerts that their sources should have mentioned again by now."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import alerts
from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger()

BATCH = 250
PAUSE = 1.0


async def run(pool: asyncpg.Pool, stop: asyncio.Event, connectivity: Connectivity | None = None) -> None:
    """Until `stop` is set. Several engines may do so at once. While nothing can come in here, nothing is missed."""
    while not stop.is_set():
        over = 0
        try:
            if connectivity is None or not connectivity.away:
                back_for = connectivity.back_for if connectivity else None
                async with pool.acquire() as tx, tx.transaction():
                    over = await alerts.end_over(tx, BATCH, back_for=back_for)
        except UNAVAILABLE as error:
            log.debug("Database unavailable", error=str(error))
        except asyncpg.PostgresError as error:
            log.warning("Alerts could not be ended", error=type(error).__name__)
        if over < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)
