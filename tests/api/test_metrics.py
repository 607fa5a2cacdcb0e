"""`/metrics`: what all engines counted together, complete from the start, and nothing of a project."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import asyncpg
import httpx

from tests.service import new_project
from tocsin.checks import base as checks
from tocsin.domain.counters import COUNTERS, HISTOGRAMS, Counters
from tocsin.integrations.base import types
from tocsin.storage.delivery import counters


async def test_metrics_add_up_what_several_engines_counted(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    webhook = "Integrations::WebhookIntegration"

    async def engine(seconds_taken: list[float]) -> None:
        counted = Counters()
        for each in seconds_taken:
            counted.count("deliveries", webhook, "delivered")
            counted.observe("delivery_seconds", each, webhook)
        async with pool.acquire() as tx, tx.transaction():
            await counters.add(tx, counted.flush())

    await asyncio.gather(engine([0.002, 0.3]), engine([0.004, 100_000.0]))
    lines = (await app_client.get("/metrics")).text.splitlines()
    assert f'tocsin_deliveries_total{{outcome="delivered",type="{webhook}"}} 4.0' in lines
    assert f'tocsin_delivery_seconds_bucket{{le="0.005",type="{webhook}"}} 2.0' in lines
    assert f'tocsin_delivery_seconds_bucket{{le="0.5",type="{webhook}"}} 3.0' in lines
    assert f'tocsin_delivery_seconds_bucket{{le="+Inf",type="{webhook}"}} 4.0' in lines
    assert f'tocsin_delivery_seconds_count{{type="{webhook}"}} 4.0' in lines
    assert "tocsin_engines 0.0" in lines


async def test_every_metric_is_there_from_the_start(app_client: httpx.AsyncClient) -> None:
    lines = (await app_client.get("/metrics")).text.splitlines()
    for name, what in COUNTERS.items():
        kinds = checks.types() if name == "checks" else types()
        for kind, outcome in itertools.product(kinds, what.outcomes):
            assert f'tocsin_{name}_total{{outcome="{outcome}",type="{kind}"}} 0.0' in lines
    for name in HISTOGRAMS:
        for kind in types():
            assert f'tocsin_{name}_count{{type="{kind}"}} 0.0' in lines
    announced = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert {name for name in announced if not any(line.startswith(name) for line in lines)} == set()


async def test_metrics_need_no_token_and_name_no_project(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, project: Any
) -> None:
    other = await new_project(pool, vault)
    del app_client.headers["Authorization"]
    answer = await app_client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].count("charset") == 1
    assert project.api_token not in answer.text
    assert other.name not in answer.text


def test_what_could_not_be_stored_is_counted_next_time() -> None:
    counted = Counters()
    counted.count("checks", "http", "ok")
    taken = counted.flush()
    counted.count("checks", "http", "ok")
    counted.restore(taken)
    assert counted.flush() == {("checks", ("http", "ok")): 2}
    assert counted.flush() == {}
