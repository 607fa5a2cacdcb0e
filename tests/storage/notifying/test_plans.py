"""What silences are asked on the way of an incident is looked up by index, however many there are."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tests.storage.delivery.test_plans import scanned
from tocsin.storage.notifying import silences

NOBODY = "'00000000-0000-0000-0000-000000000000'"
TABLES = "silences, silence_spans"

STATEMENTS = {
    "spans over": (silences.OVER, [NOBODY, NOBODY, "now()", "now()", "NULL"]),
    "rules": (silences.RULES, [NOBODY, NOBODY, "now()", "now()", "NULL"]),
    "due": (silences.DUE, ["500", "'15 d'"]),
    "insert spans": (silences.INSERT_SPANS, ["'{}'", "'{}'", "'{}'"]),
    "forget spans": (silences.FORGET_SPANS, [NOBODY]),
    "without a resource": (silences.WITHOUT["resources"], [NOBODY, NOBODY]),
    "without an integration": (silences.WITHOUT["integrations"], [NOBODY, NOBODY]),
}

FILL = (
    """INSERT INTO silences (id, project_id, name, starts_at, ends_at, resources, expanded_until)
       SELECT new_id(), $1, n::text, now(), now() + interval '1 h',
              CASE WHEN n % 2 = 0 THEN ARRAY[md5('r' || n)::uuid] END, now() + interval '30 d'
       FROM generate_series(1, 5000) n""",
    """INSERT INTO silence_spans (silence_id, project_id, span, everything)
       SELECT id, project_id, tstzrange(starts_at, ends_at), resources IS NULL FROM silences""",
)


@pytest.mark.parametrize("planned", ["on tables not counted", "on full tables", "on tables known to be empty"])
async def test_nothing_reads_all_silences_from_end_to_end(pool: asyncpg.Pool, project: Any, planned: str) -> None:
    wrong = {}
    async with pool.acquire() as connection:
        if planned == "on tables known to be empty":
            await connection.execute(f"VACUUM (ANALYZE) {TABLES}")
        if planned == "on full tables":
            for fill in FILL:
                await connection.execute(fill.replace("$1", f"'{project.id}'"))
            await connection.execute(f"ANALYZE {TABLES}")
        for name, (statement, values) in STATEMENTS.items():
            found = scanned((await plan_of(connection, statement, values))["Plan"])
            if found:
                wrong[name] = found
    assert wrong == {}


async def test_what_a_resource_is_silenced_by_is_found_by_project_and_time_and_by_resource(
    pool: asyncpg.Pool, project: Any
) -> None:
    async with pool.acquire() as connection:
        for fill in FILL:
            await connection.execute(fill.replace("$1", f"'{project.id}'"))
        await connection.execute(f"ANALYZE {TABLES}")
        statement, values = STATEMENTS["spans over"]
        text = json.dumps(await plan_of(connection, statement, values))
    assert "silence_spans_by_time" in text
    assert "silences_by_resource" in text


async def plan_of(connection: Any, statement: str, values: list[str]) -> Any:
    await connection.execute(f"PREPARE hot AS {statement}")
    plan = await connection.fetchval(f"EXPLAIN (FORMAT json) EXECUTE hot ({', '.join(values)})")
    await connection.execute("DEALLOCATE hot")
    return (json.loads(plan) if isinstance(plan, str) else plan)[0]
