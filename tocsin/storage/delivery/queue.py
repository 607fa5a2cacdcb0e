"""Putting deliveries into the queue, in the caller's transaction: they exist if, and only if, what they are about does.

A delivery that may be sent at once is handed off to a running engine: it is inserted as leased to that engine, and
its content travels in the NOTIFY that PostgreSQL sends at commit. Whatever cannot be handed off (no engine
runs, the destination is failing, a type that may not repeat, too much text) is inserted as pending and claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from tocsin.domain import ids
from tocsin.domain.deliveries import ONGOING_EVENTS, Event
from tocsin.domain.incidents import Incident, Notification
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.postgres.database import Tx, columns, key

if TYPE_CHECKING:
    from asyncpg import Record

LASTING = "('" + "', '".join(sorted(ONGOING_EVENTS)) + "')"
"""SQL: the events of an ongoing incident."""

LEASE = 30
"""Seconds for which an engine may lease a delivery before it goes to another."""

WAKE_CHANNEL = "tocsin_deliveries"
TO_BE_DECIDED = "it is being decided"
"""What a delivery waits for until the next engine looks at it."""
TURNS_CHANNEL = "tocsin_turns"
"""Where engines hear that a delivery that waits for its turn is to be decided now."""
NOTIFY_LIMIT = 7_900
"""Bytes that one NOTIFY may carry (PostgreSQL: less than 8,000)."""
HAND_OFF_CHANNEL = "tocsin_engine_"
"""Followed by an engine's number: the channel on which that engine receives hand-offs."""


class Recipient(msgspec.Struct, frozen=True, gc=False):
    """An integration, as far as the queue is concerned."""

    id: UUID
    project_id: UUID
    type: str
    version: int
    for_people: bool
    repeatable: bool
    failing: bool
    disabled: str | None


DISABLED = """CASE WHEN i.disabled_at IS NOT NULL THEN
        'since ' || to_char(i.disabled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        || ': ' || coalesce(i.disabled_reason, 'manually') END"""
"""SQL: since when nothing is sent to the integration `i`, and why; NULL where it is."""

RECIPIENT = f"""i.id, i.project_id, i.type, i.version, i.for_people, i.repeatable,
    i.failing_since IS NOT NULL AS failing,
    {DISABLED} AS disabled"""

RECIPIENTS = f"SELECT {RECIPIENT} FROM integrations i WHERE id = ANY($1::uuid[])"


def recipient(row: Record) -> Recipient:
    return Recipient(
        key(row["id"]), key(row["project_id"]), row["type"], row["version"], row["for_people"], row["repeatable"],
        row["failing"], row["disabled"],
    )  # fmt: skip


async def recipients(tx: Tx, integrations: Iterable[UUID]) -> dict[UUID, Recipient]:
    """Those integrations that exist, by key."""
    return {key(row["id"]): recipient(row) for row in await tx.fetch(RECIPIENTS, list(integrations))}


class Content(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a delivery says, from its incident's current state. Field by field `domain.incidents.Notification`.

    `note` is what this one says beside the incident's message. The origins are the incident's.
    """

    incident_id: UUID | None
    resource_type: str
    resource_name: str
    resource_url: str
    incident_type: str
    message: str
    started_at: datetime
    closed_at: datetime | None
    severity: str = "critical"
    note: str | None = None
    acknowledged_by: str | None = None
    origin: str | None = None
    resolve_origin: str | None = None


def content(incident: Incident) -> Content:
    """The content for an incident in its current state."""
    return Content(
        incident.id, incident.resource_type, incident.resource_name, incident.resource_url, incident.type,
        incident.message, incident.created_at, incident.closed_at, incident.severity, None, incident.acknowledged_by,
        incident.origin, incident.resolve_origin,
    )  # fmt: skip


def test_content(public_url: str, now: datetime) -> Content:
    """The content of a test: clearly marked as one, in the shape of a real notification."""
    return Content(
        None, NETWORK_MONITOR.type, "Test notification", f"{public_url}/integrations", "test",
        "This is a test notification from Tocsin. Nothing is wrong.", now, None,
    )  # fmt: skip


class Job(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt that an engine holds the lease for: number `attempt` of delivery `id`."""

    id: UUID
    project_id: UUID
    integration_id: UUID
    version: int
    repeatable: bool
    event: Event
    attempt: int
    failures: int
    first_notice_failed: bool
    created_at: datetime
    content: Content
    own_origin: str | None = None

    @property
    def origin(self) -> str | None:
        """Where what it tells comes from (`domain.requests`)."""
        return self.own_origin or (self.content.resolve_origin if self.event == "resolved" else self.content.origin)

    @property
    def notification(self) -> Notification:
        return notification(self.id, self.event, self.content, self.first_notice_failed)


def notification(delivery_id: UUID, event: Event, content: Content, first_notice_failed: bool) -> Notification:
    """The notification that a delivery sends to its integration."""
    return Notification(
        delivery_id=ids.public(ids.DELIVERY, delivery_id),
        event=event,
        incident_id=ids.public(ids.INCIDENT, content.incident_id) if content.incident_id else None,
        resource_type=content.resource_type,
        resource_name=content.resource_name,
        resource_url=content.resource_url,
        incident_type=content.incident_type,
        message=content.message if content.note is None else f"{content.message} ({content.note})",
        started_at=content.started_at,
        closed_at=content.closed_at if event == "resolved" else None,
        first_notice_failed=first_notice_failed,
        severity=content.severity,
        acknowledged_by=content.acknowledged_by if event == "acknowledged" else None,
    )


class QueueEntry(msgspec.Struct, frozen=True, gc=False):
    """A delivery to be queued. `blocked_by` names the delivery that must finish first; `origin` is where it comes from
    itself, if not from its incident.
    """

    to: Recipient
    event: Event
    content: Content
    blocked_by: UUID | None = None
    first_notice_failed: bool = False
    redelivery_of: UUID | None = None
    suppressed: str | None = None
    origin: str | None = None


# A later time than now is of a former primary's clock, and no sign of life: one that lives rewrites it each second.
ENGINE = """
SELECT number FROM engines
WHERE accepting AND seen_at BETWEEN now() - interval '3 s' AND clock_timestamp() + interval '3 s'
ORDER BY random() LIMIT 1
"""
"""SQL: a running engine that accepts hand-offs."""

PUT = f"""
WITH engine AS (
    {ENGINE}
), given AS (
    SELECT g.*, g.ready AND EXISTS (SELECT FROM engine) AS handed
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bool[], $6::bool[], $7::uuid[], $8::text[],
                $9::text[], $10::uuid[], $11::bool[], $12::uuid[], $13::bool[], $14::text[], $15::text[])
        AS g(id, project_id, integration_id, integration_type, for_people, repeatable, incident_id, event,
             notice, redelivery_of, first_notice_failed, blocked_by, ready, suppressed, origin)
), queued AS (
    INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable, incident_id,
                             event, notice, redelivery_of, first_notice_failed, blocked_by, origin, status, due_at,
                             attempt, started_at, engine, leased_until, created_at)
    SELECT id, project_id, integration_id, integration_type, for_people, repeatable, incident_id,
           event, notice, redelivery_of, first_notice_failed, blocked_by, origin,
           CASE WHEN handed THEN 'sending' ELSE 'pending' END, now(), handed::int,
           CASE WHEN handed THEN now() END, CASE WHEN handed THEN (SELECT number FROM engine) END,
           CASE WHEN handed THEN now() + interval '{LEASE} s' END, now()
    FROM given WHERE suppressed IS NULL
), ended AS (
    INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, notice, redelivery_of,
                          origin, status, reason, attempt, attempts, created_at, finished_at)
    SELECT id, project_id, integration_id, integration_type, incident_id, event, notice, redelivery_of, origin,
           'suppressed', suppressed, 0, '[]', now(), now()
    FROM given WHERE suppressed IS NOT NULL
)
SELECT pg_notify('{HAND_OFF_CHANNEL}' || number, payload) FROM engine, unnest($16::text[]) AS jobs(payload)
UNION ALL
SELECT pg_notify('{WAKE_CHANNEL}', '') WHERE $17
"""


# Deliveries are locked in the order of their keys, as everywhere: so no two transactions wait for each other.
# A reminder keeps its time, and the end of what was in a summary its summary; what waits for one is decided anew.
ANEW = f"""q.event <> 'resolved'
           AND NOT (q.event = 'reminder' AND q.due_at > now()
                    AND (q.held LIKE 'its turn is at %' OR q.held = '{TO_BE_DECIDED}'))"""
DECIDE_ANEW = f"""
UPDATE outstanding o SET due_at = now(), summary = false
FROM (
    SELECT q.id, {ANEW} AS anew FROM outstanding q WHERE q.held IS NOT NULL AND {{which}} ORDER BY q.id FOR UPDATE
) waiting
WHERE o.id = waiting.id AND waiting.anew
"""
RECONSIDER = DECIDE_ANEW.format(which="q.project_id = $1")

RECONSIDER_RESOURCES = DECIDE_ANEW.format(
    which="q.incident_id = ANY (ARRAY(SELECT incident_id FROM ongoing WHERE resource_id = ANY($1::uuid[])))"
)


async def reconsider(tx: Tx, project_id: UUID) -> None:
    """Have what waits for its turn in this project decided anew, because what it waits for may have changed."""
    await tx.execute(RECONSIDER, project_id)
    await tx.execute("SELECT pg_notify($1, '')", TURNS_CHANNEL)


async def reconsider_resources(tx: Tx, resources: Collection[UUID]) -> None:
    """As `reconsider`, for what is ongoing at these resources."""
    if resources:
        await tx.execute(RECONSIDER_RESOURCES, list(resources))
        await tx.execute("SELECT pg_notify($1, '')", TURNS_CHANNEL)


PASS_ON = """integration_id = i.id, integration_type = i.type, for_people = i.for_people, repeatable = i.repeatable,
    on_behalf_of = CASE WHEN i.id <> coalesce(o.on_behalf_of, o.integration_id)
                        THEN coalesce(o.on_behalf_of, o.integration_id) END"""
"""SQL: of a delivery `o`, make the integration `i` its own, on behalf of the one that is attached."""


class HeldEntry(msgspec.Struct, frozen=True, gc=False):
    """A delivery that waits for its turn: it is decided at `due_at` (None: now) whether and when it is sent.

    `held` says what it waits for, `note` what it says beside the incident's message. One with `summary` waits for the
    integration's next summary.
    """

    integration_id: UUID
    incident_id: UUID
    event: Event
    held: str
    due_at: datetime | None = None
    summary: bool = False
    note: str | None = None


HOLD = """
INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable, incident_id, event,
                         notice, status, held, due_at, summary, created_at)
SELECT new_id(), i.project_id, i.id, i.type, i.for_people, i.repeatable, g.incident_id, g.event, g.note, 'pending',
       g.held, coalesce(g.due_at, now()), g.summary, now()
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::bool[], $7::text[])
    AS g(integration_id, incident_id, event, held, due_at, summary, note)
CROSS JOIN LATERAL (SELECT * FROM integrations WHERE id = g.integration_id LIMIT 1) i
"""


async def hold(tx: Tx, entries: Sequence[HeldEntry]) -> None:
    """Queue deliveries that wait for their turn. Those of integrations that no longer exist are left out."""
    if entries:
        await tx.execute(HOLD, *columns([*map(msgspec.structs.astuple, entries)]))
        await tx.execute("SELECT pg_notify($1, '')", TURNS_CHANNEL)


async def put(tx: Tx, entries: Sequence[QueueEntry]) -> list[UUID]:
    """Queue deliveries, and notify the engines at commit. Returns their keys, in order.

    A disabled integration gets only tests, which can enable it again: the rest is recorded as suppressed. Without a
    running engine there is nobody to wake: the next one polls the queue itself.
    """
    if not entries:
        return []
    rows, jobs, wake = [], [], False
    for entry in entries:
        to, new = entry.to, ids.new()
        suppressed = entry.suppressed
        if to.disabled is not None and entry.event != "test":
            suppressed = suppressed or f"integration disabled {to.disabled}"
        job = b""
        if suppressed is None and entry.blocked_by is None:
            if to.repeatable and not to.failing:
                job = _encoded(new, entry)
            if job:
                jobs.append(job)
            else:
                wake = True
        rows.append((
            new, to.project_id, to.id, to.type, to.for_people, to.repeatable, entry.content.incident_id, entry.event,
            entry.content.message if entry.event == "notice" else None, entry.redelivery_of,
            entry.first_notice_failed, entry.blocked_by, bool(job), suppressed, entry.origin,
        ))  # fmt: skip
    await tx.execute(PUT, *columns(rows), _payloads(jobs), wake)
    return [row[0] for row in rows]


def _encoded(new: UUID, entry: QueueEntry) -> bytes:
    """The job as it is sent, or nothing if it is too large."""
    to, content = entry.to, entry.content
    job = Job(
        new, to.project_id, to.id, to.version, to.repeatable, entry.event, 1, 0, entry.first_notice_failed,
        content.closed_at or content.started_at, content, entry.origin,
    )  # fmt: skip
    encoded = msgspec.json.encode(job)
    return encoded if len(encoded) < NOTIFY_LIMIT - 2 else b""


def _payloads(jobs: Sequence[bytes]) -> list[str]:
    """As many jobs in each JSON array as one NOTIFY can carry."""
    payloads: list[bytearray] = []
    for job in jobs:
        if payloads and len(payloads[-1]) + len(job) + 2 <= NOTIFY_LIMIT:
            payloads[-1] += b"," + job
        else:
            payloads.append(bytearray(b"[" + job))
    return [(payload + b"]").decode() for payload in payloads]
