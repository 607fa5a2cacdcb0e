"""Heartbeats that are late: one look-up by index, whatever is waited for; nothing is lost with a process.

A look finds what has come since and moves its own next time. Where something is late indeed, the time in silences, and
in which Tocsin itself was away, is credited first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from tocsin.domain import pings as rules
from tocsin.domain.heartbeats import MISSED, OVERRUN, Span
from tocsin.domain.pings import Opens
from tocsin.storage.delivery import behind
from tocsin.storage.monitoring import downtime, families, pings
from tocsin.storage.monitoring.pings import CONFIG, STATE, Locked
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

AGAIN = timedelta(seconds=60)
"""How soon to look again at what a silence excuses at present: it may be ended early."""

DUE = f"""
SELECT {CONFIG}, o.ongoing, {STATE}, now() AS now
FROM (
    SELECT * FROM heartbeat_states WHERE look_at <= now() ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED
) s
CROSS JOIN LATERAL (SELECT * FROM heartbeats WHERE id = s.heartbeat_id LIMIT 1) h
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(ARRAY[type, dedup_key]), '{{}}') AS ongoing FROM ongoing
    WHERE resource_id = s.heartbeat_id AND type IN ('missed', 'failed', 'overrun')
) o
"""

MOVE = """
UPDATE heartbeat_states s
SET look_at = coalesce(g.look_at, 'infinity'), due_at = g.due_at, missed_at = g.missed_at, runs = g.runs
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::jsonb[])
    AS g (id, look_at, due_at, missed_at, runs)
WHERE s.heartbeat_id = g.id AND s.heartbeat_id = ANY ($1)
"""

# Silences of the heartbeat itself, not only for some integrations, of what its lateness would open.
CREDITED = """
SELECT g.id, lower(p.span) AS start, upper(p.span) AS end
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS g (id, project_id, since)
CROSS JOIN LATERAL (
    SELECT p.silence_id, p.span FROM silence_spans p
    WHERE p.everything AND p.project_id = g.project_id AND p.span && tstzrange(g.since, now())
      AND int8range(uuid_hash(p.project_id), uuid_hash(p.project_id), '[]')
          && int8range(uuid_hash(g.project_id), uuid_hash(g.project_id), '[]')
    UNION ALL
    SELECT p.silence_id, p.span
    FROM silences n CROSS JOIN LATERAL (
        SELECT * FROM silence_spans WHERE silence_id = n.id AND span && tstzrange(g.since, now()) OFFSET 0
    ) p
    WHERE n.resources @> ARRAY[g.id] AND p.project_id = g.project_id
) p
CROSS JOIN LATERAL (SELECT * FROM silences WHERE id = p.silence_id LIMIT 1) s
WHERE s.integrations IS NULL AND (s.incident_types IS NULL OR s.incident_types && $4)
  AND (s.severity IS NULL OR s.severity = 'critical')
"""

AWAY = "SELECT began, ended FROM outages WHERE ended > $1 AND began < now() ORDER BY ended LIMIT 1000"

RECORD_AWAY = """
INSERT INTO outages (began, ended) VALUES (now() - make_interval(secs => $1), now()) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Look:
    """How many heartbeats were due for a look, and how many incidents were opened."""

    due: int
    opened: int


async def look(tx: Tx, limit: int, *, public_url: str, back_for: float | None = None) -> Look:
    """Look at up to `limit` heartbeats that may be late, and open `missed` and `overrun` for those that are.

    Nobody is judged while no API process accepts pings, nor in the first minute after that. `back_for` is for how many
    seconds this machine has had a way out again. Several engines may look at once.
    """
    since = await downtime.api_alive_since(tx, back_for)
    if since is None:
        return Look(0, 0)
    rows = await tx.fetch(DUE, limit)
    looked = [_locked(row) for row in rows]
    late = [at for at in looked if not at.paused and rules.late(at.state, at.schedule, at.now)]
    credited = await _credited(tx, late) if late else {}
    opens: list[tuple[Locked, Opens]] = []
    for at in looked:
        at.look_at = None if at.paused else rules.look_at(at.state, at.schedule)
    for number, at in enumerate(late, 1):
        if number % pings.AT_ONCE == 0:
            await asyncio.sleep(0)
        spans = credited[at.id]
        found, at.look_at = rules.judge(
            at.state, at.schedule, at.ongoing, at.now, credited=spans, listening_since=since
        )
        opens += [(at, each) for each in found]
        if at.look_at is not None and any(end > at.now for _, end in spans):
            at.look_at = min(at.look_at, at.now + AGAIN)
    if looked:
        await tx.execute(
            MOVE,
            [at.id for at in looked],
            [at.look_at for at in looked],
            [at.state.due_at for at in looked],
            [at.state.missed_at for at in looked],
            [rules.written_runs(at.state.runs) for at in looked],
        )
    if opens:
        missed = [at.id for at, each in opens if each.type == MISSED]
        await families.ask_parents(tx, missed)
        await behind.hold(tx, {at.id for at, _ in opens})
        await pings.follow(tx, [(at, each, None) for at, each in opens], public_url=public_url)
        await families.explain(tx, missed)
    return Look(len(looked), len(opens))


async def record_away(tx: Tx, seconds: float) -> None:
    """Nobody could reach this machine for so long, until now: that time counts against nobody."""
    await tx.execute(RECORD_AWAY, seconds)


def _locked(row: Record) -> Locked:
    return pings.locked(row, row)


async def _credited(tx: Tx, late: Sequence[Locked]) -> dict[UUID, list[Span]]:
    """For each of these, the time that does not count, since whatever it is late for."""
    since = {at.id: _since(at) for at in late}
    rows = await tx.fetch(
        CREDITED, list(since), [at.project_id for at in late], list(since.values()), [MISSED, OVERRUN]
    )
    away = [(row["began"], row["ended"]) for row in await tx.fetch(AWAY, min(since.values()))]
    found: dict[UUID, list[Span]] = {at.id: list(away) for at in late}
    for row in rows:
        found[key(row["id"])].append((row["start"], row["end"]))
    return found


def _since(at: Locked) -> datetime:
    """The earliest time that anything of it is counted from."""
    begun = [run.started for run in at.state.runs.values() if not run.over]
    return min([*begun, at.state.due_at] if at.state.due_at else begun)
