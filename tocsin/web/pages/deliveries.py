"""Deliveries: the log of an integration, and one delivery with all its attempts."""

from __future__ import annotations

from typing import Annotated, get_args

import msgspec
from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import deliveries as actions
from tocsin.domain import ids
from tocsin.domain.deliveries import ONGOING_EVENTS, Status
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.incidents import Incident
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.delivery import deliveries, incidents, queue, replays, waits
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.delivery.leases import Attempt
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import messages, moments
from tocsin.web.incident_timeline import latency
from tocsin.web.pages.replays import FEW, address, ended, offer, selected
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

ROWS = 50
LAST_PAGE = 2_000


@get("/integrations/{uuid:str}/deliveries", include_in_schema=False)
async def log(
    uuid: str, viewer: Viewer, service: Service, status: str = "",
    start: Annotated[str, QueryParameter(name="from")] = "", to: str = "",
    number: Annotated[int, QueryParameter(name="page")] = 1,
) -> Response[str]:
    """Newest first, by status and time; pending ones show their next attempt. What is shown can be sent again."""
    number, only = min(max(number, 1), LAST_PAGE), status if status in get_args(Status) else None
    since, until = moments.given(start, viewer.zone), moments.given(to, viewer.zone)
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx:
        integration = await integrations.one(tx, service.vault, viewer.project_id, key)
        if integration is None:
            raise not_found("integration")
        found = await deliveries.latest(
            tx, viewer.project_id, integration.id, status=only, start=since, end=until, limit=ROWS + 1,
            offset=(number - 1) * ROWS,
        )  # fmt: skip
        told_of = await incidents.these(tx, viewer.project_id, filter(None, [each.incident_id for each in found]))
        running = await replays.running(tx, viewer.project_id, integration.id)
        count = 0 if running else await offer(tx, viewer, integration, selected(status, since, until))
    since_text, until_text = moments.value(since, viewer.zone), moments.value(until, viewer.zone)
    here = address(uuid, only or "", since_text, until_text)
    name = base.display_name(integration)
    return page(
        "deliveries.html", viewer, title="Deliveries", name=name, uuid=uuid, found=found[:ROWS], latency=latency,
        incidents=told_of,
        number=number, more=len(found) > ROWS, only=only or "", statuses=get_args(Status), start=since_text,
        to=until_text, pages_at=here + ("&" if "?" in here else "?") + "page=", running=running,
        ended=ended(running) if running else 0, count=count, few=FEW,
        again=address(uuid, only or "", since_text, until_text, "replay"),
    )  # fmt: skip


@get("/deliveries/{uuid:str}", include_in_schema=False)
async def one(uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    """For each attempt: when, how long, and the response or error."""
    key = ids.key_of(ids.DELIVERY, uuid)
    async with service.pool.acquire() as tx:
        delivery = await deliveries.one(tx, viewer.project_id, key)
        if delivery is None:
            raise not_found("delivery")
        integration = await integrations.one(tx, service.vault, viewer.project_id, delivery.integration_id)
        told_of = delivery.incident_id
        incident = await incidents.one(tx, viewer.project_id, told_of) if told_of else None
        sent = await _sent(tx, service, delivery, incident, integration)
        slo = service.settings.slo
        wait = await waits.late(tx, delivery, slo.within) if slo else None
    name = base.display_name(integration) if integration else ""
    return page(
        "delivery.html", viewer, title="Delivery", delivery=delivery, uuid=uuid, name=name, latency=latency(delivery),
        incident=incident,
        can_redeliver=_can_redeliver(viewer, delivery, integration),
        restarts=delivery.event in ONGOING_EVENTS and not base.of(delivery.integration_type).repeatable,
        attempts=msgspec.convert(delivery.attempts, list[Attempt]), sent=sent,
        wait=wait,
    )


async def _sent(
    tx: Tx, service: Service, delivery: Delivery, incident: Incident | None, integration: Integration | None
) -> str:
    """Its content, sent or not; empty if it was suppressed or its incident is gone."""
    if delivery.status == "suppressed" or (incident is None and delivery.event != "test"):
        return ""
    content = queue.content(incident) if incident else queue.test_content(service.public_url, delivery.created_at)
    kind = base.of(delivery.integration_type)
    covers_both = (
        incident is not None and delivery.event == "resolved" and kind.for_people and not delivery.redelivery_of
        and not await deliveries.opening_was_delivered(tx, incident.id, delivery)
    )  # fmt: skip
    notification = queue.notification(delivery.id, delivery.event, content, covers_both)
    if integration is None:
        return kind.payload(notification)
    shown = kind.preview(integration.settings, notification, service.public_url)
    return shown.body or (f"{shown.method} {shown.url}" if shown.url else "")


def _can_redeliver(viewer: Viewer, delivery: Delivery, integration: Integration | None) -> bool:
    """Whether to offer a redelivery."""
    ended = delivery.status not in ("pending", "sending") and delivery.event != "notice"
    return viewer.writes and ended and integration is not None


@post("/deliveries/{uuid:str}/redeliver", include_in_schema=False)
async def redeliver(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Sends again, as a new delivery; the form says whether a restart was confirmed."""
    form = await fields(request, viewer)
    try:
        async with transaction(service.pool) as tx:
            made = await actions.redeliver(
                tx, viewer.actor, ids.key_of(ids.DELIVERY, uuid), service.public_url,
                confirmed=form.get("confirm") == "yes",
            )  # fmt: skip
    except Refused as refused:
        if refused.status != 422:
            raise
        return redirect(f"/deliveries/{uuid}", f"{refused.message}.", good=False)
    return redirect(f"/deliveries/{ids.public(ids.DELIVERY, made.id)}", messages.REDELIVERED)


routes = [log, one, redeliver]
