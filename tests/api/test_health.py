"""Whether the service is ready, and why it is not."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.cluster.wires import Wire
from tests.processes import tocsin
from tests.raw_http import port_of
from tests.service import Service
from tests.waiting import until


async def test_ready_says_when_no_engine_lives(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    answer = await app_client.get("/health/ready")
    assert answer.status_code == 503
    assert "engine" in answer.json()["message"]
    await pool.execute("INSERT INTO engines (machine) VALUES ('here')")
    ready = (await app_client.get("/health/ready")).json()
    assert ready.keys() == {"status", "engines"}
    assert ready["status"] == "ok"
    await pool.execute("UPDATE engines SET seen_at = now() - interval '11 s'")
    assert (await app_client.get("/health/ready")).status_code == 503


async def _nobody_behind_a_bare_proxy_is_told_where(service: Service) -> None:
    """It passes on bytes, and says nothing of itself."""
    with closing(Wire(port_of(service))) as proxy, httpx.Client(trust_env=False) as far:
        url = f"http://127.0.0.1:{proxy.port}/health/ready"
        answer = await asyncio.to_thread(far.get, url, headers={"Host": "tocsin.example.com"})
    assert [each.keys() for each in answer.json()["engines"]] == [{"number", "since"}] * 2


async def test_ready_names_the_engines_that_live_and_since_when(own_service: Service) -> None:
    service = own_service
    began = datetime.now(UTC)
    engine = service.add_engine()

    async def both() -> dict[str, Any] | None:
        async with service.client() as client:
            ready = (await client.get("/health/ready")).json()
            return ready if len(ready["engines"]) == 2 else None

    first, second = (await until(both, what="two engines"))["engines"]
    assert first["number"] < second["number"]
    assert {first["machine"], second["machine"]} == {socket.gethostname()}
    assert datetime.fromisoformat(first["since"]) < began
    assert timedelta(seconds=-1) < datetime.fromisoformat(second["since"]) - began < timedelta(seconds=60)
    async with service.client() as client:
        lines = (await client.get("/metrics")).text.splitlines()
        for each in (first, second):
            labels = f'engine="{each["number"]}"'  # and where it is, is not said to everybody
            [line] = [line for line in lines if line.startswith(f"tocsin_engine_start_timestamp_seconds{{{labels}}}")]
            assert float(line.split()[-1]) == pytest.approx(datetime.fromisoformat(each["since"]).timestamp(), abs=1)
        ran = await tocsin("doctor", environ=service.environ)
        assert f"ok    engine         2 running: {first['number']} on {first['machine']} since " in ran.out
        await _nobody_behind_a_bare_proxy_is_told_where(service)
        engine.stop()

        async def one() -> bool:
            return len((await client.get("/health/ready")).json()["engines"]) == 1

        await until(one, what="the one that ended to be gone")
