"""Watches for servers that have stopped reporting."""

from __future__ import annotations

import asyncio

import asyncpg

from tocsin.engine import looks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import downtime
from tocsin.storage.postgres.database import Tx


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `downtime` for servers that have stopped reporting, until `stop` is set.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    server.
    """

    async def look(tx: Tx, limit: int, back_for: float | None) -> int:
        return (await downtime.check_servers(tx, limit, public_url=public_url, back_for=back_for)).due

    await looks.while_reachable(pool, look, stop, connectivity, what="servers that have stopped reporting")
