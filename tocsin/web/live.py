"""Pages that keep themselves true: server-sent events that say when to look again, nothing more.

What changed is not in the event, so nothing travels that a page would not show, and a lost event loses nothing.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
from litestar import get
from litestar.response import Stream

from tocsin.domain.remembered import Remembered
from tocsin.storage import changes
from tocsin.storage.database import UNAVAILABLE
from tocsin.web.session import AnyRequest, Service, Viewer, signed_in

EVERY = 1.0
"""Seconds between two looks, for however many readers of a project together."""
HEARTBEAT = 15.0
CHECK_SESSION = 60.0
MOST_STREAMS = 200
"""Of one process; who comes later sees pages as they were loaded."""
MOST_EACH = 5
"""Of one person: whoever opens one more reads on, and the page that they opened first waits for its turn."""
RETRY, RETRY_LATER = 2_000, 60_000
"""Milliseconds after which a browser comes back."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}

_seen: Remembered[tuple[asyncpg.Pool, UUID, frozenset[str]], object] = Remembered(MOST_STREAMS, EVERY / 2)
_streams: dict[asyncio.Event, UUID] = {}
"""Those that are open, oldest first: what ends one, and who reads it."""


@get("/live", include_in_schema=False)
async def live(request: AnyRequest, viewer: Viewer, service: Service, of: str = "") -> Stream:
    """`changed` whenever something of the topics (`of=incidents,deliveries`; none means all) is not as it was."""
    topics = frozenset(changes.TOPICS).intersection(of.split(",")) or frozenset(changes.TOPICS)
    return Stream(_events(request, viewer, service, topics), media_type="text/event-stream", headers=HEADERS)


def close() -> None:
    """End all streams, so that no reader keeps the process from ending."""
    for ended in _streams:
        ended.set()


async def _events(
    request: AnyRequest, viewer: Viewer, service: Service, topics: frozenset[str]
) -> AsyncIterator[str]:
    own = [ended for ended, reader in _streams.items() if reader == viewer.user_id]
    if len(own) >= MOST_EACH:
        own[0].set()
        del _streams[own[0]]
    if len(_streams) >= MOST_STREAMS:
        yield f"retry: {RETRY_LATER}\n\n"
        return
    ended = asyncio.Event()
    _streams[ended] = viewer.user_id
    try:
        yield f"retry: {RETRY}\n\n"
        known = await _state(service.pool, viewer.project_id, topics)
        said = checked = time.monotonic()
        while True:
            if await _wait(ended, EVERY):
                if ended not in _streams:  # given up for a younger one: it shall not take that one's place at once
                    yield f"retry: {RETRY_LATER}\n\n"
                return
            now = time.monotonic()
            if now - checked >= CHECK_SESSION:
                checked, person = now, await signed_in(request)
                if person is None or person.current is None or person.current.project_id != viewer.project_id:
                    return
            state = await _state(service.pool, viewer.project_id, topics)
            if state is not None and state != known:
                known, said = state, now
                yield "event: changed\ndata:\n\n"
            elif now - said >= HEARTBEAT:
                said = now
                yield ": still here\n\n"
    finally:
        _streams.pop(ended, None)


async def _wait(ended: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _state(pool: asyncpg.Pool, project_id: UUID, topics: frozenset[str]) -> object:
    """What is there now, looked up once for all who ask within a second; None while the database is away."""
    place = pool, project_id, topics
    if (known := _seen.get(place)) is not None:
        return known
    asked = time.monotonic()
    try:
        async with pool.acquire() as tx:
            state = await changes.state(tx, project_id, topics)
    except UNAVAILABLE:
        return None
    _seen.put(place, state, asked)
    return state


routes = [live]
