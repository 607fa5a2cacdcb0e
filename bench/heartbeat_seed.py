"""Fills a Tocsin's database with heartbeats, straight into its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from tocsin import settings as configuration
from tocsin.domain import ids
from tocsin.storage.monitoring import lateness
from tocsin.storage.postgres import database, embedded
from tocsin.storage.postgres.secrets import Vault

PERIOD = 3_600

MAKE = f"""
WITH made AS (
    INSERT INTO heartbeats (id, project_id, name, slug, period, timezone, grace, key_hash, key_sealed)
    SELECT new_id(), $1, 'Job ' || n, 'job-' || n, {PERIOD}, 'UTC', 300, hash, ''
    FROM unnest($2::bytea[]) WITH ORDINALITY AS g (hash, n)
    RETURNING id
)
INSERT INTO heartbeat_states (heartbeat_id, look_at, due_at, last_ping_at, last_success_at)
SELECT id, at + interval '300 s', at, at - interval '{PERIOD} s', at - interval '{PERIOD} s'
FROM (SELECT id, now() + (random() * {PERIOD} - 300) * interval '1 s' AS at FROM made) times
"""
# As if the pings of what is due had come all the while.
ON_TIME = f"""
UPDATE heartbeat_states SET due_at = due_at + interval '{PERIOD} s', last_ping_at = now(), last_success_at = now()
WHERE look_at <= now() + interval '1 s' AND due_at <= now()
"""


def heartbeats(folder: Path, project: str, count: int) -> list[str]:
    """Heartbeats of the project, each of which reports once an hour. Returns their keys."""
    keys = [uuid4() for _ in range(count)]
    asyncio.run(_make(folder, project, keys))
    return [str(key) for key in keys]


async def _make(folder: Path, project: str, keys: Sequence[UUID]) -> None:
    vault = Vault(configuration.load(folder).secret_keys)
    connection = await asyncpg.connect(embedded.dsn_of(folder), command_timeout=600)
    try:
        hashes = [vault.token_hash(key.hex) for key in keys]
        await connection.execute(MAKE, ids.parse(ids.PROJECT, project), hashes)
        await connection.execute("VACUUM (ANALYZE) heartbeats, heartbeat_states")
    finally:
        await connection.close()


def looks(folder: Path, seconds: int) -> list[tuple[int, float]]:
    """Looks for what is late, one a second: how many were due for one, and how long it took."""
    return asyncio.run(_looks(folder, seconds))


async def _looks(folder: Path, seconds: int) -> list[tuple[int, float]]:
    pool = await database.pool(embedded.dsn_of(folder), size=1, name="bench")
    loop, found = asyncio.get_running_loop(), []
    try:
        for _ in range(seconds):
            await pool.execute(ON_TIME)
            began = loop.time()
            async with pool.acquire() as tx, tx.transaction():
                looked = await lateness.look(tx, 500, public_url="http://127.0.0.1")
            found.append((looked.due, loop.time() - began))
            await asyncio.sleep(1)
    finally:
        await pool.close()
    return found
