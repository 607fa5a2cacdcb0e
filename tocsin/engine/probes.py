"""Watches for probes that are silent, and for those that are heard again."""

from __future__ import annotations

import asyncio

import asyncpg

from tocsin.engine import looks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import probes


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `silent`, and end it, until `stop` is set.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    probe.
    """

    async def look(limit: int) -> int:
        if connectivity is not None and connectivity.away:
            return 0
        async with pool.acquire() as tx, tx.transaction():
            back_for = connectivity.back_for if connectivity else None
            await probes.judge(tx, public_url=public_url, back_for=back_for)
        return 0

    await looks.repeat(look, stop, what="silent probes")
