"""Deliveries of integrations and incidents: listing, suppressing, redelivering."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain import notifying, requests
from tocsin.domain.deliveries import Event, Status
from tocsin.domain.incidents import Incident
from tocsin.storage.delivery import queue
from tocsin.storage.delivery.queue import (
    LASTING,
    TO_BE_DECIDED,
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
    """One notification to one integration, and all its attempts (oldest first, as `leases.Attempt` stores them).

    `released_at` is when its turn came, if it was held for it.
    """

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
    released_at: datetime | None
    origin: str | None

    @property
    def request_id(self) -> str | None:
        """Of the request that opened or resolved its incident, or asked for itself; None if none did."""
        return requests.id_of(self.origin)


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

ORIGINS = "SELECT id, origin, resolve_origin FROM incidents WHERE id = ANY($1::uuid[])"

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


async def enqueue_test(tx: Tx, integration_id: UUID, public_url: str) -> Delivery:
    """A test notification through the real path. The integration must exist."""
    to = (await queue.recipients(tx, [integration_id]))[integration_id]
    content = test_content(public_url, await tx.fetchval("SELECT now()"))
    return await _queued(tx, QueueEntry(to, "test", content, origin=requests.current()))


async def redeliver(tx: Tx, old: Delivery, incident: Incident | None, to: Recipient, public_url: str) -> Delivery:
    """Send a finished delivery again, as a new delivery that names the old one and has the same content."""
    current = content(incident) if incident else test_content(public_url, await tx.fetchval("SELECT now()"))
    return await _queued(tx, QueueEntry(to, old.event, current, redelivery_of=old.id, origin=requests.current()))


async def _queued(tx: Tx, entry: QueueEntry) -> Delivery:
    [new] = await queue.put(tx, [entry])
    return _delivery(await tx.fetchrow(ONE, new, entry.to.project_id))


async def one(tx: Tx, project_id: UUID, delivery_id: UUID) -> Delivery | None:
    """The project's delivery with that key, with its attempts."""
    row = await tx.fetchrow(ONE, delivery_id, project_id)
    return None if row is None else (await _completed(tx, [_delivery(row)]))[0]


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
    return await _completed(tx, map(_delivery, rows))


def _rare(status: str | None) -> bool:
    return status is not None and status != "delivered"


async def of_incident(
    tx: Tx, project_id: UUID, incident_id: UUID, *, status: str | None, limit: int, offset: int
) -> tuple[list[Delivery], int]:
    """A page of an incident's deliveries, newest first, and how many there are."""
    rows = await tx.fetch(OF_INCIDENT, incident_id, project_id, status, limit, offset, FIRST, LAST, None, None)
    count = await tx.fetchval(COUNT_OF_INCIDENT, incident_id, project_id, status)
    return await _completed(tx, map(_delivery, rows)), count


async def _completed(tx: Tx, found: Iterable[Delivery]) -> list[Delivery]:
    """With what their incidents say of them."""
    return await _with_turns(tx, await _with_origins(tx, list(found)))


async def _with_origins(tx: Tx, found: list[Delivery]) -> list[Delivery]:
    wanted = {each.incident_id for each in found if each.origin is None and each.incident_id is not None}
    rows = await tx.fetch(ORIGINS, list(wanted)) if wanted else []
    known = {key(row["id"]): row for row in rows}
    return [
        replace(each, origin=known[each.incident_id]["resolve_origin" if each.event == "resolved" else "origin"])
        if each.origin is None and each.incident_id in known else each
        for each in found
    ]  # fmt: skip


async def _with_turns(tx: Tx, shown: list[Delivery]) -> list[Delivery]:
    """What nobody has decided about yet says when its turn is, as it will once somebody has."""
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
