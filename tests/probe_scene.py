"""Probes and what they saw, as they are in the database: for tests of pages, and for screenshots."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from tocsin.domain.resources.network_monitor import RESOURCE as MONITOR
from tocsin.domain.resources.probe import RESOURCE as PROBE

NEW = """
INSERT INTO probes (id, project_id, name, token_hash, only_project, version, seen_at)
VALUES (new_id(), $1, $2::text, sha256(convert_to($2::text, 'UTF8')), $3, '1.0', now() - make_interval(secs => $4))
RETURNING id
"""
CHECKED_FROM = "UPDATE network_monitors SET locations = $2 WHERE id = $1"
SAW = """
INSERT INTO monitor_places (monitor_id, place, version, change, round, at, heard_at, failures, successes, problem,
                            message, response_ms)
SELECT m.id, $2, m.updated_at, nextval('place_changes'), 1, now() - make_interval(secs => $3),
       now() - make_interval(secs => $3), CASE WHEN $4::text IS NULL THEN 0 ELSE 3 END,
       CASE WHEN $4::text IS NULL THEN 7 ELSE 0 END, $4, $5, $6
FROM network_monitors m WHERE m.id = $1
ON CONFLICT (monitor_id, place) DO UPDATE SET
    at = excluded.at, heard_at = excluded.heard_at, failures = excluded.failures, successes = excluded.successes,
    problem = excluded.problem, message = excluded.message, response_ms = excluded.response_ms
"""

MANY = """
WITH made AS (
    INSERT INTO network_monitors (id, project_id, number, name, url, check_type, interval, timeout, confirmations,
                                  recoveries, paused, locations)
    SELECT new_id(), $1, n, 'Monitor number ' || n, 'https://shop-' || n || '.example.com/', 'http', 3600, 30, 2, 1,
           false, $2 FROM generate_series(1001, 2000) n RETURNING id, updated_at, number
), states AS (
    INSERT INTO monitor_states (monitor_id, due_at) SELECT id, now() + interval '1 h' FROM made
)
INSERT INTO monitor_places (monitor_id, place, version, change, round, at, heard_at, failures, successes, problem,
                            message, response_ms)
SELECT id, place, updated_at, nextval('place_changes'), 1, now(), now(), (number % 10 = 0 AND place = 'graz')::int, 1,
       CASE WHEN number % 10 = 0 AND place = 'graz' THEN 'connection_error' END, NULL, 1234.5
FROM made, unnest($2::text[]) place
"""
"""A thousand monitors from the same places; one in ten is seen down from graz."""


@asynccontextmanager
async def connected(database: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database)
    try:
        yield connection
    finally:
        await connection.close()


async def new_probe(
    database: str, project_id: UUID, name: str, *, only: UUID | None = None, seen: float = 5.0
) -> str:
    """A probe that was heard of so many seconds ago. Returns its public identifier."""
    async with connected(database) as connection:
        made = await connection.fetchval(NEW, project_id, name, only, seen)
    return PROBE.public(UUID(str(made)))


async def checked_from(database: str, monitor: str, places: Sequence[str]) -> None:
    """These are the places of the monitor, which have seen nothing yet."""
    key = MONITOR.key_of(monitor)
    async with connected(database) as connection:
        await connection.execute(CHECKED_FROM, key, list(places))
        await connection.executemany(
            "INSERT INTO monitor_places (monitor_id, place, version, change)"
            " SELECT $1, $2, updated_at, nextval('place_changes') FROM network_monitors WHERE id = $1",
            [(key, place) for place in places],
        )


async def saw(
    database: str, monitor: str, place: str, problem: str | None = None, message: str | None = None, *,
    ago: float = 5.0, ms: float | None = 85.0,
) -> None:  # fmt: skip
    """What that place saw of it so many seconds ago."""
    async with connected(database) as connection:
        await connection.execute(SAW, MONITOR.key_of(monitor), place, ago, problem, message, None if problem else ms)
