"""Fills a Tocsin's database with heartbeats, straight into its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from tocsin import settings as configuration
from tocsin.domain import ids
from tocsin.storage.postgres import embedded
from tocsin.storage.postgres.secrets import Vault

PERIOD, GRACE = 3_600, 300

MAKE = f"""
WITH made AS (
    INSERT INTO heartbeats (id, project_id, name, slug, period, timezone, grace, key_hash, key_sealed)
    SELECT new_id(), $1, 'Job ' || n, 'job-' || n, {PERIOD}, 'UTC', {GRACE}, hash, ''
    FROM unnest($2::bytea[]) WITH ORDINALITY AS g (hash, n)
    RETURNING id
)
INSERT INTO heartbeat_states (heartbeat_id, look_at, due_at, last_ping_at, last_success_at)
SELECT id, at, at + interval '{PERIOD - GRACE} s', now(), now()
FROM (SELECT id, now() + random() * interval '{PERIOD} s' AS at FROM made) times
"""
"""Each has just reported, and is looked at once within its period."""


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
