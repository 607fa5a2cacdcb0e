"""Whether the service is ready, and why it is not."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.processes import tocsin
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
            labels = f'engine="{each["number"]}",machine="{each["machine"]}"'
            [line] = [line for line in lines if line.startswith(f"tocsin_engine_start_timestamp_seconds{{{labels}}}")]
            assert float(line.split()[-1]) == pytest.approx(datetime.fromisoformat(each["since"]).timestamp(), abs=1)
        ran = await tocsin("doctor", environ=service.environ)
        assert f"ok    engine         2 running: {first['number']} on {first['machine']} since " in ran.out
        engine.stop()

        async def one() -> bool:
            return len((await client.get("/health/ready")).json()["engines"]) == 1

        await until(one, what="the one that ended to be gone")
