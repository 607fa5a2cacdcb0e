"""The engine's side of the queue: claiming deliveries under a lease, recording results of attempts, and recovery.

The attempt's number is the fence: an engine's result counts only while its attempt is the latest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec

from tocsin.domain.deliveries import Finish, Retry
from tocsin.storage.delivery import engines, health, outstanding
from tocsin.storage.delivery.queue import LASTING, LEASE, WAKE_CHANNEL, Content, Job, test_content
from tocsin.storage.postgres.database import Tx, columns, key

if TYPE_CHECKING:
    from asyncpg import Record

Lease = tuple[UUID, int]
"""A delivery and the number of the attempt that the lease is for."""


class Attempt(msgspec.Struct, frozen=True):
    """One attempt, as it is stored with its delivery and shown in the log."""

    started_at: datetime
    duration_ms: float | None
    outcome: Literal["delivered", "failed", "suppressed", "interrupted", "lost"]
    status_code: int | None = None
    response: str | None = None
    error: str | None = None


class AttemptResult(msgspec.Struct, frozen=True, gc=False):
    """A finished attempt and its next step. `failed` counts against the schedule."""

    id: UUID
    attempt: int
    integration_id: UUID
    attempt_record: Attempt
    next_step: Retry | Finish
    failed: bool = False
    retry_after: float | None = None


class LostDelivery(msgspec.Struct, frozen=True, gc=False):
    """A delivery that ended because nobody knows whether it was sent, and it must not be twice. `reason` says why."""

    id: UUID
    project_id: UUID
    integration_id: UUID
    type: str
    incident_id: UUID | None
    event: str
    reason: str


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """Whether a result was accepted (not if a later attempt had taken over), and when the delivery finished."""

    accepted: bool
    finished_at: datetime | None = None


# A skip scan over the integrations that have something due, starting after the one where the last claim stopped; then
# as many of each as it has room for. One destination with thousands waiting costs the others nothing; nor do hundreds
# without room, which the limit does not count.
CLAIM = f"""
WITH RECURSIVE due (integration_id, n) AS (
    (SELECT integration_id, (integration_id <> ALL($7::uuid[]))::int FROM outstanding
     WHERE status = 'pending' AND blocked_by IS NULL AND held IS NULL AND due_at <= now() AND integration_id > $1
     ORDER BY integration_id LIMIT 1)
    UNION ALL
    (SELECT next.integration_id, due.n + (next.integration_id <> ALL($7))::int
     FROM due CROSS JOIN LATERAL (
         SELECT o.integration_id FROM outstanding o
         WHERE o.status = 'pending' AND o.blocked_by IS NULL AND o.held IS NULL AND o.due_at <= now()
           AND o.integration_id > due.integration_id
         ORDER BY o.integration_id LIMIT 1
     ) next WHERE due.n < $2)
), picked AS (
    SELECT o.id
    FROM due
    CROSS JOIN LATERAL (
        SELECT id FROM outstanding
        WHERE integration_id = due.integration_id AND status = 'pending' AND blocked_by IS NULL AND held IS NULL
          AND due_at <= now()
        ORDER BY due_at
        LIMIT coalesce((SELECT room FROM unnest($3::uuid[], $4::int[]) AS busy(id, room)
                        WHERE busy.id = due.integration_id), $5)
        FOR UPDATE SKIP LOCKED
    ) o
    LIMIT $2
), taken AS (
    UPDATE outstanding o
    SET status = 'sending', attempt = attempt + 1, engine = $6, started_at = now(),
        leased_until = now() + interval '{LEASE} s'
    FROM picked WHERE o.id = picked.id
    RETURNING o.*
)
SELECT t.id, t.project_id, t.integration_id, t.repeatable, t.event, t.attempt, t.failures, t.first_notice_failed,
       coalesce(t.released_at, t.created_at) AS created_at, t.notice, v.version, i.id AS incident_id, i.resource_type,
       i.resource_name, i.resource_url,
       i.type AS incident_type, i.message, i.created_at AS began_at, i.closed_at, i.severity, i.acknowledged_by,
       i.origin, i.resolve_origin, t.origin AS own_origin
FROM taken t
LEFT JOIN LATERAL (SELECT version FROM integrations WHERE id = t.integration_id LIMIT 1) v ON true
LEFT JOIN LATERAL (SELECT * FROM incidents WHERE id = t.incident_id LIMIT 1) i ON true
"""

FINISH = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::jsonb[]) WITH ORDINALITY
        AS g(id, attempt, final, reason, try, n)
), ended AS (
    DELETE FROM outstanding o USING given g
    WHERE o.id = g.id AND o.attempt = g.attempt AND o.status = 'sending'
    RETURNING o.*, g.n, g.final, g.reason, o.attempts || g.try AS tries, clock_timestamp() AS ended_at
), recorded AS (
    INSERT INTO finished (id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
                          redelivery_of, origin, status, reason, attempt, attempts, created_at, released_at,
                          finished_at)
    SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
           redelivery_of, origin, final, reason, attempt, tries, created_at, released_at, ended_at
    FROM ended
)
SELECT n, blocks_another, ended_at FROM ended
"""

RETRY = f"""
UPDATE outstanding o
SET status = 'pending', engine = NULL, leased_until = NULL, attempts = o.attempts || g.try,
    failures = o.failures + g.failed::int, past_no_return = false,
    not_before = CASE WHEN g.retry_after > 0 THEN now() + g.retry_after * interval '1 s' END,
    due_at = greatest(now() + g.wait * interval '1 s',
                      CASE WHEN o.event IN {LASTING} AND NOT o.blocks_another
                           THEN (SELECT snooze_until FROM incidents WHERE id = o.incident_id AND closed_at IS NULL) END)
FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::bool[], $5::float8[], $6::jsonb[]) WITH ORDINALITY
    AS g(id, attempt, wait, failed, retry_after, try, n)
WHERE o.id = g.id AND o.attempt = g.attempt AND o.status = 'sending'
RETURNING g.n, o.blocks_another AND o.for_people AS overtaken
"""

# What a finished delivery blocked is released; or stays blocked by another outstanding opening to the same place.
UNBLOCK = f"""
UPDATE outstanding o
SET due_at = now(), first_notice_failed = o.for_people AND NOT g.delivered,
    blocked_by = (SELECT max(p.id::text)::uuid FROM outstanding p
              WHERE p.incident_id = o.incident_id AND p.integration_id = o.integration_id
                AND p.event IN {LASTING})
FROM unnest($1::uuid[], $2::bool[]) AS g(id, delivered)
WHERE o.blocked_by = g.id
RETURNING pg_notify($3, '')
"""

# Taken before results of both kinds are recorded: a resolve locks its openings in this order, too.
IN_ORDER = "SELECT FROM outstanding WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"

RETURN_LEASES = """
UPDATE outstanding o SET status = 'pending', engine = NULL, leased_until = NULL, due_at = now()
FROM unnest($1::uuid[], $2::int[]) AS g(id, attempt)
WHERE o.id = g.id AND o.attempt = g.attempt AND o.status = 'sending' AND NOT o.past_no_return
RETURNING pg_notify($3, '')
"""

ENDED = "SELECT finished_at FROM finished WHERE id = $1 AND attempt = $2"

# Fenced by the lease: an attempt whose lease is lost or expired cannot pass it.
POINT_OF_NO_RETURN = """
UPDATE outstanding SET past_no_return = true
WHERE id = $1 AND attempt = $2 AND status = 'sending' AND leased_until > now() + make_interval(secs => $3)
RETURNING true
"""

LOST = """
SELECT id, attempt, project_id, integration_id, integration_type, incident_id, event, past_no_return, started_at
FROM outstanding
WHERE status = 'sending' AND (leased_until < now() OR engine = ANY($1::int[]))
ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
"""

MINE = "SELECT id, attempt FROM outstanding WHERE status = 'sending' AND engine = $1"

STRANDED = """
SELECT blocked_by AS id,
       EXISTS (SELECT FROM finished f WHERE f.id = o.blocked_by AND f.status = 'delivered') AS delivered
FROM outstanding o
WHERE blocked_by IS NOT NULL AND NOT EXISTS (SELECT FROM outstanding p WHERE p.id = o.blocked_by) LIMIT $1
"""


async def claim(
    tx: Tx, *, engine: int, start: UUID, limit: int, room: Mapping[UUID, int], default_room: int, public_url: str
) -> list[Job]:
    """Lease at most `limit` due deliveries to this engine, of integrations after `start`.

    `room` is how many more each busy integration may have running; `default_room` is for the others.
    """
    full = [each for each, more in room.items() if not more]
    rows = await tx.fetch(CLAIM, start, limit, list(room), list(room.values()), default_room, engine, full)
    return [_job(row, public_url) for row in rows]


def _job(row: Record, public_url: str) -> Job:
    if row["incident_id"] is not None:
        content = Content(
            key(row["incident_id"]), row["resource_type"], row["resource_name"], row["resource_url"],
            row["incident_type"], row["message"], row["began_at"], row["closed_at"], row["severity"], row["notice"],
            row["acknowledged_by"], row["origin"], row["resolve_origin"],
        )  # fmt: skip
    else:
        content = test_content(public_url, row["created_at"])
        if row["notice"] is not None:
            content = msgspec.structs.replace(content, resource_name="Tocsin", message=row["notice"])
    return Job(
        key(row["id"]), key(row["project_id"]), key(row["integration_id"]), row["version"] or 0, row["repeatable"],
        row["event"], row["attempt"], row["failures"], row["first_notice_failed"], row["created_at"], content,
        row["own_origin"],
    )  # fmt: skip


async def record(tx: Tx, results: Sequence[AttemptResult]) -> list[Recorded]:
    """Record the results of attempts, and release what they blocked."""
    in_order = sorted(enumerate(results), key=lambda each: each[1].id.int)
    finished = [(at, each, each.next_step) for at, each in in_order if isinstance(each.next_step, Finish)]
    again = [(at, each, each.next_step) for at, each in in_order if isinstance(each.next_step, Retry)]
    recorded = [Recorded(False)] * len(results)
    followed: dict[UUID, bool] = {}
    if finished and again:
        await tx.execute(IN_ORDER, [each.id for _, each in in_order])
    if finished:
        rows = await tx.fetch(
            FINISH,
            *columns([
                (each.id, each.attempt, then.status, then.reason, each.attempt_record) for _, each, then in finished
            ]),
        )
        for number, has_followers, ended_at in rows:
            at, each, then = finished[number - 1]
            recorded[at] = Recorded(True, ended_at)
            if has_followers:
                followed[each.id] = then.status == "delivered"
    if again:
        rows = await tx.fetch(
            RETRY,
            [each.id for _, each, _ in again],
            [each.attempt for _, each, _ in again],
            [then.wait for _, _, then in again],
            [each.failed for _, each, _ in again],
            [each.retry_after for _, each, _ in again],
            [each.attempt_record for _, each, _ in again],
        )
        overtaken = []
        for number, is_overtaken in rows:
            at, each, _ = again[number - 1]
            recorded[at] = Recorded(True)
            if is_overtaken:
                overtaken.append(each.id)
        if overtaken:
            await outstanding.suppress(tx, overtaken, outstanding.RESOLVED_FIRST)
            followed |= dict.fromkeys(overtaken, False)
    for _, each, then in finished:
        if then.disable is not None:
            await health.disable(tx, each.integration_id, then.disable)
    if followed:
        await tx.execute(UNBLOCK, list(followed), list(followed.values()), WAKE_CHANNEL)
    return recorded


async def ended(tx: Tx, delivery_id: UUID, attempt: int) -> datetime | None:
    """When that attempt ended the delivery, if it did."""
    found: datetime | None = await tx.fetchval(ENDED, delivery_id, attempt)
    return found


async def return_jobs(tx: Tx, jobs: Collection[Job]) -> None:
    """Return what was leased but not started. Its attempt number is used up, its schedule is not."""
    await return_leases(tx, [(job.id, job.attempt) for job in jobs])


async def leased(connection: Tx, engine: int) -> set[Lease]:
    """What is leased to this engine, known to it or not. Outside a transaction: so hand-offs arrive first."""
    rows = await connection.fetch(MINE, engine)
    await connection.execute("SELECT")  # PostgreSQL sends the notifications of what was just read before it answers
    return {(key(row["id"]), row["attempt"]) for row in rows}


async def return_leases(tx: Tx, leases: Collection[Lease]) -> None:
    """Return these to the queue, as far as they are still leased."""
    if leases:
        ids, attempts = zip(*sorted(leases), strict=True)
        await tx.execute(RETURN_LEASES, ids, attempts, WAKE_CHANNEL)


UNKNOWN_END = "outcome unknown: the engine died during the attempt, and this must not happen twice"


async def pass_point_of_no_return(tx: Tx, delivery_id: UUID, attempt: int, seconds: float) -> bool:
    """Commit an attempt's point of no return; False if its lease does not cover `seconds` more, or was lost."""
    return await tx.fetchval(POINT_OF_NO_RETURN, delivery_id, attempt, seconds) is not None


async def recover(tx: Tx, limit: int) -> tuple[int, list[LostDelivery]]:
    """Recover expired leases and those of dead engines. It only requeues; nothing is sent from here.

    Returns how many there were, and those that were past the point of no return and are therefore dead.
    """
    dead = await engines.dead(tx)
    rows = await tx.fetch(LOST, dead, limit)
    results = [
        AttemptResult(
            key(row["id"]),
            row["attempt"],
            key(row["integration_id"]),
            Attempt(row["started_at"], None, "lost", error="No outcome on record: the process that sent it ended"),
            Finish("dead", UNKNOWN_END) if row["past_no_return"] else Retry(0.0),
        )
        for row in rows
    ]
    if results:
        await record(tx, results)
        await tx.execute("SELECT pg_notify($1, '')", WAKE_CHANNEL)
    stranded = await tx.fetch(STRANDED, limit)
    if stranded:
        delivered = [row["delivered"] for row in stranded]
        await tx.execute(UNBLOCK, [row["id"] for row in stranded], delivered, WAKE_CHANNEL)
    if dead and not results:
        await engines.forget(tx, dead)
    return len(results), [lost(row, UNKNOWN_END) for row in rows if row["past_no_return"]]


def lost(row: Record, reason: str) -> LostDelivery:
    """The delivery of this row, which has just ended for that reason."""
    return LostDelivery(
        key(row["id"]), key(row["project_id"]), key(row["integration_id"]), row["integration_type"],
        key(row["incident_id"]) if row["incident_id"] else None, row["event"], reason,
    )  # fmt: skip
