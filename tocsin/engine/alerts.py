"""Ends alerts that their sources should have mentioned again by now."""

from __future__ import annotations

import asyncio

import asyncpg

from tocsin.engine import looks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import alerts
from tocsin.storage.postgres.database import Tx

BATCH = 250


async def run(pool: asyncpg.Pool, stop: asyncio.Event, connectivity: Connectivity | None = None) -> None:
    """Until `stop` is set. While nothing can come in here, nothing is missed."""

    async def look(tx: Tx, limit: int, back_for: float | None) -> int:
        return await alerts.end_over(tx, limit, back_for=back_for)

    await looks.while_reachable(pool, look, stop, connectivity, what="alerts that are over", batch=BATCH)
