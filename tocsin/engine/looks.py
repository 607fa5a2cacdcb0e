"""How an engine looks for what is due: once a second, a bounded number in each look."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from tocsin.storage.postgres.database import UNAVAILABLE

log = structlog.get_logger()

BATCH = 500
"""Maximum in one look. Where there may be more, the next look follows at once."""
PAUSE = 1.0
"""Seconds between two looks, and so the maximum delay in noticing something."""


async def repeat(look: Callable[[int], Awaitable[int]], stop: asyncio.Event, *, what: str) -> None:
    """Until `stop` is set, call `look` with the most that it may take; it returns how much was due.

    Several engines may look at once. While the database is unavailable, this waits. `what` is for the log.
    """
    while not stop.is_set():
        due = 0
        try:
            due = await look(BATCH)
        except UNAVAILABLE as error:
            log.debug("Database unavailable", look=what, error=type(error).__name__)
        except asyncpg.PostgresError as error:
            log.warning("A look failed; it is repeated", look=what, error=type(error).__name__)
        if due < BATCH:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)
