"""How an engine looks for what is due: once a second, a bounded number in each look."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from tocsin.engine.connectivity import Connectivity
from tocsin.storage.postgres.database import UNAVAILABLE, Tx

log = structlog.get_logger()

BATCH = 500
"""Maximum in one look. Where there may be more, the next look follows at once."""
PAUSE = 1.0
"""Seconds between two looks, and so the maximum delay in noticing something."""


async def while_reachable(
    pool: asyncpg.Pool, look: Callable[[Tx, int, float | None], Awaitable[int]], stop: asyncio.Event,
    connectivity: Connectivity | None, *, what: str, batch: int = BATCH,
) -> None:  # fmt: skip
    """As `repeat`, each look in a transaction, and none while there is no way out of here.

    `look` is also given for how many seconds there has been a way again; None if there always was.
    """

    async def looked(limit: int) -> int:
        if connectivity is not None and connectivity.away:
            return 0
        async with pool.acquire() as tx, tx.transaction():
            return await look(tx, limit, connectivity.back_for if connectivity else None)

    await repeat(looked, stop, what=what, batch=batch)


async def repeat(
    look: Callable[[int], Awaitable[int]], stop: asyncio.Event, *, what: str, batch: int = BATCH
) -> None:
    """Until `stop` is set, call `look` with the most that it may take; it returns how much was due.

    Several engines may look at once. While the database is unavailable, this waits. `what` is for the log.
    """
    while not stop.is_set():
        due = 0
        try:
            due = await look(batch)
        except UNAVAILABLE as error:
            log.debug("Database unavailable", look=what, error=type(error).__name__)
        except asyncpg.PostgresError as error:
            log.warning("A look failed; it is repeated", look=what, error=type(error).__name__)
        if due < batch:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)
