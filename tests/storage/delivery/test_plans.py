"""The hot statements look up by index, whether the planner has counted the tables, full or empty, or knows nothing."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tocsin.storage.delivery import deliveries, incidents, leases, openings, queue

NOBODY = "'00000000-0000-0000-0000-000000000000'"
EMPTY = "'{}'"
TABLES = "outstanding, finished, incidents, ongoing, integrations, attachments"

STATEMENTS = {
    "put": (queue.PUT, [EMPTY] * 15 + ["true"]),
    "recipients": (queue.RECIPIENTS, [EMPTY]),
    "claim": (leases.CLAIM, [NOBODY, "500", EMPTY, EMPTY, "32", "1", EMPTY]),
    "finish": (leases.FINISH, [EMPTY] * 5),
    "again": (leases.RETRY, [EMPTY] * 6),
    "in order": (leases.IN_ORDER, [EMPTY]),
    "release": (leases.UNBLOCK, [EMPTY, EMPTY, "'x'"]),
    "give back": (leases.RETURN_LEASES, [EMPTY, EMPTY, "'x'"]),
    "open": (openings.OPEN, [EMPTY] * 10),
    "ongoing": (incidents.ONGOING, [EMPTY, EMPTY]),
    "end": (incidents.END, [EMPTY] * 5),
    "remind at": (incidents.REMIND_AT, [NOBODY, NOBODY, "now()"]),
    "snooze": (incidents.SNOOZE, [NOBODY, NOBODY, "now()"]),
    "overtake": (deliveries.EXPEDITE_OPENINGS, [EMPTY]),
    "untold": (deliveries.OPENING_NOT_DELIVERED, [EMPTY, EMPTY]),
    "openings": (deliveries.OPENINGS, [EMPTY]),
    "suppress": (deliveries.SUPPRESS_INCIDENTS, [EMPTY, "'x'", "true"]),
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
            plan = await connection.fetchval(f"EXPLAIN (FORMAT json) EXECUTE hot ({', '.join(values)})")
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
