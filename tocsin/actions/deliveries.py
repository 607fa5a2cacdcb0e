"""Deliveries: redelivered on request."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import SYSTEM, Actor, Change, action, unrecorded
from tocsin.domain import ids
from tocsin.domain.deliveries import ONGOING_EVENTS
from tocsin.domain.errors import forbidden_state, invalid_field, not_found
from tocsin.domain.incidents import Incident
from tocsin.storage.channels import phones
from tocsin.storage.delivery import deliveries as stored
from tocsin.storage.delivery import incidents, queue
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.postgres.database import Tx


@unrecorded("it is on the delivery's own record", by=SYSTEM)
async def report(tx: Tx, actor: Actor, message_id: str, key: UUID, status_text: str | None, error: str | None) -> None:
    """A provider's signed report on a message that it accepted."""
    await phones.record_report(tx, message_id, key, status_text, error)


@action("ordered a redelivery")
async def redeliver(
    tx: Tx, actor: Actor, key: UUID, public_url: str, *, confirmed: bool
) -> tuple[Delivery, Change]:
    """A new delivery with the old one's content.

    Raises `Refused`: 404, or 422 if it has not finished, cannot be sent again, or is a restart that was not `confirmed`
    or has no ongoing incident.
    """
    old = await stored.one(tx, actor.project_id, key)
    if old is None:
        raise not_found("delivery")
    if old.status in ("pending", "sending"):
        raise forbidden_state("This delivery has not finished yet; wait until it is delivered or dead")
    if old.event == "notice":
        raise forbidden_state("A notice of the service itself cannot be sent again")
    incident = await incidents.one(tx, actor.project_id, old.incident_id) if old.incident_id else None
    if old.incident_id and incident is None:
        raise forbidden_state("The incident of this delivery is no longer on record")
    to = (await queue.recipients(tx, [old.integration_id])).get(old.integration_id)
    if to is None:
        raise forbidden_state("The integration of this delivery was deleted")
    if not to.repeatable and old.event in ONGOING_EVENTS:
        _check(incident, confirmed=confirmed)
    made = await stored.redeliver(tx, old, incident, to, public_url)
    details = {
        "delivery": ids.public(ids.DELIVERY, made.id),
        "incident": made.incident_id and ids.public(ids.INCIDENT, made.incident_id),
        "integration": ids.public(ids.INTEGRATION, made.integration_id),
    }
    return made, Change(old.integration_type, details)


def _check(incident: Incident | None, *, confirmed: bool) -> None:
    """Refuse what must not be repeated automatically, unless a person confirms it while the incident is ongoing."""
    if incident is None or incident.closed_at is not None:
        raise forbidden_state("The incident of this delivery has been resolved: there is nothing to restart for")
    if not confirmed:
        raise invalid_field("confirm", 'must be true: this restarts the server. Send {"confirm": true}')
