"""Ends alerts that their sources should have mentioned again by now."""

from __future__ import annotations

import asyncio

import asyncpg

from tocsin.engine import looks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import alerts


async def run(pool: asyncpg.Pool, stop: asyncio.Event, connectivity: Connectivity | None = None) -> None:
    """Until `stop` is set. While nothing can come in here, nothing is missed."""

    async def look(limit: int) -> int:
        if connectivity is not None and connectivity.away:
            return 0
        async with pool.acquire() as tx, tx.transaction():
            return await alerts.end_over(tx, limit, back_for=connectivity.back_for if connectivity else None)

    await looks.repeat(look, stop, what="alerts that are over")
