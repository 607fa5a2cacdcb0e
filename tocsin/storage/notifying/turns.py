"""Turns: deliveries that wait for theirs are decided about when it has come: sent, held on, or ended with the reason.

`domain.notifying` decides; this brings it what is known, and does what it says, in one transaction. Rows in `ongoing`
are locked first, as in a resolve and an acknowledgement: what these have called off is never told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from uuid import UUID

import msgspec

from tocsin.domain import notifying
from tocsin.domain.floods import Count
from tocsin.domain.incidents import Incident
from tocsin.domain.notifying import Decision, Never, Occasion, Tell, Telling, Wait
from tocsin.storage.delivery import incidents, outstanding, queue
from tocsin.storage.delivery.incidents import INCIDENT
from tocsin.storage.delivery.queue import WAKE_CHANNEL, HeldEntry
from tocsin.storage.notifying import circumstances, closed, floods
from tocsin.storage.notifying.circumstances import Circumstances
from tocsin.storage.postgres.database import Tx, columns, key

# What another engine decides about at this moment is skipped; so is what a resolve is about to call off.
LOCK_DUE = """
SELECT o.incident_id, coalesce($2, now()) AS now
FROM (
    SELECT DISTINCT incident_id FROM (
        SELECT incident_id FROM outstanding WHERE held IS NOT NULL AND NOT summary AND due_at <= coalesce($2, now())
        ORDER BY due_at, id LIMIT $1
    ) first
) due
CROSS JOIN LATERAL (SELECT resource_id, type, dedup_key FROM incidents WHERE id = due.incident_id LIMIT 1) i
JOIN ongoing o ON o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key
     AND o.incident_id = due.incident_id
ORDER BY o.resource_id, o.type, o.dedup_key
FOR UPDATE OF o SKIP LOCKED
"""

# Read after the locks are held: so this is how they stand, and what is due of each.
LOCKED = f"""
SELECT {INCIDENT}, o.recipients, o.summarised, q.due
FROM unnest($1::uuid[]) AS g(incident_id)
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = g.incident_id LIMIT 1) i
JOIN ongoing o ON o.resource_id = i.resource_id AND o.type = i.type AND o.dedup_key = i.dedup_key
CROSS JOIN LATERAL (
    SELECT array_agg((id, coalesce(on_behalf_of, integration_id), event, held) ORDER BY due_at, id) AS due
    FROM (SELECT * FROM outstanding WHERE incident_id = g.incident_id OFFSET 0) q
    WHERE held IS NOT NULL AND NOT summary AND due_at <= $2
) q
"""

RELEASE = f"""
WITH released AS (
    UPDATE outstanding o
    SET held = NULL, due_at = now(), released_at = now(), event = g.event, notice = coalesce(g.note, o.notice),
        {queue.PASS_ON}
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS g(id, integration_id, event, note)
    CROSS JOIN LATERAL (SELECT * FROM integrations WHERE id = g.integration_id LIMIT 1) i
    WHERE o.id = g.id
    RETURNING 1
)
SELECT pg_notify('{WAKE_CHANNEL}', '') WHERE EXISTS (SELECT FROM released)
"""

HOLD_ON = f"""
UPDATE outstanding o
SET held = g.reason, due_at = g.due_at, summary = g.summary,
    {queue.PASS_ON}
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bool[], $5::uuid[]) AS g(id, reason, due_at, summary, to_)
CROSS JOIN LATERAL (SELECT * FROM integrations WHERE id = g.to_ LIMIT 1) i
WHERE o.id = g.id
"""

PUT_OFF = """
UPDATE outstanding SET due_at = now() + make_interval(secs => $1)
WHERE id = (SELECT id FROM outstanding WHERE held IS NOT NULL AND NOT summary AND due_at <= now()
            ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
"""

TOLD = """
UPDATE ongoing o SET recipients = o.recipients || g.integration_id
FROM (
    SELECT i.resource_id, i.type, i.dedup_key, array_agg(DISTINCT t.integration_id) AS integration_id
    FROM unnest($1::uuid[], $2::uuid[]) AS t(incident_id, integration_id)
    CROSS JOIN LATERAL (SELECT resource_id, type, dedup_key FROM incidents WHERE id = t.incident_id LIMIT 1) i
    GROUP BY i.resource_id, i.type, i.dedup_key
) g
WHERE o.resource_id = g.resource_id AND o.type = g.type AND o.dedup_key = g.dedup_key
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose turn has come. `integration_id` is the one that is attached."""

    id: UUID
    incident_id: UUID
    integration_id: UUID
    telling: Telling
    held: str


@dataclass(slots=True)
class _Told:
    """What has been decided in one transaction: a later decision of it goes by the earlier ones."""

    releases: list[tuple[UUID, UUID, str, str | None]] = field(default_factory=list)
    holds: list[tuple[UUID, str, datetime, bool, UUID]] = field(default_factory=list)
    ends: list[tuple[UUID, str]] = field(default_factory=list)
    told: list[tuple[UUID, UUID]] = field(default_factory=list)
    follow_ups: list[HeldEntry] = field(default_factory=list)
    counts: dict[UUID, Count] = field(default_factory=dict)


async def decide_due(tx: Tx, limit: int, now: datetime | None = None) -> int:
    """Decide about at most `limit` deliveries whose turn has come, of what is over only when nothing that lasts is due.

    Returns how many were decided about; with a limit of 1, that is the one that has been due the longest. `now` is the
    database's time unless it is given.
    """
    locked = await tx.fetch(LOCK_DUE, limit, now)
    if not locked:
        return await closed.decide_due(tx, limit, now)
    now = locked[0]["now"]
    rows = await tx.fetch(LOCKED, [row["incident_id"] for row in locked], now)
    lasting = {key(row["id"]): incidents.of_row(row) for row in rows}
    told = {key(row["id"]): {key(each) for each in (*row["recipients"], *row["summarised"])} for row in rows}
    due = [_due(key(row["id"]), *each) for row in rows for each in row["due"] or ()]
    due = due[:1] if limit == 1 else sorted(due, key=attrgetter("id"))
    known = await circumstances.of_incidents(tx, lasting.values(), {each.integration_id for each in due}, now)
    result = await _decide(tx, due, lasting, told, known, now)
    await _apply(tx, result)
    return len(due)


async def put_off(tx: Tx, seconds: float) -> None:
    """Decide about what has been due the longest only after so many seconds."""
    await tx.execute(PUT_OFF, seconds)


async def _decide(
    tx: Tx, due: Sequence[Due], lasting: Mapping[UUID, Incident], told: Mapping[UUID, set[UUID]], known: Circumstances,
    now: datetime,
) -> _Told:  # fmt: skip
    limits = await floods.of(tx, list(known.everybody))
    locked = {key(row["id"]) for row in await tx.fetch(closed.LOCK_THESE, [each.id for each in due])}
    result = _Told()
    for each in (one for one in due if one.id in locked):
        incident = lasting[each.incident_id]
        candidate = known.candidate(each.integration_id, incident.resource_id)
        if candidate is None:
            result.ends.append((each.id, "integration deleted"))
            continue
        concerned = (candidate.id, *notifying.members(candidate.schedule))
        flooded = {id_: limits.until(id_, incident.resource_id, now) for id_ in concerned}
        everybody = known.flooded(flooded)
        occasion = known.occasion(incident, told[incident.id])
        candidate = msgspec.structs.replace(candidate, flooded_until=flooded[candidate.id])
        decision = notifying.decide(
            each.telling, candidate, occasion, everybody, await known.silences(tx, incident, candidate), now, each.held
        )
        _note(result, each, decision, occasion, now)
        if isinstance(decision, Tell):
            event = _event(each, decision, occasion)
            if event == "opened":
                limits.count(decision.to, incident.resource_id, now)
            told[incident.id].add(decision.to)
            for telling, wait in notifying.follow_up(each.telling, candidate, now, each.held):
                assert wait.until is not None
                result.follow_ups.append(
                    HeldEntry(candidate.id, incident.id, telling, wait.reason, wait.until)
                )
    result.counts = limits.changed
    return result


def _note(result: _Told, each: Due, decision: Decision, occasion: Occasion, now: datetime) -> None:
    match decision:
        case Tell(to, note):
            result.releases.append((each.id, to, _event(each, decision, occasion), note))
            if to not in occasion.told:
                result.told.append((each.incident_id, to))
        case Wait(until, reason, summary, to):
            until = until or notifying.look_again(occasion.began_at, now)
            result.holds.append((each.id, reason, until, summary, to or each.integration_id))
        case Never(reason):
            result.ends.append((each.id, reason))


def _event(each: Due, decision: Tell, occasion: Occasion) -> str:
    """Whoever has not been told of it hears that it opened, also where another would have been reminded."""
    return each.telling if decision.to in occasion.told else "opened"


async def _apply(tx: Tx, result: _Told) -> None:
    if result.ends:
        await outstanding.suppress_each(tx, result.ends)
    if result.holds:
        await tx.execute(HOLD_ON, *columns(result.holds))
    if result.told:
        await tx.execute(TOLD, *columns(result.told))
    await floods.store(tx, result.counts)
    await queue.hold(tx, result.follow_ups)
    if result.releases:
        await tx.execute(RELEASE, *columns(result.releases))


def _due(incident_id: UUID, id_: UUID, attached: UUID, event: str, held: str) -> Due:
    return Due(key(id_), incident_id, key(attached), "reminder" if event == "reminder" else "opened", held)
