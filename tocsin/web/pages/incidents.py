"""Incidents: the list, ongoing first, and one with its timeline, to resolve or snooze."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args
from zoneinfo import ZoneInfo

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import incidents as actions
from tocsin.domain import ids
from tocsin.domain.deliveries import ONGOING_EVENTS, Status
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.incidents import Incident
from tocsin.domain.resources.base import kinds
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import deliveries, incidents
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import messages
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

ROWS = 25
MAX_DELIVERIES = 100
FEW = 5
"""Up to this many deliveries, no filter is shown."""
LAST_PAGE = 4_000
SNOOZES = {"1": timedelta(hours=1), "4": timedelta(hours=4), "24": timedelta(hours=24)}
"""The choices offered, in hours."""
MAX_SNOOZE = timedelta(days=366)


@get("/incidents", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    number = min(max(number, 1), LAST_PAGE)
    async with service.pool.acquire() as tx:
        found = await incidents.latest(tx, viewer.project_id, limit=ROWS + 1, offset=(number - 1) * ROWS)
    rows = found[:ROWS]
    return page(
        "incidents.html", viewer, title="Incidents", ongoing=[each for each in rows if each.closed_at is None],
        ended=[each for each in rows if each.closed_at is not None], number=number, more=len(found) > ROWS,
    )


@get("/incidents/{uuid:str}", include_in_schema=False)
async def one(uuid: str, viewer: Viewer, service: Service, status: str = "") -> Response[str]:
    only = status if status in get_args(Status) else None
    async with service.pool.acquire() as tx:
        incident = await _found(tx, viewer, uuid)
        found, total = await deliveries.of_incident(
            tx, viewer.project_id, incident.id, status=only, limit=MAX_DELIVERIES, offset=0
        )
        known = await integrations.these(tx, service.vault, viewer.project_id, {each.integration_id for each in found})
    names = {each.id: base.display_name(each) for each in known}
    return page(
        "incident.html", viewer, title=f"{incident.type} on {incident.resource_name}", incident=incident,
        uuid=uuid, watched=kinds()[incident.resource_type].page(incident.resource_id), names=names,
        deliveries=found[::-1], left_out=total - len(found), lasted=_lasted(incident), latency=latency,
        event_label=_event_label,
        only=only or "", statuses=get_args(Status), few=FEW,
    )


@post("/incidents/{uuid:str}/resolve", include_in_schema=False)
async def resolve(request: AnyRequest, uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.resolve(tx, viewer.actor, ids.key_of(ids.INCIDENT, uuid), by=viewer.email)
    return redirect(f"/incidents/{uuid}", messages.INCIDENT_RESOLVED)


@post("/incidents/{uuid:str}/snooze", include_in_schema=False)
async def snooze(request: AnyRequest, uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    """For some hours, or until a time in the viewer's time zone."""
    form = await fields(request, viewer)
    until = _until(form, viewer.zone)
    if until is None:
        return redirect(f"/incidents/{uuid}", messages.SNOOZE_WHEN, good=False)
    try:
        async with transaction(service.pool) as tx:
            await actions.snooze(tx, viewer.actor, ids.key_of(ids.INCIDENT, uuid), until)
    except Refused as refused:
        if refused.status != 422:
            raise
        return redirect(f"/incidents/{uuid}", messages.INCIDENT_OVER, good=False)
    return redirect(f"/incidents/{uuid}", messages.INCIDENT_SNOOZED)


def _event_label(delivery: Delivery) -> str:
    """What the delivery was about, in a word."""
    if delivery.event in ONGOING_EVENTS and not base.of(delivery.integration_type).repeatable:
        return "restart"
    return delivery.event


def latency(delivery: Delivery) -> float | None:
    """Seconds from its creation to its delivery, if it was delivered."""
    if delivery.status != "delivered" or delivery.finished_at is None:
        return None
    return float((delivery.finished_at - delivery.created_at).total_seconds())


def _until(form: Form, zone: str) -> datetime | None:
    """The time in the form; None if it is invalid, in the past, or more than a year ahead."""
    now = datetime.now(UTC)
    if not (given := form.get("until", "")):
        return now + SNOOZES.get(form.get("hours", ""), SNOOZES["1"])
    try:
        moment = datetime.fromisoformat(given)
        until = moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return until if moment.tzinfo is None and now < until < now + MAX_SNOOZE else None


async def _found(tx: Tx, viewer: Viewer, uuid: str) -> Incident:
    incident = await incidents.one(tx, viewer.project_id, ids.key_of(ids.INCIDENT, uuid))
    if incident is None:
        raise not_found("incident")
    return incident


def _lasted(incident: Incident) -> float:
    return float(((incident.closed_at or datetime.now(UTC)) - incident.created_at).total_seconds())


routes = [list_, one, resolve, snooze]
