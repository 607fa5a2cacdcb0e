"""Incidents: opened and resolved by programs, by the thousand if need be; resolved and snoozed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tocsin.actions.base import Actor, Change, action, unrecorded
from tocsin.actions.batches import OpenBatch, ResolveBatch
from tocsin.domain import ids
from tocsin.domain.errors import forbidden_state, not_found
from tocsin.domain.incidents import Incident, Opened, OpenRequest, ResolveRequest, ResourceNotFound
from tocsin.integrations import base
from tocsin.storage import audit
from tocsin.storage.accounts import accounts
from tocsin.storage.channels import integrations, posted
from tocsin.storage.delivery import acknowledgements, queue
from tocsin.storage.delivery import incidents as stored
from tocsin.storage.delivery.queue import QueueEntry
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

BY_API = "API"
"""Who opens, resolves or acknowledges with the project's own token."""


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
    closing = ResolveRequest(
        incident.project_id, incident.resource_id, incident.type, by, incident.id, incident.dedup_key
    )
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


@action("acknowledged incident")
async def acknowledge(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, *, by: str | None = None, seconds: int | None = None
) -> tuple[Incident, Change]:
    """Somebody has it, for that many seconds or until it is resolved: nobody further is told, and nobody is reminded.

    `by` is who has it, if not the actor. One that somebody has already goes over to them. Raises `Refused` (404; 422 if
    it is resolved).
    """
    by = by or await _name(tx, actor)
    now = datetime.now(UTC)
    until = None if seconds is None else now + timedelta(seconds=seconds)
    found = await acknowledgements.acknowledge(tx, actor.project_id, key, by, until)
    if found is None:
        await _existing(tx, actor, key)
        raise forbidden_state("The incident is resolved already; only an ongoing one can be acknowledged")
    incident, told = found
    listening = [
        each.id
        for each in await integrations.these(tx, vault, actor.project_id, told)
        if base.of(each.type).hears_acknowledgements(each.settings)
    ]
    known = await queue.recipients(tx, listening)
    await queue.put(tx, [QueueEntry(to, "acknowledged", queue.content(incident)) for to in known.values()])
    details = {} if until is None else {"until": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return incident, _change(incident, by=by, **details)


@action("took back acknowledgement")
async def unacknowledge(tx: Tx, actor: Actor, key: UUID) -> tuple[Incident, Change | None]:
    """Nobody has it any more: what was called off is due again. Raises `Refused` (404; 422 if it is resolved)."""
    incident = await acknowledgements.take_back(tx, actor.project_id, key, await _name(tx, actor))
    if incident is not None:
        await posted.correct_everywhere(tx, incident)
        return incident, _change(incident)
    incident = await _existing(tx, actor, key)
    if incident.closed_at is not None:
        raise forbidden_state("The incident is resolved already; there is nothing to take back")
    return incident, None


async def _name(tx: Tx, actor: Actor) -> str:
    """What people call the actor."""
    if actor.user_id is None:
        return actor.name if isinstance(actor.name, str) and actor.name != audit.API_TOKEN else BY_API
    user = await accounts.user_by_id(tx, actor.user_id)
    return (user.name or user.email) if user else BY_API


async def _existing(tx: Tx, actor: Actor, key: UUID) -> Incident:
    found = await stored.one(tx, actor.project_id, key)
    if found is None:
        raise not_found("incident")
    return found


def _change(incident: Incident, **details: str) -> Change:
    subject = f"{incident.type} of {incident.resource_name}"
    return Change(subject, {"uuid": ids.public(ids.INCIDENT, incident.id), **details})
