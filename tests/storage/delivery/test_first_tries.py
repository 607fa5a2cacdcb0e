"""Deliveries that were first tried too late are counted once each, whatever made them late, and no others are."""

from __future__ import annotations

import itertools
from typing import Any

import asyncpg
import pytest

from tests.delivery_record import Record
from tocsin.domain import ids, inner_loop
from tocsin.domain.punctuality import Objective
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.delivery import first_tries
from tocsin.storage.monitoring import punctuality
from tocsin.storage.postgres.retention import first_key
from tocsin.storage.postgres.secrets import Vault

OBJECTIVE = Objective(0.9, 5, 600)
PART = OBJECTIVE.part


async def counted(record: Record) -> tuple[int, int]:
    """What the parts up to now have of first tries, and of late ones."""
    async with record.pool.acquire() as tx:
        await tx.execute("DELETE FROM first_tries")
        await tx.execute("INSERT INTO first_tries VALUES (now() - interval '500 s', 0, 0)")
        while True:
            async with tx.transaction():
                if not await first_tries.count(tx, OBJECTIVE):
                    break
        found = await first_tries.of_window(tx, OBJECTIVE)
    return found.tries, found.late


@pytest.fixture
def record(pool: asyncpg.Pool, project: Any) -> Record:
    return Record(pool, project.id)


async def test_a_first_try_is_late_if_it_began_later_than_the_objective(record: Record) -> None:
    await record.finished(1, ago=60)
    assert await counted(record) == (1, 0)
    await record.finished(3, ago=61)
    await record.finished(9, ago=62)
    await record.finished(300, ago=400)
    assert await counted(record) == (4, 2)
    await record.finished(None, ago=60)
    await record.finished(300, ago=360, kind=inner_loop.INTEGRATION_TYPE)
    assert await counted(record) == (4, 2), "neither what was never tried nor what is nobody's"


async def test_what_is_held_for_its_turn_is_due_when_that_comes(record: Record) -> None:
    await record.finished(1, ago=7200, held=7140)
    assert await counted(record) == (1, 0)
    await record.finished(20, ago=7200, held=7140)
    await record.outstanding(ago=90, held="its turn is at 12:00")
    assert await counted(record) == (2, 1)


async def test_what_follows_another_is_due_when_that_is_over_and_what_is_snoozed_after_the_snooze(
    record: Record, pool: asyncpg.Pool
) -> None:
    incident_id = ids.new()
    await record.finished(0, ago=300, incident_id=incident_id)
    await record.finished(100, ago=200, incident_id=incident_id, event="resolved")
    assert await counted(record) == (2, 1)
    await pool.execute("UPDATE finished SET finished_at = now() - interval '104.5 s' WHERE event = 'opened'")
    assert await counted(record) == (2, 0)
    await pool.execute("UPDATE finished SET finished_at = now() - interval '120 s' WHERE event = 'opened'")
    assert await counted(record) == (2, 1)
    await pool.execute(
        """INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type,
                                  message, created_at, updated_at, snooze_until)
           VALUES ($1, $2, 'Server', $1, '', '', 't', '', now(), now(), now() - interval '104.5 s')""",
        incident_id, record.project_id,
    )  # fmt: skip
    assert await counted(record) == (2, 0)


async def test_what_has_not_been_tried_at_all_is_late_too(record: Record) -> None:
    await record.outstanding(ago=100)
    await record.outstanding(ago=101, waited=1, attempt=1)
    await record.outstanding(ago=102, waited=50, attempt=1)
    await record.outstanding(ago=103, attempt=2, due=0)
    assert await counted(record) == (4, 3), "what was returned is due as long as before"
    await record.outstanding(ago=104, due=-60)
    await record.outstanding(ago=105, due=1)
    await record.outstanding(ago=106, blocked_by=ids.new())
    assert await counted(record) == (4, 3), "snoozed, just released, and blocked"


async def test_each_is_counted_once_and_only_when_it_can_be_judged(record: Record, pool: asyncpg.Pool) -> None:
    await record.outstanding(ago=2)
    assert await counted(record) == (0, 0)
    async with pool.acquire() as tx, tx.transaction():
        assert not await first_tries.count(tx, OBJECTIVE)
    for ago in range(40, 440):
        await record.finished(0, ago=ago)
    tries, late = await counted(record)
    assert 370 <= tries <= 400
    assert late == 0
    ends = [row["ended"] for row in await pool.fetch("SELECT ended FROM first_tries ORDER BY ended")]
    assert all((after - before).total_seconds() == PART for before, after in itertools.pairwise(ends))


async def test_a_breach_is_an_incident_of_the_operators_project_until_the_objective_is_met(
    record: Record, pool: asyncpg.Pool, vault: Vault
) -> None:
    async def judged() -> list[tuple[str, bool]]:
        await counted(record)
        async with pool.acquire() as tx, tx.transaction():
            await punctuality.judge(tx, vault, OBJECTIVE, public_url="https://tocsin.example.com")
        rows = await pool.fetch("SELECT type, closed_at FROM incidents ORDER BY id")
        return [(row["type"], row["closed_at"] is None) for row in rows]

    for _ in range(9):
        await record.finished(30, ago=100)
    assert await judged() == [], "so few are no measure"
    await record.finished(30, ago=100)
    assert await judged() == [], "there is no operator"
    await pool.execute("DELETE FROM projects")
    async with pool.acquire() as tx, tx.transaction():
        made = await accounts.create_operator(tx, vault, operator.UNSET, None, "First project")
    assert made is not None
    for _ in range(3):
        assert await judged() == [("slo", True)]
    row = await pool.fetchrow("SELECT * FROM incidents")
    assert (row["project_id"], row["resource_name"]) == (made.id, "Tocsin's own deliveries")
    assert row["message"].startswith("10 of 10 deliveries of the last 10 min were first tried later than 5 s")
    for _ in range(90):
        await record.finished(0, ago=90)
    assert await judged() == [("slo", False)]
    assert await pool.fetchval("SELECT resolved_by FROM incidents") == "90 of 100 deliveries were first tried in time"
    assert await pool.fetchval("SELECT count(*) FROM network_monitors WHERE paused") == 1


async def test_a_clock_that_is_behind_that_of_the_last_primary_holds_up_no_counting(record: Record) -> None:
    await record.finished(9, ago=60)
    await record.pool.execute("INSERT INTO first_tries VALUES (now() + interval '300 s', 5, 5)")
    async with record.pool.acquire() as tx, tx.transaction():
        assert await first_tries.count(tx, OBJECTIVE)
        assert (await first_tries.of_window(tx, OBJECTIVE)).tries <= 1


FILL = """
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt, attempts,
                      created_at, released_at, finished_at)
SELECT overlay(new_id()::text PLACING '01900000-0000' FROM 1 FOR 13)::uuid, $1, $1, 'x', $1, 'opened', 'delivered', 1,
       '[{"started_at": "2024-01-01T00:00:00Z"}]', now() - interval '1 day',
       CASE WHEN n % 2 = 0 THEN now() - interval '1 day' END, now() FROM generate_series(1, 5000) n
"""


async def test_a_part_is_counted_without_reading_the_rest_of_the_record(record: Record, pool: asyncpg.Pool) -> None:
    await pool.execute(FILL, record.project_id)
    for _ in range(3):
        await record.finished(0, ago=60)
        await record.finished(1, ago=7200, held=7140)
    async with pool.acquire() as connection:
        await connection.execute("ANALYZE finished")
        began = await connection.fetchval("SELECT now() - interval '100 s'")
        ended = await connection.fetchval("SELECT now() - interval '30 s'")
        given = [first_key(began), first_key(ended), began, ended]
        await connection.execute(f"PREPARE part AS {first_tries.COUNT}")
        values = ", ".join(f"'{each}'" for each in given)
        lines = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE part ({values}, 5)")
        await connection.execute("DEALLOCATE part")
    plan = "\n".join(line[0] for line in lines)
    assert "Seq Scan on finished" not in plan, plan
    assert "released_at_idx" in plan or "finished_released" in plan, plan
    removed = [int(line[0].split(":")[1]) for line in lines if "Rows Removed" in line[0]]
    assert sum(removed) < 100, plan
