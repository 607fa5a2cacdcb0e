"""Keeps open pages up to date: server-sent events that only tell a page to reload its parts.

Events do not say what changed, so nothing is sent that a page would not show, and a lost event loses nothing.
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

from tocsin.domain.ttl_cache import TTLCache
from tocsin.storage.postgres import changes
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.web.session import Service, Viewer

EVERY = 1.0
"""Seconds between two look-ups, shared by all readers of a project."""
HEARTBEAT = 15.0
MAX_STREAMS = 200
"""Per process; further viewers see pages as they were loaded."""
MAX_EACH = 5
"""Per person: opening one more ends the oldest, which retries later."""
RETRY, RETRY_LATER = 2_000, 60_000
"""Milliseconds after which a browser reconnects."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}

_seen: TTLCache[tuple[asyncpg.Pool, UUID, frozenset[str]], object] = TTLCache(MAX_STREAMS, EVERY / 2)
_shown: TTLCache[asyncpg.Pool, set[tuple[UUID, UUID]]] = TTLCache(10, EVERY / 2)
_streams: dict[asyncio.Event, Viewer] = {}
"""Open streams, oldest first: the event that ends one, and its viewer."""


@get("/live", include_in_schema=False)
async def live(viewer: Viewer, service: Service, of: str = "") -> Stream:
    """Sends `changed` whenever something in the topics (`of=incidents,deliveries`; none means all) has changed."""
    topics = frozenset(changes.TOPICS).intersection(of.split(",")) or frozenset(changes.TOPICS)
    return Stream(_events(viewer, service, topics), media_type="text/event-stream", headers=HEADERS)


def close() -> None:
    """End all streams, so that no viewer keeps the process from ending."""
    for ended in _streams:
        ended.set()


async def _events(viewer: Viewer, service: Service, topics: frozenset[str]) -> AsyncIterator[str]:
    own = [ended for ended, reader in _streams.items() if reader.user_id == viewer.user_id]
    if len(own) >= MAX_EACH:
        own[0].set()
        del _streams[own[0]]
    if len(_streams) >= MAX_STREAMS:
        yield f"retry: {RETRY_LATER}\n\n"
        return
    ended = asyncio.Event()
    _streams[ended] = viewer
    try:
        yield f"retry: {RETRY}\n\n"
        known = await _state(service.pool, viewer.project_id, topics)
        sent_at = time.monotonic()
        while True:
            if await _wait(ended, EVERY):
                if ended not in _streams:  # replaced by a newer one: it must not immediately replace that one in turn
                    yield f"retry: {RETRY_LATER}\n\n"
                return
            if not await _may_look(service.pool, viewer):
                return
            now = time.monotonic()
            state = await _state(service.pool, viewer.project_id, topics)
            if state is not None and state != known:
                known, sent_at = state, now
                yield "event: changed\ndata:\n\n"
            elif now - sent_at >= HEARTBEAT:
                sent_at = now
                yield ": still here\n\n"
    finally:
        _streams.pop(ended, None)


async def _wait(ended: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _may_look(pool: asyncpg.Pool, viewer: Viewer) -> bool:
    """Whether the session is valid and still shows the project: looked up once a second for all streams together. A
    result from before this stream was opened does not count; while the database is unavailable, nothing is sent.
    """
    own = viewer.session_id, viewer.project_id
    asked = time.monotonic()
    known = _shown.get(pool)
    if known is None or own not in known:
        try:
            async with pool.acquire() as tx:
                known = await changes.on_show(tx, {(each.session_id, each.project_id) for each in _streams.values()})
        except UNAVAILABLE:
            return True
        _shown.put(pool, known, asked)
    return own in known


async def _state(pool: asyncpg.Pool, project_id: UUID, topics: frozenset[str]) -> object:
    """The current state, looked up once a second for all who ask; None while the database is unavailable."""
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
