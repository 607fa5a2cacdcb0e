"""Watches for heartbeats that are late."""

from __future__ import annotations

import asyncio
from time import monotonic

import asyncpg

from tocsin.engine import looks
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import lateness


async def run(
    pool: asyncpg.Pool, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Open `missed` and `overrun`, until `stop` is set.

    While the database is unavailable, or there is no way out of here, this waits; that time does not count against any
    heartbeat.
    """
    away_since: float | None = None

    async def look(limit: int) -> int:
        nonlocal away_since
        if connectivity is not None and connectivity.away:
            away_since = away_since or monotonic()
            return 0
        async with pool.acquire() as tx, tx.transaction():
            if away_since is not None:
                await lateness.record_away(tx, monotonic() - away_since)
            back_for = connectivity.back_for if connectivity else None
            due = (await lateness.look(tx, limit, public_url=public_url, back_for=back_for)).due
        away_since = None
        return due

    await looks.repeat(look, stop, what="heartbeats that are late")
