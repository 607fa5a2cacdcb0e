"""Counts how soon deliveries were first tried, and opens an incident while too many were late."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin.domain.punctuality import Objective
from tocsin.storage.delivery import first_tries
from tocsin.storage.monitoring import punctuality
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.secrets import Vault

log = structlog.get_logger(__name__)

LOOK = 10.0
"""Seconds between two looks at most; a part of the window at least."""


async def run(
    pool: asyncpg.Pool, vault: Vault, objective: Objective | None, public_url: str, stop: asyncio.Event
) -> None:
    """Until `stop`; several engines share the counting. Without an objective, nothing is counted."""
    pause = LOOK if objective is None else min(LOOK, objective.part)
    while not stop.is_set():
        try:
            while objective is not None and not stop.is_set():
                async with pool.acquire() as tx, tx.transaction():
                    if not await first_tries.count(tx, objective):
                        break
                    await punctuality.judge(tx, vault, objective, public_url=public_url)
        except UNAVAILABLE as error:
            log.debug("Database unavailable", look="first tries", error=type(error).__name__)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
