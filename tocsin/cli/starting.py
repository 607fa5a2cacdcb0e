"""What callers are answered while the API waits for its database at its start: 503 at once, never nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tocsin.domain.errors import Refused
from tocsin.settings import Settings

AT_ONCE = 1.0
"""Seconds in which a start is over, as a rule: who asks before waits for it."""
WAITS = "Tocsin is starting, and waits for its database; try again in a moment"
LIVES = b'{"status":"ok"}'


@asynccontextmanager
async def answering(listening: socket.socket, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """Everybody is answered in here that the process lives, and no more; the task ends if that does.

    Raises `click.UsageError` if another process listens there already.
    """
    from tocsin.api.connection import Connection
    from tocsin.api.connection_limits import ConnectionLimiter
    from tocsin.cli import files, http_server, sockets

    class Bounded(Connection):
        limiter = ConnectionLimiter(settings.limits, files.allow_many(), settings.trusted_proxies)

    server = http_server.Server(http_server.config(_answer, http=Bounded, lifespan="off", timeout_graceful_shutdown=1))
    with sockets.usable(*listening.getsockname()[:2]):
        listening.listen(sockets.BACKLOG)
    with listening.dup() as shared:  # the server closes what it listens on
        serving = asyncio.create_task(server.serve(sockets=[shared]))
        try:
            yield serving
        finally:
            server.should_exit = True
            await serving


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    from tocsin.api import errors

    if scope["path"] == "/health/live":
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(LIVES))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": LIVES})
        return
    await errors.send(send, Refused(503, "unavailable", WAITS, headers={"Retry-After": "2"}))
