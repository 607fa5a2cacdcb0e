"""Watches for probes that are silent, and for those that are heard again."""

from __future__ import annotations

import asyncio

import asyncpg

from tocsin.engine import looks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import probes
from tocsin.storage.postgres.database import Tx


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `silent`, and end it, until `stop` is set.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    probe.
    """

    async def look(tx: Tx, limit: int, back_for: float | None) -> int:
        await probes.judge(tx, public_url=public_url, back_for=back_for)
        return 0

    await looks.while_reachable(pool, look, stop, connectivity, what="silent probes")
