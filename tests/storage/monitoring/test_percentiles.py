"""Percentiles of response times: from hours and from checks since, beside those of the raw checks."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.sites import VAULT
from tocsin.domain import percentiles as domain
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.storage.monitoring import checks, monitors
from tocsin.storage.postgres import retention

NOW = datetime.now(UTC)
THIS_HOUR = NOW.replace(minute=0, second=0, microsecond=0)
MEAN = "SELECT sum(response_ms * ok) / sum(ok) FROM checks_hourly WHERE monitor_id = $1 AND at < $2"


async def make(pool: asyncpg.Pool, project: Any, seed: int, median: float) -> tuple[UUID, list[float]]:
    """A monitor with a good check every 20 seconds of four hours, and failed ones; and their times."""
    target = Target("http://127.0.0.1:9/", "http", 5.0)
    async with pool.acquire() as tx, tx.transaction():
        monitor = await monitors.create(tx, VAULT, project.id, MonitorConfig("site", target, paused=True))
    chance = random.Random(seed)
    times = [chance.lognormvariate(math.log(median), 0.9) for _ in range(720)]
    rows = [(monitor, NOW - timedelta(seconds=20 * place + 1), True, ms) for place, ms in enumerate(times)]
    rows += [(monitor, NOW - timedelta(seconds=20 * place + 2), False, 1e5) for place in range(100)]
    await pool.copy_records_to_table("checks", records=rows, columns=["monitor_id", "at", "ok", "response_ms"])
    return monitor, times


def close_to(times: list[float]) -> tuple[Any, Any]:
    ordered = sorted(times)
    real = [ordered[math.floor(quantile * (len(times) - 1))] for quantile in (0.5, 0.95)]
    p50, p95 = (pytest.approx(value, rel=domain.RELATIVE_ERROR + 1e-9) for value in real)
    return p50, p95


async def test_they_are_those_of_the_raw_checks_also_when_these_are_gone(pool: asyncpg.Pool, project: Any) -> None:
    quick, quick_times = await make(pool, project, 1, 4.0)
    slow, slow_times = await make(pool, project, 2, 900.0)
    async with pool.acquire() as tx:
        await retention.ensure_partitions(tx)

    async def found() -> dict[UUID, tuple[float, float]]:
        async with pool.acquire() as tx:
            each = await checks.percentiles_of(tx, [quick, slow], NOW - timedelta(days=1), NOW)
        return {monitor: (percentiles.p50, percentiles.p95) for monitor, percentiles in each.items()}

    real = {quick: close_to(quick_times), slow: close_to(slow_times)}
    raw = await found()
    assert raw == real, "before anything was rolled up"
    await retention.roll_up(pool)
    assert await pool.fetchval("SELECT count(*) >= 8 FROM checks_hourly WHERE bucket_counts <> '{}'")
    assert await found() == raw, "hours are added up to the very same"
    await retention.roll_up(pool)
    await pool.execute("DELETE FROM checks WHERE at < $1", THIS_HOUR)
    assert await found() == raw, "when the raw ones are gone"
    older = [ms for place, ms in enumerate(quick_times) if NOW - timedelta(seconds=20 * place + 1) < THIS_HOUR]
    mean = await pool.fetchval(MEAN, quick, THIS_HOUR)
    assert mean == pytest.approx(sum(older) / len(older)), "the mean is as before"


async def test_a_monitor_has_those_of_its_last_day_and_one_without_checks_has_none(
    pool: asyncpg.Pool, project: Any
) -> None:
    monitor, times = await make(pool, project, 3, 50.0)
    async with pool.acquire() as tx:
        found = await monitors.one(tx, VAULT, project.id, monitor)
        assert found
        assert found.percentiles
        assert (found.percentiles.p50, found.percentiles.p95) == close_to(times)
        await tx.execute("DELETE FROM checks WHERE ok")
        found = await monitors.one(tx, VAULT, project.id, monitor)
        assert found
        assert found.percentiles is None
