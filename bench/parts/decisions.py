"""Decisions who is notified, in a project with 10,000 silences: one with its context read from the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from uuid import UUID

import asyncpg

from bench.figures import Figure, at_most, median, percentile
from bench.instance import Tocsin
from bench.workshop import Workshop
from tocsin.domain import ids
from tocsin.domain.incidents import OpenRequest
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.delivery import openings
from tocsin.storage.notifying import turns
from tocsin.storage.postgres import database, embedded

SILENCES = 10_000
RESOURCES = 50
"""One silence in ten is for everything, the others for one of so many resources each; most lie ahead."""
DECISIONS = 200
AFTER = 600

SILENCE = """
INSERT INTO silences (id, project_id, name, starts_at, ends_at, rrule, duration, timezone, resources, expanded_until)
SELECT new_id(), $1, 'number ' || n, now() - interval '1 year', NULL, 'FREQ=WEEKLY', 7200, 'Europe/Vienna',
       CASE WHEN n % 10 = 0 THEN NULL ELSE ARRAY[($2::uuid[])[1 + n % cardinality($2)]] END,
       now() + interval '30 days'
FROM generate_series(1, $3::int) AS n
"""

SPANS = """
INSERT INTO silence_spans (silence_id, project_id, span, everything)
SELECT id, project_id, tstzrange(s.begin + w * interval '7 days', s.begin + w * interval '7 days' + interval '2 h'),
       resources IS NULL
FROM (SELECT *, now() + (random() * 7 - 7) * interval '1 day' AS begin FROM silences WHERE project_id = $1) s,
     generate_series(0, 4) AS w
"""


def measure(workshop: Workshop) -> Iterator[Figure]:
    with workshop.tocsin(servers=RESOURCES) as tocsin:
        taken, active = asyncio.run(_decide(tocsin))
    workshop.say(f"{active:.0f} of the silences are active at that moment")
    note = f"{SILENCES:,} silences, p99 {percentile(taken, 0.99):.1f} ms"
    yield Figure("a decision with what it goes by", median(taken), "ms", note=note, goal=at_most(5))


async def _decide(tocsin: Tocsin) -> tuple[list[float], float]:
    """Milliseconds of each; and how many silences were active."""
    project = ids.key_of(ids.PROJECT, tocsin.project)
    servers = [SERVER.key_of(each) for each in tocsin.servers]
    pool = await database.pool(embedded.dsn_of(tocsin.folder), size=1, name="bench")
    try:
        async with pool.acquire() as tx, tx.transaction():
            await tx.execute(SILENCE, project, servers, SILENCES)
            await tx.execute(SPANS, project)
            await tx.execute("UPDATE attachments SET after = $1, at_once = false", AFTER)
        await pool.execute("ANALYZE")
        active = await pool.fetchval("SELECT count(*) FROM silence_spans WHERE span @> now()")
        taken = [await _one(pool, project, servers[number % len(servers)]) for number in range(DECISIONS)]
    finally:
        await pool.close()
    return taken[len(servers) :], float(active)


async def _one(pool: asyncpg.Pool, project: UUID, server: UUID) -> float:
    """Opened and decided about in one transaction, so that no engine does it first; only the decision is measured."""
    wanted = OpenRequest(project, SERVER.type, server, f"type_{ids.new()}", "It broke")
    async with pool.acquire() as tx, tx.transaction():
        await openings.open(tx, [wanted], public_url="http://127.0.0.1")
        began = time.perf_counter()
        assert await turns.decide_due(tx, 1) == 1
        return 1000 * (time.perf_counter() - began)
