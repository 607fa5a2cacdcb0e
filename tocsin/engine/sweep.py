"""Housekeeping by the clock: dead engines, failing integrations, snoozes that end, spans of silences, old history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from tocsin.engine import failovers
from tocsin.engine.deliver import Deliverer
from tocsin.integrations.base import types
from tocsin.storage.channels import posted
from tocsin.storage.delivery import acknowledgements, counters, drills, health, incidents, leases
from tocsin.storage.monitoring import alerts
from tocsin.storage.notifying import on_call_gaps, silences, summaries
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.database import UNAVAILABLE, Tx

log = structlog.get_logger(__name__)

BATCH = 500
OFTEN, COUNTERS_EVERY, MINUTELY, HOURLY = 1.0, 5.0, 60.0, 3600.0


async def run(
    pool: asyncpg.Pool,
    deliverer: Deliverer,
    *,
    public_url: str,
    retention_raw: int,
    retention_days: int,
    stop: asyncio.Event,
) -> None:
    """Until `stop`: run what is due every second, minute and hour."""

    async def every_second() -> None:
        await _notice_a_failover(pool)
        await deliverer.flush_health()
        await _while_any(pool, recover)
        await _while_any(pool, lambda tx: incidents.remind(tx, BATCH))
        await _while_any(pool, rearm)
        async with pool.acquire() as tx:
            due = await summaries.due(tx, BATCH)
        for integration in due:
            async with pool.acquire() as tx, tx.transaction():
                await summaries.send(tx, integration)

    async def every_few_seconds() -> None:
        counted = deliverer.counters.flush()
        try:
            async with pool.acquire() as tx, tx.transaction():
                await counters.add(tx, counted)
        except BaseException:
            deliverer.counters.restore(counted)
            raise

    async def every_minute() -> None:
        await _while_any(pool, lambda tx: health.disable_failing(tx, BATCH))
        await _while_any(pool, lambda tx: drills.end_over(tx, BATCH))
        await _while_any(pool, lambda tx: health.probe(tx, BATCH, public_url))

    async def every_hour() -> None:
        await _while_any(pool, lambda tx: on_call_gaps.warn(tx, BATCH))
        async with pool.acquire() as connection:
            await retention.ensure_partitions(connection)
        await _while_any(pool, lambda tx: silences.extend(tx, BATCH))
        async with pool.acquire() as tx, tx.transaction():
            await alerts.forget_old(tx)
        await retention.roll_up(pool)
        await retention.drop_old(pool, raw_days=retention_raw, days=retention_days)

    due = {every_second: 0.0, every_few_seconds: 0.0, every_minute: 0.0, every_hour: 0.0}
    pauses = {every_second: OFTEN, every_few_seconds: COUNTERS_EVERY, every_minute: MINUTELY, every_hour: HOURLY}
    while not stop.is_set():
        for work, pause in pauses.items():
            if time.monotonic() >= due[work]:
                await work()
                due[work] = time.monotonic() + pause
        try:
            async with asyncio.timeout(OFTEN):
                await stop.wait()
        except TimeoutError:
            pass


async def _notice_a_failover(pool: asyncpg.Pool) -> None:
    """As `failovers.notice`; where that fails, all else goes on, and what must not happen twice waits."""
    try:
        await failovers.notice(pool)
    except UNAVAILABLE:
        raise
    except Exception:
        log.exception("Whether another database server took over could not be found out")


async def rearm(tx: Tx) -> int:
    """Take back acknowledgements that have run out, in messages about their incidents too."""
    taken_back = await acknowledgements.rearm(tx, BATCH)
    for each in taken_back:
        await posted.correct_everywhere(tx, each)
    return len(taken_back)


async def recover(tx: Tx) -> int:
    """Recover deliveries of dead engines; notify people of those that must not be retried."""
    count, lost = await leases.recover(tx, BATCH)
    if count:
        log.warning("Recovered deliveries of a dead engine", count=count, not_repeated=len(lost))
    for each in lost:
        await types()[each.type].on_lost(tx, each)
    return count


async def _while_any(pool: asyncpg.Pool, step: Callable[[Tx], Awaitable[int]]) -> None:
    """Repeat a step, each time in its own transaction, until it finds less than a full batch."""
    while True:
        async with pool.acquire() as tx, tx.transaction():
            if await step(tx) < BATCH:
                return
