"""Watches for probes that are silent, and for those that are heard again."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import probes
from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger()

PAUSE = 2.0
"""Seconds between two looks."""


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `silent`, and end it, until `stop` is set. Several engines may do so at once.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    probe.
    """
    while not stop.is_set():
        try:
            async with pool.acquire() as tx, tx.transaction():
                if connectivity is None or not connectivity.away:
                    await probes.judge(
                        tx, public_url=public_url, back_for=connectivity.back_for if connectivity else None
                    )
        except UNAVAILABLE as error:
            log.debug("Database unavailable", error=str(error))
        except asyncpg.PostgresError as error:
            log.warning("Look for silent probes failed", error=str(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), PAUSE)
