"""The hot statements look up by index, whether the planner has counted the tables, full or empty, or knows nothing."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tocsin.domain.resources.base import kinds
from tocsin.storage.delivery import (
    behind,
    deliveries,
    first_tries,
    flapping,
    incidents,
    inner_loop,
    leases,
    openings,
    outstanding,
    overview,
    queue,
    replays,
    selections,
    severities,
)
from tocsin.storage.notifying import closed, summaries, turns

NOBODY = "'00000000-0000-0000-0000-000000000000'"
EMPTY = "'{}'"
LOG = [NOBODY, NOBODY, "'dead'", "50", "0", NOBODY, "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "NULL", "NULL"]
NEXT = [NOBODY, NOBODY, "now()", "now()", "now()", NOBODY, "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "6"]
TABLES = "outstanding, finished, incidents, ongoing, integrations, attachments"

STATEMENTS = {
    "put": (queue.PUT, [EMPTY] * 16 + ["true"]),
    "recipients": (queue.RECIPIENTS, [EMPTY]),
    "claim": (leases.CLAIM, [NOBODY, "500", EMPTY, EMPTY, "32", "1", EMPTY]),
    "finish": (leases.FINISH, [EMPTY] * 5),
    "again": (leases.RETRY, [EMPTY] * 6),
    "in order": (leases.IN_ORDER, [EMPTY]),
    "release": (leases.UNBLOCK, [EMPTY, EMPTY, "'x'"]),
    "give back": (leases.RETURN_LEASES, [EMPTY, EMPTY, "'x'"]),
    "open": (openings.statement(frozenset(kinds()), openings.EVERYTHING), [EMPTY] * 12 + ["NULL"]),
    "open what is only attached": (openings.statement(frozenset(kinds()), openings.NOTHING), [EMPTY] * 12 + ["NULL"]),
    "ongoing": (incidents.ONGOING, [EMPTY] * 3),
    "end": (incidents.END, [EMPTY] * 6 + ["NULL"]),
    "remind at": (incidents.REMIND_AT, [NOBODY, NOBODY, "now()"]),
    "snooze": (incidents.SNOOZE, [NOBODY, NOBODY, "now()"]),
    "overtake": (outstanding.EXPEDITE_OPENINGS, [EMPTY]),
    "overtake and decide anew": (outstanding.EXPEDITE_AND_DECIDE_ANEW, [EMPTY] * 3),
    "lock and decide anew": (behind.LOCK_AND_DECIDE_ANEW, [EMPTY] * 3),
    "hold what is ongoing": (behind.LOCK_ONGOING, [EMPTY]),
    "untold": (outstanding.OPENING_NOT_DELIVERED, [EMPTY, EMPTY]),
    "turns": (turns.LOCK_DUE, ["10", "NULL"]),
    "turns of incidents": (turns.LOCKED, [EMPTY, "now()"]),
    "turns of what is over": (closed.DUE, ["10", "NULL"]),
    "ends that were held": (closed.RELEASE_ENDS, [EMPTY, EMPTY]),
    "went down lately": (flapping.OPENED_LATELY, [EMPTY, NOBODY, "'1 hour'"]),
    "how it flaps": (flapping.OF, [EMPTY]),
    "flaps on": (flapping.CHANGED, [EMPTY, "1"]),
    "summaries": (summaries.DUE, ["10"]),
    "remind": (outstanding.TELLINGS, [EMPTY]),
    "attached": (outstanding.ATTACHED, [EMPTY, EMPTY]),
    "call off": (outstanding.CALL_OFF_INCIDENT, [NOBODY, "'x'"]),
    "reconsider": (queue.RECONSIDER, [NOBODY]),
    "reconsider resources": (queue.RECONSIDER_RESOURCES, [EMPTY]),
    "raise": (severities.RAISE, [EMPTY] * 4),
    "origins": (deliveries.ORIGINS, [EMPTY]),
    "log": (deliveries.OF_INTEGRATION, LOG),
    "log by a rare status": (deliveries.OF_INTEGRATION_RARE, LOG),
    "replays that are due": (replays.DUE, []),
    "results of a replay": (replays.RESULTS, [EMPTY]),
    "in the way of a replay": (replays.OUTSTANDING, [NOBODY, EMPTY]),
    "next of a replay": (selections.NEXTS["dead"], NEXT),
    "next of a replay of what was delivered": (selections.NEXTS["delivered"], NEXT),
    "could not be delivered": (overview.DEAD, [NOBODY, "now() - interval '1 day'", NOBODY, "10"]),
    "wrong now": (overview.WORST, [NOBODY, "10", EMPTY]),
    "how much is wrong now": (overview.COUNTS, [NOBODY, "'drill'"]),
    "what may be unreachable now": (overview.DEPENDENT, [NOBODY, EMPTY]),
    "the last part of first tries": (first_tries.NEXT, ["60", "1800", "17"]),
    "first tries of a window": (first_tries.WINDOW, ["1817"]),
    "the inner loop's deliveries": (inner_loop.DELIVERED, [NOBODY, NOBODY]),
    "forget the inner loop's deliveries": (inner_loop.FORGET_DELIVERIES, [NOBODY, NOBODY]),
    "forget the inner loop's incidents": (inner_loop.FORGET_INCIDENTS, [NOBODY, NOBODY]),
    "suppress": (outstanding.SUPPRESS_INCIDENTS, [EMPTY, "'x'", "true"]),
}

FILL = """
INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable, incident_id, event,
                         status, due_at, leased_until, engine, created_at)
SELECT new_id(), $1, md5((n % 50)::text)::uuid, 'x', false, true, md5('i' || n)::uuid, 'opened',
       CASE WHEN n % 2 = 0 THEN 'pending' ELSE 'sending' END, now(), now(), 1, now()
FROM generate_series(1, 5000) n;
"""

FILL_MORE = (
    """INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt,
                             attempts, created_at, finished_at)
       SELECT new_id(), $1, md5((n % 50)::text)::uuid, 'x', md5('i' || n)::uuid, 'opened', 'delivered', 1, '[]', now(),
              now() FROM generate_series(1, 5000) n""",
    """INSERT INTO incidents (id, project_id, resource_type, resource_id, resource_name, resource_url, type, message,
                              created_at, updated_at)
       SELECT new_id(), $1, 'Server', md5('r' || n)::uuid, '', '', 't', '', now(), now()
       FROM generate_series(1, 5000) n""",
    """INSERT INTO ongoing (resource_id, type, incident_id, project_id, recipients)
       SELECT resource_id, type, id, project_id, '{}' FROM incidents""",
    """INSERT INTO integrations (id, project_id, type, settings, for_people, repeatable)
       SELECT new_id(), $1, 'x', '{}', false, true FROM generate_series(1, 5000) n""",
    """INSERT INTO attachments (resource_id, integration_id)
       SELECT md5('r' || row_number() OVER ())::uuid, id FROM integrations""",
)


def scanned(plan: Any) -> set[str]:
    """The tables and partitions that a plan reads from end to end."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned(part) for part in plan.get("Plans", [])))


@pytest.mark.parametrize("planned", ["on tables not counted", "on full tables", "on tables known to be empty"])
async def test_no_hot_statement_reads_a_table_from_end_to_end(pool: asyncpg.Pool, project: Any, planned: str) -> None:
    wrong = {}
    async with pool.acquire() as connection:
        if planned == "on tables known to be empty":
            await connection.execute(f"VACUUM (ANALYZE) {TABLES}")
        if planned == "on full tables":
            for fill in (FILL, *FILL_MORE):
                await connection.execute(fill.replace("$1", f"'{project.id}'"))
            await connection.execute(f"ANALYZE {TABLES}")
        for name, (statement, values) in STATEMENTS.items():
            await connection.execute(f"PREPARE hot AS {statement}")
            given = f" ({', '.join(values)})" if values else ""
            plan = await connection.fetchval(f"EXPLAIN (FORMAT json) EXECUTE hot{given}")
            await connection.execute("DEALLOCATE hot")
            found = scanned((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
            if found - {"engines"}:
                wrong[name] = found
    assert wrong == {}


async def test_claiming_reads_what_is_pending_by_its_destination(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        statement, values = STATEMENTS["claim"]
        await connection.execute(f"PREPARE hot AS {statement}")
        lines = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE hot ({', '.join(values)})")
        await connection.execute("DEALLOCATE hot")
    text = "\n".join(line[0] for line in lines)
    assert text.count("outstanding_pending") == 3, text


RARE = """
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, attempt, attempts,
                      created_at, finished_at)
SELECT new_id(), $1, $2, 'x', md5('i' || n)::uuid, 'opened', CASE WHEN n <= 3 THEN 'dead' ELSE 'delivered' END, 1, '[]',
       now(), now()
FROM generate_series(1, 20000) n
"""


@pytest.mark.parametrize("statement", ["log by a rare status", "next of a replay", "could not be delivered"])
async def test_the_few_that_could_not_be_delivered_are_found_without_reading_those_that_were(
    pool: asyncpg.Pool, project: Any, statement: str
) -> None:
    integration = "11111111-1111-7111-8111-111111111111"
    async with pool.acquire() as connection:
        await connection.execute(RARE, project.id, integration)
        await connection.execute("ANALYZE finished")
        text, values = STATEMENTS[statement]
        given = [f"'{integration}'", f"'{project.id}'", *values[2:]]
        if statement == "could not be delivered":
            given = [f"'{project.id}'", *values[1:]]
        if statement == "next of a replay":
            given[2:5] = ["now() - interval '1 day'", "now()", "now()"]
        await connection.execute(f"PREPARE hot AS {text}")
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT json) EXECUTE hot ({', '.join(given)})")
        await connection.execute("DEALLOCATE hot")
    plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    rows = {"log by a rare status": 3, "next of a replay": 0, "could not be delivered": 1}
    assert plan["Actual Rows"] == rows[statement], plan
    assert read(plan) < 100, plan


def read(plan: Any) -> float:
    """How many rows a plan looked at, those that it did not keep included."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return own * plan["Actual Loops"] + sum(read(part) for part in plan.get("Plans", []))
