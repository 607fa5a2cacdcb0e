"""Deliveries of integrations and incidents: listing, suppressing, redelivering."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain import notifying
from tocsin.domain.deliveries import Event, Status
from tocsin.domain.incidents import Incident
from tocsin.storage.delivery import behind, queue
from tocsin.storage.delivery.behind import NO_OTHERS, Others
from tocsin.storage.delivery.queue import (
    LASTING,
    TO_BE_DECIDED,
    TURNS_CHANNEL,
    HeldEntry,
    QueueEntry,
    Recipient,
    content,
    test_content,
)
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import first_key

if TYPE_CHECKING:
    from asyncpg import Record


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification to one integration, and all its attempts (oldest first, as `leases.Attempt` stores them)."""

    id: UUID
    project_id: UUID
    integration_id: UUID
    integration_type: str
    on_behalf_of: UUID | None
    incident_id: UUID | None
    event: Event
    redelivery_of: UUID | None
    status: Status
    reason: str | None
    attempt: int
    attempts: Sequence[Mapping[str, Any]]
    created_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


FIELDS = tuple(Delivery.__dataclass_fields__)
KEYS = frozenset({"id", "project_id", "integration_id", "on_behalf_of", "incident_id", "redelivery_of"})
COLUMNS = ", ".join(FIELDS)

ONE = f"SELECT {COLUMNS} FROM deliveries WHERE id = $1 AND project_id = $2"

# Until an engine has looked at them, a moment after the opening: when their turns are.
COMING_TURNS = """
SELECT o.id, i.created_at + make_interval(secs => a.after) AS at
FROM outstanding o
CROSS JOIN LATERAL (SELECT * FROM incidents WHERE id = o.incident_id LIMIT 1) i
JOIN attachments a ON a.resource_id = i.resource_id AND a.integration_id = o.integration_id
WHERE o.id = ANY($1::uuid[]) AND i.created_at + make_interval(secs => a.after) > now()
"""

OPENING_DELIVERED = f"""
SELECT EXISTS (SELECT FROM finished
               WHERE incident_id = $1 AND integration_id = $2 AND event IN {LASTING}
                 AND status = 'delivered' AND id < $3)
"""

# The newest of a view over two tables: each table gives its newest by index, then these few are merged. Most finished
# ones are delivered; the others have an index of their own, so that the few dead ones are found among millions.
NEWEST = """
SELECT {columns} FROM (
    (SELECT {outstanding} FROM outstanding WHERE {owner}_id = $1 AND project_id = $2
        AND ($3::text IS NULL OR status = $3) AND id > $6 AND id < $7 AND {within} ORDER BY id DESC
        LIMIT $4::int + $5::int)
    UNION ALL
    (SELECT {finished} FROM finished WHERE {owner}_id = $1 AND project_id = $2
        AND ($3::text IS NULL OR status = $3){rare} AND id > $6 AND id < $7 AND {within} ORDER BY id DESC
        LIMIT $4::int + $5::int)
) newest ORDER BY id DESC LIMIT $4::int OFFSET $5::int
"""
WITHIN = "($8::timestamptz IS NULL OR created_at >= $8) AND ($9::timestamptz IS NULL OR created_at < $9)"
NOT_DELIVERED = " AND status <> 'delivered'"
ONLY_OUTSTANDING = {"due_at": "NULL::timestamptz AS due_at", "started_at": "NULL::timestamptz AS started_at"}
ONLY_FINISHED = {"reason": "held AS reason", "finished_at": "NULL::timestamptz AS finished_at"}


def _newest(owner: str, rare: str = "") -> str:
    return NEWEST.format(
        owner=owner,
        rare=rare,
        within=WITHIN,
        columns=COLUMNS,
        outstanding=", ".join(ONLY_FINISHED.get(name, name) for name in FIELDS),
        finished=", ".join(ONLY_OUTSTANDING.get(name, name) for name in FIELDS),
    )


OF_INTEGRATION, OF_INCIDENT = _newest("integration"), _newest("incident")
OF_INTEGRATION_RARE = _newest("integration", NOT_DELIVERED)

COUNT = """
SELECT (SELECT count(*) FROM outstanding
        WHERE {owner}_id = $1 AND project_id = $2 AND ($3::text IS NULL OR status = $3))
     + (SELECT count(*) FROM finished
        WHERE {owner}_id = $1 AND project_id = $2 AND ($3::text IS NULL OR status = $3){rare})
"""
COUNT_OF_INTEGRATION = COUNT.format(owner="integration", rare="")
COUNT_OF_INCIDENT = COUNT.format(owner="incident", rare="")
COUNT_OF_INTEGRATION_RARE = COUNT.format(owner="integration", rare=NOT_DELIVERED)

SKEW = timedelta(hours=1)
"""A key's time is its process's, `created_at` the database's: so far apart they may be."""
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)

SUPPRESS = """
WITH ended AS (
    DELETE FROM outstanding o
    USING (SELECT id FROM outstanding WHERE {which} AND (status = 'pending' OR $3) ORDER BY id FOR UPDATE) waiting
    WHERE o.id = waiting.id RETURNING o.*
)
INSERT INTO finished (id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
                      redelivery_of, status, reason, attempt, attempts, created_at, finished_at)
SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
       redelivery_of, 'suppressed', $2, attempt, attempts, created_at, now()
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
                      redelivery_of, status, reason, attempt, attempts, created_at, finished_at)
SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
       redelivery_of, 'suppressed', reason, attempt, attempts, created_at, now()
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
                      redelivery_of, status, reason, attempt, attempts, created_at, finished_at)
SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, notice,
       redelivery_of, 'suppressed',
       $2 || ' before its turn' || CASE WHEN held LIKE 'it%' THEN '' ELSE ': ' || held END,
       attempt, attempts, created_at, now()
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
    tx: Tx, recipients: Mapping[UUID, Collection[UUID]], people: Collection[UUID], others: Others = NO_OTHERS
) -> dict[Pair, OpeningState]:
    """Openings that are not delivered yet. `recipients`: integrations by incident; `people`: those that people read.

    A machine gets both, in order, at once: the opening is due now, unless its destination asked for a longer wait.
    People do not get an opening of a resolved incident: it is suppressed, and the resolve covers both. What waits for
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
    late = {row["id"] for row in rows if row["for_people"] and row["status"] == "pending"}
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


async def enqueue_test(tx: Tx, integration_id: UUID, public_url: str) -> Delivery:
    """A test notification through the real path. The integration must exist."""
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    return await _queued(tx, QueueEntry(to, "test", test_content(public_url, await tx.fetchval("SELECT now()"))))


async def redeliver(tx: Tx, old: Delivery, incident: Incident | None, to: Recipient, public_url: str) -> Delivery:
    """Send a finished delivery again, as a new delivery that names the old one and has the same content."""
    current = content(incident) if incident else test_content(public_url, await tx.fetchval("SELECT now()"))
    return await _queued(tx, QueueEntry(to, old.event, current, redelivery_of=old.id))


async def _queued(tx: Tx, entry: QueueEntry) -> Delivery:
    [new] = await queue.put(tx, [entry])
    return _delivery(await tx.fetchrow(ONE, new, entry.to.project_id))


async def one(tx: Tx, project_id: UUID, delivery_id: UUID) -> Delivery | None:
    """The project's delivery with that key, with its attempts."""
    row = await tx.fetchrow(ONE, delivery_id, project_id)
    return None if row is None else (await _with_turns(tx, [_delivery(row)]))[0]


async def opening_was_delivered(tx: Tx, incident_id: UUID, end: Delivery) -> bool:
    """Whether the recipient of `end` (the resolve) got the opening, by an earlier delivery."""
    return bool(await tx.fetchval(OPENING_DELIVERED, incident_id, end.integration_id, end.id))


async def of_integration(
    tx: Tx, project_id: UUID, integration_id: UUID, *, status: str | None, limit: int, offset: int
) -> tuple[list[Delivery], int]:
    """A page of an integration's deliveries, newest first, and how many there are."""
    count = COUNT_OF_INTEGRATION_RARE if _rare(status) else COUNT_OF_INTEGRATION
    return (
        await latest(tx, project_id, integration_id, status=status, limit=limit, offset=offset),
        await tx.fetchval(count, integration_id, project_id, status),
    )


async def latest(
    tx: Tx, project_id: UUID, integration_id: UUID, *, status: str | None = None, start: datetime | None = None,
    end: datetime | None = None, limit: int, offset: int = 0,
) -> list[Delivery]:
    """As `of_integration`, without counting what may be a million; only those created from `start` to before `end`."""
    rows = await tx.fetch(
        OF_INTEGRATION_RARE if _rare(status) else OF_INTEGRATION, integration_id, project_id, status, limit, offset,
        first_key(start - SKEW) if start else FIRST, first_key(end + SKEW) if end else LAST, start, end,
    )  # fmt: skip
    return await _with_turns(tx, map(_delivery, rows))


def _rare(status: str | None) -> bool:
    return status is not None and status != "delivered"


async def of_incident(
    tx: Tx, project_id: UUID, incident_id: UUID, *, status: str | None, limit: int, offset: int
) -> tuple[list[Delivery], int]:
    """A page of an incident's deliveries, newest first, and how many there are."""
    rows = await tx.fetch(OF_INCIDENT, incident_id, project_id, status, limit, offset, FIRST, LAST, None, None)
    count = await tx.fetchval(COUNT_OF_INCIDENT, incident_id, project_id, status)
    return await _with_turns(tx, map(_delivery, rows)), count


async def _with_turns(tx: Tx, found: Iterable[Delivery]) -> list[Delivery]:
    """What nobody has decided about yet says when its turn is, as it will once somebody has."""
    shown = list(found)
    undecided = [each.id for each in shown if each.reason == TO_BE_DECIDED and each.event == "opened"]
    if not undecided:
        return shown
    turns = {key(row["id"]): row["at"] for row in await tx.fetch(COMING_TURNS, undecided)}
    return [
        replace(each, reason=notifying.its_turn(turns[each.id]), due_at=turns[each.id]) if each.id in turns else each
        for each in shown
    ]


def _delivery(row: Record) -> Delivery:
    values: dict[str, Any] = {name: key(row[name]) if row[name] and name in KEYS else row[name] for name in FIELDS}
    return Delivery(**values)
