"""Whether the service is ready, and why it is not."""

from __future__ import annotations

import asyncpg
import httpx


async def test_ready_says_when_no_engine_lives(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    answer = await app_client.get("/health/ready")
    assert answer.status_code == 503
    assert "engine" in answer.json()["message"]
    await pool.execute("INSERT INTO engines DEFAULT VALUES")
    assert (await app_client.get("/health/ready")).json() == {"status": "ok"}
    await pool.execute("UPDATE engines SET seen_at = now() - interval '11 s'")
    assert (await app_client.get("/health/ready")).status_code == 503
