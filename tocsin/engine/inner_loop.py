"""Sees that everything works, from end to end, and tells whoever watches over this installation while it does."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from tocsin import __version__
from tocsin.storage.delivery import inner_loop
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Http, Unreachable

log = structlog.get_logger(__name__)

TIMEOUT = 5.0
"""Seconds that a call may take."""
LOOK = 1.0
LOOKS = 5
"""An interval has so many looks, or one each `LOOK` seconds."""
HEADERS = {"User-Agent": f"Tocsin/{__version__}"}


async def run(
    pool: asyncpg.Pool, vault: Vault, url: str | None, every: float, public_url: str, stop: asyncio.Event
) -> None:
    """Until `stop`: a round every so many seconds, whichever engine makes it; and as often a call of `url`, while the
    last round that went through is not older than two of them.

    `url` is the operator's own: it may be anywhere. It is called by one engine at a time, its redirects are not
    followed, and what it answers stops nothing.
    """
    pause = min(LOOK, every / LOOKS)
    watcher = _Watcher(url)
    try:
        while not stop.is_set():
            try:
                async with pool.acquire() as tx, tx.transaction():
                    await inner_loop.advance(tx, vault, every, public_url=public_url)
                    tell = url is not None and await inner_loop.may_call(tx, every, pause)
                if tell:
                    problem = await watcher.call()
                    async with pool.acquire() as tx, tx.transaction():
                        await inner_loop.called(tx, problem)
            except UNAVAILABLE as error:
                log.debug("Database unavailable", look="the inner loop", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
    finally:
        await watcher.close()


class _Watcher:
    """Who is told, and what this engine last heard of it. The address is a secret, and is never part of a message."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._http = Http(Guard(EVERYWHERE), within=TIMEOUT + 1)
        self._problem: str | None = None

    async def call(self) -> str | None:
        """Returns why it did not work, or None. Says so in the log when that changes."""
        assert self._url is not None
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._http.request("GET", self._url, b"", HEADERS)
            problem = None if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except TimeoutError:
            problem = f"No answer within {TIMEOUT:g} seconds"
        except Unreachable as error:
            problem = str(error)
        if problem is not None and problem != self._problem:
            log.warning("TOCSIN_HEARTBEAT_URL cannot be called", problem=problem)
        elif problem is None and self._problem is not None:
            log.warning("TOCSIN_HEARTBEAT_URL answers again")
        self._problem = problem
        return problem

    async def close(self) -> None:
        await self._http.close()
