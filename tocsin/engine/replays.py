"""Sends again what a receiver missed, as each replay asks: in order, and no faster than the receiver bears.

Few redeliveries are outstanding at a time and the next are queued when those have finished, so that a new incident's
delivery never waits for a replay. Each step is one transaction; any number of engines may run this.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import asyncpg
import structlog

from tocsin.domain import ids
from tocsin.domain import replays as rules
from tocsin.domain.replays import IDLE, WAIT
from tocsin.storage.delivery import queue, replays
from tocsin.storage.delivery.queue import Recipient
from tocsin.storage.delivery.replays import Replay, Results, Step, Taken
from tocsin.storage.postgres.database import UNAVAILABLE, Tx

log = structlog.get_logger(__name__)

PAUSE = 1.0
"""Seconds between two looks while no replay runs."""
ACTIVE = 5.0
"""Seconds after the last step for which the next is looked for often."""
CLEAN_EVERY = 3600.0
FAILED_PAUSE = 10.0
"""Seconds until a replay whose step failed is looked at again: the others go on meanwhile."""

DELETED = "the integration was deleted"
DISABLED = "waiting until the integration is enabled again; it is disabled {disabled}"
FAILING = "the receiver does not accept everything at present: one delivery at a time"


async def run(pool: asyncpg.Pool, retention_days: int, stop: asyncio.Event) -> None:
    """Until `stop`: take the steps that are due, of all replays."""
    clean_at = active_until = 0.0
    while not stop.is_set():
        now = time.monotonic()
        if now >= clean_at:
            async with pool.acquire() as tx, tx.transaction():
                await replays.forget_old(tx, retention_days)
            clean_at = now + CLEAN_EVERY
        while not stop.is_set() and await _step(pool):
            active_until = time.monotonic() + ACTIVE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rules.TICK if time.monotonic() < active_until else PAUSE):
                await stop.wait()


async def _step(pool: asyncpg.Pool) -> bool:
    """Take one step of the replay that is due for longest. Returns whether one was."""
    replay: Replay | None = None
    try:
        async with pool.acquire() as tx, tx.transaction():
            replay = await replays.due(tx)
            if replay is not None:
                await replays.save(tx, replay, await _next(tx, replay))
    except UNAVAILABLE:
        raise
    except Exception:
        if replay is None:
            raise
        log.exception("A step of a replay failed", replay=ids.public(ids.REPLAY, replay.id))
        async with pool.acquire() as tx, tx.transaction():
            await replays.postpone(tx, replay.id, FAILED_PAUSE)
    return replay is not None


async def _next(tx: Tx, replay: Replay) -> Step:
    found = await replays.results(tx, replay)
    if replay.state != "running":
        return _settled(replay, found, replay.reason)
    to = (await queue.recipients(tx, [replay.integration_id])).get(replay.integration_id)
    if to is None:
        await replays.stop(tx, replay.project_id, replay.id, DELETED)
        return _settled(replay, found, DELETED)
    if to.disabled is not None:
        return _step_of(replay, found, replay.at_once, WAIT, DISABLED.format(disabled=to.disabled))
    return await _advance(tx, replay, found, to)


async def _advance(tx: Tx, replay: Replay, found: Results, to: Recipient) -> Step:
    """Queue as many as the receiver bears."""
    failing = to.failing or found.failing
    pace = rules.pace(
        replay.at_once, replay.dead_in_row, outstanding=len(found.outstanding), delivered=found.delivered,
        dead=found.dead, failing=failing,
    )  # fmt: skip
    taken = _nothing(replay)
    if pace.take:
        taken = await replays.take(tx, replay, to, pace.take)
    outstanding = [*found.outstanding, *taken.redeliveries]
    finished = taken.exhausted and not outstanding
    reason = FAILING if (failing or found.dead) and not finished else None
    return Step(
        outstanding, found, taken, pace.at_once, pace.dead_in_row, None if finished else pace.pause, reason, finished
    )


def _settled(replay: Replay, found: Results, reason: str | None) -> Step:
    """Nothing more is queued; what was queued is followed until it has finished."""
    return _step_of(replay, found, replay.at_once, IDLE if found.outstanding else None, reason)


def _step_of(replay: Replay, found: Results, at_once: int, pause: float | None, reason: str | None) -> Step:
    return Step(
        found.outstanding, found, _nothing(replay), at_once, replay.dead_in_row, pause, reason, finished=False
    )


def _nothing(replay: Replay) -> Taken:
    return Taken([], replay.last_taken, 0, exhausted=False)
