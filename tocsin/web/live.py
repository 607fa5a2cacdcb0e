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

from tocsin.storage import changes
from tocsin.storage.database import UNAVAILABLE
from tocsin.web.session import AnyRequest, Service, Viewer, signed_in

EVERY = 1.0
"""Seconds between two looks, for however many readers of a project together."""
HEARTBEAT = 15.0
CHECK_SESSION = 60.0
MOST_STREAMS = 200
"""Of one process; who comes later sees pages as they were loaded."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}

_seen: dict[tuple[asyncpg.Pool, UUID, frozenset[str]], tuple[float, object]] = {}
_streams: set[asyncio.Event] = set()


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
    if len(_streams) >= MOST_STREAMS:
        yield "retry: 60000\n\n"
        return
    ended = asyncio.Event()
    _streams.add(ended)
    try:
        yield "retry: 2000\n\n"
        known = await _state(service.pool, viewer.project_id, topics)
        said = checked = time.monotonic()
        while not await _wait(ended, EVERY):
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
        _streams.discard(ended)


async def _wait(ended: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _state(pool: asyncpg.Pool, project_id: UUID, topics: frozenset[str]) -> object:
    """What is there now, looked up once for all who ask within a second; None while the database is away."""
    place = pool, project_id, topics
    at, state = _seen.get(place, (0.0, None))
    if time.monotonic() - at < EVERY / 2:
        return state
    try:
        async with pool.acquire() as tx:
            state = await changes.state(tx, project_id, topics)
    except UNAVAILABLE:
        return None
    if len(_seen) >= MOST_STREAMS:
        _seen.clear()
    _seen[place] = time.monotonic(), state
    return state


routes = [live]
