"""Checks of network monitors: who gets which when they are due, and what follows from their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain.dependencies import REACHABILITY, DependsOn, read
from tocsin.domain.monitors import Result, Target
from tocsin.storage.monitoring import families, verdicts
from tocsin.storage.monitoring.monitors import target_of
from tocsin.storage.notifying import dependencies
from tocsin.storage.postgres.database import Tx, columns, key
from tocsin.storage.postgres.secrets import Vault

if TYPE_CHECKING:
    from asyncpg import Record

LEASE = 30
"""Seconds beyond its two tries for which a check may have no result before the monitor is due again."""

# Each monitor keeps its own rhythm: the next time is counted from the last, and missed ones are
# skipped. The look-ups by key are forced, whatever the planner believes about tables that were empty when it planned.
CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT m.*, d.due_at, d.failures < m.confirmations AS may_decide, d.due_at + make_interval(
        secs => m.interval * (1 + floor(extract(epoch FROM now() - d.due_at)::float8 / m.interval))
    ) AS next_at
    FROM (
        SELECT monitor_id, due_at, failures FROM monitor_states WHERE due_at <= now()
        ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) d
    CROSS JOIN LATERAL (SELECT * FROM network_monitors WHERE id = d.monitor_id LIMIT 1) m
), moved AS (
    UPDATE monitor_states s SET due_at = least(due.next_at, now() + make_interval(secs => 2 * due.timeout + {LEASE}))
    FROM due
    WHERE s.monitor_id = due.id AND s.monitor_id = ANY (ARRAY(SELECT id FROM due))
)
SELECT id, project_id, url, check_type, timeout, options, sealed, updated_at, next_at, now() AS at, depends_on,
       may_decide, locations IS NOT NULL AS placed, interval
FROM due ORDER BY due_at
"""

# A result counts if the monitor has not changed since the check began, and no later check has been counted. That it was
# paused at this moment shows only in the row that is locked: the other was read before.
RECORD = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[],
                         $7::int[], $8::float8[], $9::bool[], $10::bool[])
        AS g (id, version, at, next_at, problem, message, status_code, response_ms, unreachable, found)
), counted AS (
    UPDATE monitor_states s
    SET failures = CASE WHEN g.problem IS NULL THEN 0 ELSE s.failures + 1 END,
        successes = CASE WHEN g.problem IS NULL THEN s.successes + 1 ELSE 0 END,
        last_check_at = g.at,
        last_ok = g.problem IS NULL,
        last_problem = g.problem,
        last_result_at = now(),
        last_response_ms = coalesce(g.response_ms, s.last_response_ms),
        due_at = greatest(s.due_at, g.next_at)
    FROM given g
    CROSS JOIN LATERAL (SELECT * FROM network_monitors WHERE id = g.id LIMIT 1) m
    CROSS JOIN LATERAL (SELECT * FROM monitor_states WHERE monitor_id = g.id LIMIT 1) old
    WHERE s.monitor_id = g.id AND s.monitor_id = ANY ($1)
      AND m.updated_at = g.version AND isfinite(s.due_at) AND (s.last_check_at IS NULL OR s.last_check_at < g.at)
    RETURNING s.monitor_id, s.failures, s.successes, m.project_id, m.confirmations, m.recoveries,
              old.last_problem AS problem_before, s.asked_at > coalesce(old.last_result_at, '-infinity') AS asked,
              g.found
), stored AS (
    INSERT INTO checks (monitor_id, at, ok, problem, message, status_code, response_ms, unreachable)
    SELECT g.id, g.at, g.problem IS NULL, g.problem, g.message, g.status_code, g.response_ms, g.unreachable
    FROM given g WHERE EXISTS (SELECT FROM network_monitors m WHERE m.id = g.id)
)
SELECT * FROM counted c
WHERE c.failures > 0 OR c.problem_before IS NOT NULL OR c.asked OR c.found
   OR EXISTS (SELECT FROM ongoing o WHERE o.resource_id = c.monitor_id)
"""


@dataclass(frozen=True, slots=True)
class DueCheck:
    """A check that is due. `version` is the monitor's, `at` when it was claimed, `next_at` its next regular time.

    `may_decide`: if it fails, it is one of those in a row that an incident waits for. `placed`: the monitor has
    locations, so that the result is a vote (`votes.record`).
    """

    id: UUID
    target: Target
    version: datetime
    at: datetime
    next_at: datetime
    depends_on: DependsOn = ()
    may_decide: bool = True
    placed: bool = False
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class CompletedCheck:
    """A check with its result."""

    due: DueCheck
    result: Result


async def claim_due(tx: Tx, vault: Vault, limit: int) -> list[DueCheck]:
    """Up to `limit` checks that are due, longest due first. Nobody else gets them.

    A check whose result is never recorded is due again after two time-outs and `LEASE`, or at its next time.
    """
    return [
        DueCheck(
            key(row["id"]), target_of(row, vault), row["updated_at"], row["at"], row["next_at"],
            read(row["depends_on"]), row["may_decide"], row["placed"],
            row["interval"],
        )
        for row in await tx.fetch(CLAIM, limit)
    ]


async def record(tx: Tx, checked: Sequence[CompletedCheck], *, public_url: str) -> list[None]:
    """Store what checks found, and open or resolve what follows from it.

    Results of a monitor that has changed meanwhile are stored, but open and resolve nothing.
    """
    results = {each.due.id: each for each in checked}
    failed = {each.due.id: each.due.depends_on for each in checked if each.result.problem in REACHABILITY}
    parents = await dependencies.states_of_failed(tx, {id_: above for id_, above in failed.items() if above})
    rows = await tx.fetch(
        RECORD,
        *columns([
            (
                due.id, due.version, due.at, due.next_at, result.problem, result.message, result.status_code,
                result.response_ms, due.id in parents and bool(parents[due.id].explained_by), bool(result.findings),
            )
            for due, result in ((each.due, each.result) for each in checked)
        ]),
    )  # fmt: skip
    if rows:
        followed = await families.follow(tx, [_counted(row, results) for row in rows], parents)
        await verdicts.follow(tx, [_judged(row, results) for row in rows], followed, public_url=public_url)
    return [None] * len(checked)


def _counted(row: Record, results: Mapping[UUID, CompletedCheck]) -> families.Counted:
    monitor_id = key(row["monitor_id"])
    problem, to_confirm = results[monitor_id].result.problem, row["failures"] <= row["confirmations"]
    return families.Counted(monitor_id, row["problem_before"], problem, to_confirm, bool(row["asked"]))


def _judged(row: Record, results: Mapping[UUID, CompletedCheck]) -> verdicts.Judged:
    monitor_id = key(row["monitor_id"])
    result = results[monitor_id].result
    return verdicts.Judged(
        monitor_id, key(row["project_id"]), result, row["successes"] if result.ok else row["failures"],
        row["confirmations"], row["recoveries"],
    )  # fmt: skip
