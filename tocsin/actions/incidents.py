"""Incidents: opened and resolved by programs, by the thousand if need be; resolved and snoozed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from tocsin.actions.base import Actor, Change, action, unrecorded
from tocsin.actions.batches import OpenBatch, ResolveBatch
from tocsin.domain import ids
from tocsin.domain.errors import forbidden_state, not_found
from tocsin.domain.incidents import Incident, Opened, OpenRequest, ResolveRequest, ResourceNotFound
from tocsin.storage.delivery import incidents as stored
from tocsin.storage.postgres.database import Tx


@unrecorded("the incident is its record")
async def open(
    batch: OpenBatch, actor: Actor, openings: Sequence[OpenRequest]
) -> list[Opened | ResourceNotFound | None]:
    """All or none; one result each, in order. Requests are for the actor's own project."""
    return await batch(openings)


@unrecorded("the incident is its record")
async def resolve_ongoing(
    batch: ResolveBatch, actor: Actor, closings: Sequence[ResolveRequest]
) -> list[list[Incident]]:
    """What each resolved; an empty list if nothing was ongoing."""
    return await batch(closings)


@action("resolved incident")
async def resolve(tx: Tx, actor: Actor, key: UUID, *, by: str) -> tuple[Incident, Change | None]:
    """Its new state; one that was resolved before stays as it is. `by` is who is recorded as resolving it."""
    incident = await _existing(tx, actor, key)
    if incident.closed_at is not None:
        return incident, None
    closing = ResolveRequest(incident.project_id, incident.resource_id, incident.type, by, incident.id)
    [ended] = await stored.resolve(tx, [closing])
    now = await _existing(tx, actor, key)
    return now, _change(now) if ended else None  # somebody else may have resolved it first


@action("snoozed incident")
async def snooze(tx: Tx, actor: Actor, key: UUID, until: datetime) -> tuple[Incident, Change]:
    """Send nothing until then, and then a reminder if it is ongoing. Raises `Refused` (404; 422 if it is resolved)."""
    snoozed = await stored.snooze(tx, actor.project_id, key, until)
    if snoozed is None:
        await _existing(tx, actor, key)
        raise forbidden_state("The incident is resolved already; only an ongoing one can be snoozed")
    return snoozed, _change(snoozed, until=until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


async def _existing(tx: Tx, actor: Actor, key: UUID) -> Incident:
    found = await stored.one(tx, actor.project_id, key)
    if found is None:
        raise not_found("incident")
    return found


def _change(incident: Incident, **details: str) -> Change:
    subject = f"{incident.type} of {incident.resource_name}"
    return Change(subject, {"uuid": ids.public(ids.INCIDENT, incident.id), **details})
