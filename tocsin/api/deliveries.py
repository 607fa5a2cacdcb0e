"""Deliveries: what was sent to whom, when, with what result; and redelivery."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import Parameter

from tocsin.actions import deliveries as actions
from tocsin.actions.base import Actor
from tocsin.api.schemas import Listed, Page, millis
from tocsin.api.service import Service
from tocsin.domain import deliveries as rules
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import deliveries, incidents, waits
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.delivery.leases import Attempt
from tocsin.storage.delivery.waits import Wait
from tocsin.storage.postgres.database import transaction

Only = Annotated[rules.Status | None, Parameter(description="Only those with this status.")]


Event = Annotated[
    rules.Event,
    msgspec.Meta(
        description="What it is for. `opened`: an incident opened. `reminder`: it is still ongoing. `acknowledged`: "
        "somebody has it. `resolved`: it was resolved. `test`: somebody asked for a test. `notice`: what Tocsin itself "
        "tells a project's people, such as that an integration was disabled, or that a machine did not come "
        "back from a restart; it has no incident, and machines do not get it."
    ),
]


class DeliveryShown(msgspec.Struct):
    """One notification to one integration.

    `request_id` is of the request that opened or resolved its incident, or asked for it: it was in the answer's
    `X-Request-Id`. `reason` is why it ended as it did, or what a pending one waits for. `on_behalf_of` is the on-call
    integration that passed it on to whoever was on duty.
    """

    uuid: str
    event: Event
    status: rules.Status
    reason: str | None
    incident_uuid: str | None
    integration_uuid: str
    integration_type: str
    on_behalf_of: str | None
    redelivery_of: str | None
    created_at: str
    due_at: str | None
    finished_at: str | None
    latency_ms: float | None
    attempts_count: int
    request_id: str | None


class Redelivery(msgspec.Struct):
    """`confirm` is required if sending means restarting a server."""

    confirm: bool = False


class AttemptShown(msgspec.Struct):
    """One attempt. `lost`: its engine died; `sending`: in progress."""

    number: int
    started_at: str
    duration_ms: float | None
    outcome: Literal["delivered", "failed", "suppressed", "interrupted", "lost", "sending"]
    status_code: int | None
    response: str | None
    error: str | None


class DeliveryWithAttempts(DeliveryShown):
    """A delivery with all its attempts, newest last.

    `late`: what it waited for, if its first attempt began later after it was due than the installation's objective
    allows, as far as that is known. To be held for its turn is not late.
    """

    attempts: list[AttemptShown]
    late: str | None = None


def shown(delivery: Delivery) -> DeliveryShown:
    """A delivery as lists show it."""
    latency = None
    if delivery.status == "delivered" and delivery.finished_at is not None:
        latency = round((delivery.finished_at - delivery.created_at).total_seconds() * 1000, 3)
    return DeliveryShown(
        uuid=ids.public(ids.DELIVERY, delivery.id),
        event=delivery.event,
        status=delivery.status,
        reason=delivery.reason,
        incident_uuid=_public(ids.INCIDENT, delivery.incident_id),
        integration_uuid=ids.public(ids.INTEGRATION, delivery.integration_id),
        integration_type=delivery.integration_type,
        on_behalf_of=_public(ids.INTEGRATION, delivery.on_behalf_of),
        redelivery_of=_public(ids.DELIVERY, delivery.redelivery_of),
        created_at=millis(delivery.created_at),
        due_at=millis(delivery.due_at),
        finished_at=millis(delivery.finished_at),
        latency_ms=latency,
        attempts_count=delivery.attempt,
        request_id=delivery.request_id,
    )


def shown_with_attempts(delivery: Delivery, wait: Wait | None = None) -> DeliveryWithAttempts:
    """A delivery with its attempts, the one in progress included."""
    attempts = [
        AttemptShown(
            number, millis(each.started_at), each.duration_ms, each.outcome, each.status_code, each.response, each.error
        )
        for number, each in enumerate(msgspec.convert(delivery.attempts, list[Attempt]), 1)
    ]
    if delivery.status == "sending" and delivery.started_at is not None:
        started_at = millis(delivery.started_at)
        attempts.append(AttemptShown(len(attempts) + 1, started_at, None, "sending", None, None, None))
    late = None if wait is None else wait.words
    return DeliveryWithAttempts(**msgspec.structs.asdict(shown(delivery)), attempts=attempts, late=late)


@get("/api/v1/integrations/{uuid:str}/deliveries")
async def of_integration(
    uuid: str, caller: Actor, service: Service, asked: Page, status: Only = None
) -> Listed[DeliveryShown]:
    """List an integration's deliveries

    Newest first.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        if await integrations.one(tx, service.vault, caller.project_id, key) is None:
            raise not_found("integration")
        found, total = await deliveries.of_integration(
            tx, caller.project_id, key, status=status, limit=asked.per_page, offset=asked.offset
        )
    return Listed([*map(shown, found)], asked.meta(total))


@get("/api/v1/incidents/{uuid:str}/deliveries")
async def of_incident(
    uuid: str, caller: Actor, service: Service, asked: Page, status: Only = None
) -> Listed[DeliveryShown]:
    """List an incident's deliveries

    Newest first.
    """
    key = ids.key_of(ids.INCIDENT, uuid)
    async with transaction(service.pool) as tx:
        if await incidents.one(tx, caller.project_id, key) is None:
            raise not_found("incident")
        found, total = await deliveries.of_incident(
            tx, caller.project_id, key, status=status, limit=asked.per_page, offset=asked.offset
        )
    return Listed([*map(shown, found)], asked.meta(total))


@get("/api/v1/deliveries/{uuid:str}")
async def read(uuid: str, caller: Actor, service: Service) -> DeliveryWithAttempts:
    """Read one delivery with every attempt"""
    async with service.pool.acquire() as tx:
        delivery = await deliveries.one(tx, caller.project_id, ids.key_of(ids.DELIVERY, uuid))
        if delivery is None:
            raise not_found("delivery")
        slo = service.settings.slo
        wait = await waits.late(tx, delivery, slo.within) if slo else None
    return shown_with_attempts(delivery, wait)


@post("/api/v1/deliveries/{uuid:str}/redeliver", status_code=202)
async def redeliver(
    uuid: str, caller: Actor, service: Service, data: Redelivery | None = None
) -> DeliveryShown:
    """Send a finished delivery again

    As a new delivery that names the old one and has an identifier of its own. This orders a server restart again:
    it needs `{"confirm": true}` and an ongoing incident.
    """
    key = ids.key_of(ids.DELIVERY, uuid)
    confirmed = data is not None and data.confirm
    async with transaction(service.pool) as tx:
        made = await actions.redeliver(tx, caller, key, service.public_url, confirmed=confirmed)
    return shown(made)


def _public(prefix: str, key: UUID | None) -> str | None:
    return None if key is None else ids.public(prefix, key)


routes = [of_integration, of_incident, read, redeliver]
