"""What becomes of outstanding deliveries when their incident or integration changes: expedited, suppressed, postponed.

Deliveries are locked in the order of their keys, here as everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.storage.delivery import behind, queue
from tocsin.storage.delivery.behind import NO_OTHERS, Others
from tocsin.storage.delivery.queue import LASTING, TO_BE_DECIDED, TURNS_CHANNEL, HeldEntry
from tocsin.storage.postgres.database import Tx, key

SUPPRESS = """
WITH ended AS (
    DELETE FROM outstanding o
    USING (SELECT id FROM outstanding WHERE {which} AND (status = 'pending' OR $3) ORDER BY id FOR UPDATE) waiting
    WHERE o.id = waiting.id RETURNING o.*
)
INSERT INTO finished (id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
                      redelivery_of, origin, status, reason, attempt, attempts, created_at, released_at, finished_at)
SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
       redelivery_of, origin, 'suppressed', $2, attempt, attempts, created_at, released_at, now()
FROM ended RETURNING id
"""
SUPPRESS_THESE = SUPPRESS.format(which="id = ANY($1::uuid[])")
SUPPRESS_INTEGRATION = SUPPRESS.format(which="integration_id = ANY($1::uuid[])")
SUPPRESS_INCIDENTS = SUPPRESS.format(which="incident_id = ANY($1::uuid[])")

# Locks what is waiting, so that the outcome of a running attempt is recorded either before this or after the resolve.
EXPEDITE_OPENINGS = f"""
UPDATE outstanding o
SET blocks_another = true,
    due_at = CASE WHEN status = 'pending' THEN greatest(now(), coalesce(not_before, now())) ELSE due_at END
FROM (SELECT id FROM outstanding WHERE incident_id = ANY($1::uuid[]) AND event IN {LASTING}
      ORDER BY id FOR UPDATE) waiting
WHERE o.id = waiting.id
RETURNING o.id, o.incident_id, o.integration_id, o.status, o.for_people, o.event, o.held
"""

# As that, and what is held back about others is decided anew: in one statement, so that all is locked in one order.
EXPEDITE_AND_DECIDE_ANEW = f"""
{behind.CONCERNED}, changed AS (
    UPDATE outstanding o
    SET blocks_another = o.blocks_another OR waiting.own, summary = o.summary AND waiting.own,
        due_at = CASE WHEN NOT waiting.own THEN now() WHEN o.status <> 'pending' THEN o.due_at
                      ELSE greatest(now(), coalesce(o.not_before, now())) END
    FROM (
        SELECT q.id, q.incident_id = ANY($1::uuid[]) AS own, q.held IS NOT NULL AND {queue.ANEW} AS anew
        FROM outstanding q
        WHERE q.incident_id = ANY($1 || ARRAY(SELECT incident_id FROM concerned)) AND q.event IN {LASTING}
        ORDER BY q.id FOR UPDATE
    ) waiting
    WHERE o.id = waiting.id AND (waiting.own OR waiting.anew)
    RETURNING o.*, waiting.own
)
SELECT id, incident_id, integration_id, status, for_people, event, held FROM changed WHERE own
"""

SUPPRESS_EACH = """
WITH ended AS (
    DELETE FROM outstanding o USING unnest($1::uuid[], $2::text[]) AS g(id, reason)
    WHERE o.id = g.id RETURNING o.*, g.reason
)
INSERT INTO finished (id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
                      redelivery_of, origin, status, reason, attempt, attempts, created_at, released_at, finished_at)
SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
       redelivery_of, origin, 'suppressed', reason, attempt, attempts, created_at, released_at, now()
FROM ended
"""

# `$2` is what happened before its turn. What it waited for beside its turn is part of the reason.
CALL_OFF = """
WITH ended AS (
    DELETE FROM outstanding o
    USING (SELECT id FROM outstanding WHERE {which} AND held IS NOT NULL ORDER BY id FOR UPDATE) waiting
    WHERE o.id = waiting.id RETURNING o.*
)
INSERT INTO finished (id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
                      redelivery_of, origin, status, reason, attempt, attempts, created_at, released_at, finished_at)
SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
       redelivery_of, origin, 'suppressed',
       $2 || ' before its turn' || CASE WHEN held LIKE 'it%' THEN '' ELSE ': ' || held END,
       attempt, attempts, created_at, released_at, now()
FROM ended
"""
CALL_OFF_THESE = CALL_OFF.format(which="id = ANY($1::uuid[])")
# Whoever comes on duty is sent what still lasts, whoever has it.
CALL_OFF_INCIDENT = CALL_OFF.format(
    which="incident_id = $1 AND event <> 'resolved' AND held NOT LIKE 'the hand-over at %'"
)

OPENING_NOT_DELIVERED = f"""
SELECT incident_id, integration_id FROM finished
WHERE incident_id = ANY($1::uuid[]) AND integration_id = ANY($2::uuid[]) AND event IN {LASTING}
GROUP BY incident_id, integration_id HAVING NOT bool_or(status = 'delivered')
"""

POSTPONE = f"""
UPDATE outstanding o SET due_at = greatest(due_at, $2)
FROM (SELECT id FROM outstanding WHERE incident_id = $1 AND event IN {LASTING} AND status = 'pending'
      ORDER BY id FOR UPDATE) waiting
WHERE o.id = waiting.id
"""

# Of each incident, what is attached through which these were told.
ATTACHED = """
SELECT DISTINCT d.incident_id, coalesce(d.on_behalf_of, d.integration_id) AS attached
FROM unnest($1::uuid[], $2::uuid[]) AS g(incident_id, integration_id)
CROSS JOIN LATERAL (
    SELECT * FROM deliveries WHERE incident_id = g.incident_id AND event = 'opened' OFFSET 0
) d
WHERE d.integration_id = g.integration_id
"""

TELLINGS = f"""
SELECT id, incident_id, coalesce(on_behalf_of, integration_id) AS attached,
       event = 'reminder' AND held IS NOT NULL AS due
FROM outstanding WHERE incident_id = ANY($1::uuid[]) AND event IN {LASTING} ORDER BY id FOR UPDATE
"""

DUE_NOW = "UPDATE outstanding SET due_at = now() WHERE id = ANY($1::uuid[])"

RESOLVED_FIRST = "resolved before it could be delivered; the resolved notification covers both"

Pair = tuple[UUID, UUID]
"""An incident and an integration."""


@dataclass(frozen=True, slots=True)
class OpeningState:
    """What a resolve depends on: the opening that it is `blocked_by`, or that the first notice `failed`."""

    blocked_by: UUID | None
    failed: bool


async def settle_undelivered_openings(
    tx: Tx, recipients: Mapping[UUID, Collection[UUID]], people: Collection[UUID], others: Others = NO_OTHERS,
    told_anyway: Collection[UUID] = (),
) -> dict[Pair, OpeningState]:  # fmt: skip
    """Openings that are not delivered yet. `recipients`: integrations by incident; `people`: those that people read.

    A machine gets both, in order, at once: the opening is due now, unless its destination asked for a longer wait.
    People do not get an opening of a resolved incident, unless it is `told_anyway`: it is suppressed, and the resolve
    covers both. What waits for
    its turn is suppressed; what has not been decided about yet is left to `storage.notifying.closed`. What is told of
    `others` is decided anew.
    """
    if others == NO_OTHERS:
        rows = await tx.fetch(EXPEDITE_OPENINGS, list(recipients))
    else:
        rows = await tx.fetch(EXPEDITE_AND_DECIDE_ANEW, list(recipients), list(others.these), list(others.behind))
        await tx.execute("SELECT pg_notify($1, '')", TURNS_CHANNEL)
    held = [row for row in rows if row["held"]]
    if held:
        late_turns = [row["id"] for row in held if row["held"] != TO_BE_DECIDED or row["event"] != "opened"]
        await tx.execute(CALL_OFF_THESE, late_turns, "resolved")
        await tx.execute("SELECT pg_notify($1, '')", TURNS_CHANNEL)
        rows = [row for row in rows if not row["held"]]
    late = {
        row["id"] for row in rows
        if row["for_people"] and row["status"] == "pending" and key(row["incident_id"]) not in told_anyway
    }  # fmt: skip
    if late:
        await suppress(tx, list(late), RESOLVED_FIRST)
    found = {
        (key(row["incident_id"]), key(row["integration_id"])): OpeningState(key(row["id"]), failed=False)
        for row in sorted(rows, key=lambda row: row["id"])
        if row["id"] not in late
    }
    if people:
        for row in await tx.fetch(OPENING_NOT_DELIVERED, list(recipients), list(people)):
            found.setdefault((key(row["incident_id"]), key(row["integration_id"])), OpeningState(None, failed=True))
    return found


async def suppress(tx: Tx, these: Sequence[UUID], reason: str) -> None:
    """Suppress these, as far as they are pending."""
    await tx.execute(SUPPRESS_THESE, these, reason, False)


async def suppress_each(tx: Tx, ends: Iterable[tuple[UUID, str]]) -> None:
    """Suppress these, each with its reason."""
    these, reasons = zip(*ends, strict=True)
    await tx.execute(SUPPRESS_EACH, these, reasons)


async def call_off(tx: Tx, incident_id: UUID, reason: str) -> None:
    """Suppress what waits for its turn to tell of this incident: the `reason` came before it."""
    await tx.execute(CALL_OFF_INCIDENT, incident_id, reason)


async def suppress_incidents(tx: Tx, incidents: Sequence[UUID], reason: str) -> None:
    """Suppress all that is outstanding about these incidents."""
    await tx.execute(SUPPRESS_INCIDENTS, incidents, reason, True)


async def suppress_waiting(tx: Tx, integration_id: UUID, reason: str) -> None:
    """Suppress what is pending for an integration; a running attempt completes."""
    await tx.execute(SUPPRESS_INTEGRATION, [integration_id], reason, False)


async def suppress_outstanding(tx: Tx, integration_id: UUID, reason: str) -> None:
    """Suppress all that is outstanding for an integration, running attempts included."""
    await tx.execute(SUPPRESS_INTEGRATION, [integration_id], reason, True)


async def postpone(tx: Tx, incident_id: UUID, until: datetime) -> None:
    """Postpone the pending openings of an incident."""
    await tx.execute(POSTPONE, incident_id, until)


async def remind(tx: Tx, told: Iterable[Pair], notes: Mapping[UUID, str]) -> None:
    """Remind all who were told of these incidents, unless they are about to be told. `notes` are said beside it."""
    pairs = list(told)
    if not pairs:
        return
    rows = await tx.fetch(ATTACHED, *map(list, zip(*pairs, strict=True)))
    wanted = {(key(row["incident_id"]), key(row["attached"])) for row in rows}
    under_way = await tx.fetch(TELLINGS, list({incident for incident, _ in pairs}))
    await tx.execute(DUE_NOW, [row["id"] for row in under_way if row["due"]])
    wanted -= {(key(row["incident_id"]), key(row["attached"])) for row in under_way}
    await queue.hold(
        tx,
        [
            HeldEntry(to, incident, "reminder", TO_BE_DECIDED, note=notes.get(incident))
            for incident, to in sorted(wanted)
        ],
    )
