"""What depends on what is looked up by index, whatever the planner believes about the tables."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.storage.delivery.test_plans import scanned
from tests.storage.notifying.test_plans import plan_of
from tocsin.storage.delivery import behind
from tocsin.storage.monitoring import families
from tocsin.storage.notifying import dependencies, depends_on

EMPTY = "'{}'"
NOBODY = "'00000000-0000-0000-0000-000000000000'"
TABLES = "dependencies, network_monitors, monitor_states, checks, ongoing, incidents"

STATEMENTS = {
    "upwards": (dependencies.UPWARDS, [EMPTY, EMPTY]),
    "downwards": (dependencies.DOWNWARDS, [EMPTY]),
    "checked since": (dependencies.CHECKED_SINCE, [EMPTY, EMPTY, "2"]),
    "above": (depends_on.ABOVE, [EMPTY]),
    "levels": (depends_on.LEVELS_BELOW, [NOBODY, "10"]),
    "well since": (behind.WELL_SINCE, [EMPTY]),
    "behind": (behind.BEHIND, [EMPTY]),
    "parents": (behind.PARENTS, [EMPTY]),
    "lock and decide anew": (behind.LOCK_AND_DECIDE_ANEW, [EMPTY] * 3),
    "only these": (dependencies.ONLY_THESE, [EMPTY, EMPTY]),
    "ask": (families.ASK, [EMPTY]),
    "explain": (families.EXPLAIN, [EMPTY, EMPTY, EMPTY]),
}

FILL = (
    """INSERT INTO network_monitors (id, project_id, number, name, url, check_type, interval, timeout, confirmations)
       SELECT md5('m' || n)::uuid, $1, n, n::text, 'tcp://192.0.2.1:1', 'tcp', 60, 5, 1
       FROM generate_series(1, 5000) n""",
    "INSERT INTO monitor_states (monitor_id, due_at) SELECT id, now() FROM network_monitors",
    """INSERT INTO dependencies (child_id, parent_id, project_id)
       SELECT md5('m' || n)::uuid, md5('m' || n / 10)::uuid, $1 FROM generate_series(10, 5000) n""",
)


@pytest.mark.parametrize("planned", ["on tables not counted", "on full tables", "on tables known to be empty"])
async def test_nothing_reads_all_dependencies_from_end_to_end(pool: asyncpg.Pool, project: Any, planned: str) -> None:
    wrong = {}
    async with pool.acquire() as connection:
        if planned == "on tables known to be empty":
            await connection.execute(f"VACUUM (ANALYZE) {TABLES}")
        if planned == "on full tables":
            for fill in FILL:
                await connection.execute(fill.replace("$1", f"'{project.id}'"))
            await connection.execute(f"ANALYZE {TABLES}")
        for name, (statement, values) in STATEMENTS.items():
            plan = (await plan_of(connection, statement, values))["Plan"]
            if found := scanned(plan) | index_read_from_end_to_end(plan):
                wrong[name] = found
    assert wrong == {}


def index_read_from_end_to_end(plan: Any) -> set[str]:
    """The indexes of dependencies that a plan reads without a condition."""
    name = plan.get("Index Name", "")
    found = {name} if name.startswith("dependencies") and "Index Cond" not in plan else set()
    return found.union(*(index_read_from_end_to_end(part) for part in plan.get("Plans", [])))
