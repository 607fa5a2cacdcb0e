"""Replays: what an integration missed is sent again, a few at a time, each as a redelivery on record.

A replay's place and the deliveries that it queues are committed together, so that nothing is lost and nothing is queued
twice, whenever an engine ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.replays import Selection, State, Status
from tocsin.storage.delivery import incidents, outstanding, queue, selections
from tocsin.storage.delivery.queue import QueueEntry, Recipient, content
from tocsin.storage.delivery.selections import Missed
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay, and how far it is. `reason` is what it waits for, or why it was stopped."""

    id: UUID
    project_id: UUID
    integration_id: UUID
    from_at: datetime
    to_at: datetime
    status: Status
    state: State
    reason: str | None
    total: int
    queued: int
    delivered: int
    dead: int
    suppressed: int
    last_taken: UUID | None
    outstanding: Sequence[UUID]
    at_once: int
    dead_in_row: int
    created_by: str
    created_at: datetime
    finished_at: datetime | None

    @property
    def selection(self) -> Selection:
        return Selection(self.from_at, self.to_at, self.status)

    @property
    def skipped(self) -> int:
        """How many had been sent again by other means before it was their turn."""
        return max(0, self.total - self.queued) if self.state == "finished" else 0


FIELDS = tuple(Replay.__dataclass_fields__)
KEYS = frozenset({"id", "project_id", "integration_id", "last_taken"})
COLUMNS = ", ".join(FIELDS)

CREATE = f"""
INSERT INTO replays (id, project_id, integration_id, from_at, to_at, status, total, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce((SELECT email FROM users WHERE id = $8), $9))
ON CONFLICT (integration_id) WHERE state = 'running' DO NOTHING
RETURNING {COLUMNS}
"""

ONE = f"SELECT {COLUMNS} FROM replays WHERE id = $1 AND project_id = $2"

OF_INTEGRATION = f"""
SELECT {COLUMNS} FROM replays WHERE integration_id = $1 AND project_id = $2 ORDER BY id DESC LIMIT $3 OFFSET $4
"""
COUNT_OF_INTEGRATION = "SELECT count(*) FROM replays WHERE integration_id = $1 AND project_id = $2"

RUNNING = f"SELECT {COLUMNS} FROM replays WHERE integration_id = $1 AND project_id = $2 AND state = 'running'"

LOCK = "SELECT FROM replays WHERE id = $1 AND project_id = $2 FOR UPDATE"

STOP = f"""
UPDATE replays SET state = 'stopped', reason = $2, finished_at = now(), next_step_at = now()
WHERE id = $1 AND state = 'running' RETURNING {COLUMNS}
"""

DUE = f"""
SELECT {COLUMNS} FROM replays WHERE next_step_at <= now() ORDER BY next_step_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

# A redelivery that is in neither table was dropped with its partition.
RESULTS = """
SELECT g.id, coalesce(f.status, CASE WHEN o.id IS NULL THEN 'suppressed' END) AS status,
       coalesce(o.failures, 0) > 0 AS failing
FROM unnest($1::uuid[]) AS g(id)
LEFT JOIN LATERAL (SELECT id, failures FROM outstanding WHERE id = g.id LIMIT 1) o ON true
LEFT JOIN LATERAL (SELECT status FROM finished WHERE id = g.id LIMIT 1) f ON true
"""

OUTSTANDING = """
SELECT id, incident_id, event, status FROM outstanding
WHERE incident_id = ANY($2::uuid[]) AND integration_id = $1 AND held IS NULL ORDER BY id FOR UPDATE
"""

BLOCKS_ANOTHER = "UPDATE outstanding SET blocks_another = true WHERE id = ANY($1::uuid[])"

HOLD_BACK = """
UPDATE outstanding o SET blocked_by = g.by FROM unnest($1::uuid[], $2::uuid[]) AS g(id, by) WHERE o.id = g.id
"""

SAVE = """
UPDATE replays
SET state = CASE WHEN $2::bool THEN 'finished' ELSE state END, reason = $3, queued = $4::int, delivered = $5, dead = $6,
    suppressed = $7, total = greatest($8::int, $4), last_taken = $9, outstanding = $10, at_once = $11,
    dead_in_row = $12,
    finished_at = CASE WHEN $2 THEN now() ELSE finished_at END,
    next_step_at = clock_timestamp() + $13::float8 * interval '1 s'
WHERE id = $1
"""

POSTPONE = "UPDATE replays SET next_step_at = now() + $2 * interval '1 s' WHERE id = $1 AND next_step_at IS NOT NULL"

FORGET = "DELETE FROM replays WHERE finished_at < now() - make_interval(days => $1)"


async def create(
    tx: Tx, project_id: UUID, integration_id: UUID, selection: Selection, total: int, by: UUID | str
) -> Replay | None:
    """Begin one; None if another is running for that integration."""
    user_id, name = (by, "a user who is gone") if isinstance(by, UUID) else (None, by)
    row = await tx.fetchrow(
        CREATE, ids.new(), project_id, integration_id, selection.start, selection.end, selection.status, total,
        user_id, name,
    )  # fmt: skip
    return row and _replay(row)


async def one(tx: Tx, project_id: UUID, replay_id: UUID) -> Replay | None:
    """The project's replay with that key."""
    row = await tx.fetchrow(ONE, replay_id, project_id)
    return row and _replay(row)


async def running(tx: Tx, project_id: UUID, integration_id: UUID) -> Replay | None:
    """The integration's replay that is running."""
    row = await tx.fetchrow(RUNNING, integration_id, project_id)
    return row and _replay(row)


async def of_integration(
    tx: Tx, project_id: UUID, integration_id: UUID, *, limit: int, offset: int = 0
) -> tuple[list[Replay], int]:
    """A page of an integration's replays, newest first, and how many there are."""
    rows = await tx.fetch(OF_INTEGRATION, integration_id, project_id, limit, offset)
    return [*map(_replay, rows)], await tx.fetchval(COUNT_OF_INTEGRATION, integration_id, project_id)


async def stop(tx: Tx, project_id: UUID, replay_id: UUID, reason: str) -> Replay | None:
    """Queue nothing more, and suppress what is pending; a running attempt completes. None if it was not running."""
    await tx.execute(LOCK, replay_id, project_id)
    row = await tx.fetchrow(STOP, replay_id, reason)
    if row is None:
        return None
    replay = _replay(row)
    await outstanding.suppress(tx, replay.outstanding, reason)
    return replay


async def due(tx: Tx) -> Replay | None:
    """The one whose next step is due for longest, locked until the transaction ends: one engine works on it."""
    row = await tx.fetchrow(DUE)
    return row and _replay(row)


@dataclass(frozen=True, slots=True)
class Results:
    """What became of outstanding redeliveries: those that remain, and how many have finished with which status."""

    outstanding: Sequence[UUID]
    delivered: int
    dead: int
    suppressed: int
    failing: bool
    """Whether an attempt for one that remains has failed."""


async def results(tx: Tx, replay: Replay) -> Results:
    rows = await tx.fetch(RESULTS, replay.outstanding) if replay.outstanding else []
    ended = [row["status"] for row in rows if row["status"]]
    return Results(
        [key(row["id"]) for row in rows if not row["status"]], ended.count("delivered"), ended.count("dead"),
        ended.count("suppressed"), any(row["failing"] for row in rows if not row["status"]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """Redeliveries that were queued; `last` is the original that was queued last; `ends` of them came in addition to
    the selection. `exhausted`: nothing is left.
    """

    redeliveries: Sequence[UUID]
    last: UUID | None
    ends: int
    exhausted: bool


async def take(tx: Tx, replay: Replay, to: Recipient, limit: int) -> Taken:
    """Queue the next ones as redeliveries, at most `limit` (and the ends that must follow them).

    What is about one incident stays in order: an end waits for the beginning, whoever queued either.
    """
    missed = await selections.after(
        tx, replay.project_id, replay.integration_id, replay.selection, finished_by=replay.created_at,
        last=replay.last_taken, limit=limit,
    )  # fmt: skip
    if not missed:
        return Taken([], replay.last_taken, 0, exhausted=True)
    about = list({each.incident_id for each in missed})
    waiting = await _waiting(tx, replay.integration_id, about)
    own = set(replay.outstanding)
    first: list[Missed] = []
    ends: list[tuple[UUID, UUID]] = []
    """Those of an end's incident and original."""
    last = replay.last_taken
    for each in missed:
        if each.event == "resolved":
            ends.append((each.incident_id, each.id))
        elif any(each.incident_id == other.incident_id for other in first) or not all(
            found.may_follow and found.id not in own for found in waiting.get(each.incident_id, ())
        ):
            break
        else:
            first.append(each)
            if each.end is not None:
                ends.append((each.incident_id, each.end))
        last = each.id
    known = await incidents.these(tx, replay.project_id, about)
    begun = await queue.put(
        tx, [QueueEntry(to, each.event, content(known[each.incident_id]), redelivery_of=each.id) for each in first]
    )
    blocked_by = {about: found.id for about, all_ in waiting.items() for found in all_ if found.event != "resolved"}
    blocked_by |= {each.incident_id: new for each, new in zip(first, begun, strict=True)}
    ended = await queue.put(
        tx,
        [
            QueueEntry(to, "resolved", content(known[about]), blocked_by.get(about), redelivery_of=original)
            for about, original in ends
        ],
    )
    overtaken = [
        (found.id, blocked_by[each.incident_id])
        for each in first for found in waiting.get(each.incident_id, ()) if found.event == "resolved"
    ]  # fmt: skip
    if overtaken:
        await tx.execute(HOLD_BACK, *map(list, zip(*overtaken, strict=True)))
    blocking = {blocked_by[about] for about, _ in ends if about in blocked_by} | {by for _, by in overtaken}
    if blocking:
        await tx.execute(BLOCKS_ANOTHER, list(blocking))
    return Taken([*begun, *ended], last, sum(each.end is not None for each in first), exhausted=False)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What is outstanding about an incident, locked. `may_follow`: it is no end that is being sent just now."""

    id: UUID
    event: str
    may_follow: bool


async def _waiting(tx: Tx, integration_id: UUID, about: Sequence[UUID]) -> dict[UUID, list[_Waiting]]:
    found: dict[UUID, list[_Waiting]] = {}
    for row in await tx.fetch(OUTSTANDING, integration_id, about):
        may_follow = row["event"] != "resolved" or row["status"] == "pending"
        found.setdefault(key(row["incident_id"]), []).append(_Waiting(key(row["id"]), row["event"], may_follow))
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a replay changed: counts since the last step, and when the next one is. `pause` is None if
    nothing is left to do.
    """

    outstanding: Sequence[UUID]
    results: Results
    taken: Taken
    at_once: int
    dead_in_row: int
    pause: float | None
    reason: str | None
    finished: bool


async def save(tx: Tx, replay: Replay, step: Step) -> None:
    """Record a step, in the transaction that queued what was taken."""
    queued = replay.queued + len(step.taken.redeliveries)
    await tx.execute(
        SAVE, replay.id, step.finished, step.reason, queued, replay.delivered + step.results.delivered,
        replay.dead + step.results.dead, replay.suppressed + step.results.suppressed,
        replay.total + step.taken.ends, step.taken.last, step.outstanding, step.at_once, step.dead_in_row, step.pause,
    )  # fmt: skip


async def postpone(tx: Tx, replay_id: UUID, seconds: float) -> None:
    """Let the others go first: its next step is so much later."""
    await tx.execute(POSTPONE, replay_id, seconds)


async def forget_old(tx: Tx, days: int) -> None:
    """Delete those that ended so long ago."""
    await tx.execute(FORGET, days)


def _replay(row: Record) -> Replay:
    values: dict[str, Any] = {name: key(row[name]) if row[name] and name in KEYS else row[name] for name in FIELDS}
    values["outstanding"] = [key(each) for each in row["outstanding"]]
    return Replay(**values)
