"""Incidents: the list, ongoing first, and one with its timeline, to acknowledge, resolve or snooze."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import incidents as actions
from tocsin.domain import alerts, ids
from tocsin.domain.deliveries import Status
from tocsin.domain.dependencies import REACHABILITY
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.incidents import DRILL, SEVERITIES, Incident
from tocsin.domain.processes import BY
from tocsin.domain.resources.base import kinds
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import acknowledgements, deliveries, details, incidents
from tocsin.storage.notifying import dependencies, silences
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import incident_timeline, messages
from tocsin.web.render import lasting, page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, local, redirect

ROWS = 25
MAX_DELIVERIES = 100
PROCESSES = "processes"
MAX_SAID = 200
"""Lines of what an incident's reporter says."""
FEW = 5
"""Up to this many deliveries, no filter is shown."""
FEW_BEHIND = 10
"""Of what is behind it, so many are named."""
LAST_PAGE = 4_000
SNOOZES = {"1": timedelta(hours=1), "4": timedelta(hours=4), "24": timedelta(hours=24)}
"""The choices offered, in hours."""
MAX_SNOOZE = timedelta(days=366)
ACKNOWLEDGED_FOR = {"3600": 3_600}
"""The choices offered, in seconds; anything else: until it is resolved."""
WHICH = (("", "All"), ("critical", "Critical now"), ("warning", "Warnings now"), ("info", "Info now"))


@get("/incidents", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, severity: str = "", number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    """All of them, or what is ongoing of one severity."""
    number, only = min(max(number, 1), LAST_PAGE), next((each for each in SEVERITIES if each == severity), None)
    place: dict[str, int] = {"limit": ROWS + 1, "offset": (number - 1) * ROWS}
    async with service.pool.acquire() as tx:
        if only:
            found = await incidents.ongoing_of_severity(tx, viewer.project_id, only, **place)
        else:
            found = await incidents.latest(tx, viewer.project_id, **place)
        behind = await explained(tx, found)
    rows = found[:ROWS]
    return page(
        "incidents.html", viewer, title="Incidents", severity=only or "", severities=WHICH, behind=behind,
        ongoing=[each for each in rows if each.closed_at is None],
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
        wanted = {key for each in found for key in (each.integration_id, each.on_behalf_of) if key}
        known = await integrations.these(tx, service.vault, viewer.project_id, wanted)
        had = await acknowledgements.of_incident(tx, viewer.project_id, incident.id)
        behind = (await explained(tx, [incident])).get(incident.resource_id, "")
        family = await _behind_it(tx, incident)
        said = await details.of_incident(tx, viewer.project_id, incident.id)
        silence = await silences.names(tx, viewer.project_id, filter(None, [incident.silenced_by]))
    names = {each.id: base.display_name(each) for each in known}
    silenced_by = silence.get(incident.silenced_by) if incident.silenced_by else None
    return page(
        "incident.html", viewer, title=f"{incident.type} on {incident.resource_name}", incident=incident,
        uuid=uuid, watched=kinds()[incident.resource_type].page(incident.resource_id),
        steps=incident_timeline.steps(incident, found[::-1], had, names, silenced_by), told=len(found),
        left_out=total - len(found), lasted=_lasted(incident), only=only or "", statuses=get_args(Status), few=FEW,
        mine=incident.acknowledged_by in (viewer.name, viewer.email), behind=behind,
        family=family[:FEW_BEHIND], more_behind=len(family) - FEW_BEHIND, drill=incident.type == DRILL,
        processes=_processes(said), details=_flat(said), link=_own_link(incident, said),
    )


@post("/incidents/{uuid:str}/acknowledge", include_in_schema=False)
async def acknowledge(request: AnyRequest, uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    """`for` some seconds, or until it is resolved; leads `back` to where it was pressed."""
    form = await fields(request, viewer)
    back = local(form["back"]) if form.get("back") else f"/incidents/{uuid}"
    seconds = ACKNOWLEDGED_FOR.get(form.get("for", ""))
    try:
        async with transaction(service.pool) as tx:
            await actions.acknowledge(
                tx, viewer.actor, service.vault, ids.key_of(ids.INCIDENT, uuid), seconds=seconds
            )
    except Refused as refused:
        if refused.status != 422:
            raise
        return redirect(back, messages.INCIDENT_RESOLVED_BEFORE, good=False)
    said = messages.INCIDENT_ACKNOWLEDGED_FOR.format(lasting=lasting(seconds)) if seconds else None
    return redirect(back, said or messages.INCIDENT_ACKNOWLEDGED)


@post("/incidents/{uuid:str}/unacknowledge", include_in_schema=False)
async def unacknowledge(request: AnyRequest, uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    try:
        async with transaction(service.pool) as tx:
            await actions.unacknowledge(tx, viewer.actor, ids.key_of(ids.INCIDENT, uuid))
    except Refused as refused:
        if refused.status != 422:
            raise
        return redirect(f"/incidents/{uuid}", messages.INCIDENT_RESOLVED_BEFORE, good=False)
    return redirect(f"/incidents/{uuid}", messages.INCIDENT_TAKEN_BACK)


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


def _processes(said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a server's incident: the processes that used most, by what they used."""
    most = (said or {}).get(PROCESSES)
    if not isinstance(most, Mapping):
        return {}
    return {by.upper(): most[by] for by in BY if isinstance(most.get(by), list)}


def _own_link(incident: Incident, said: Mapping[str, Any] | None) -> str | None:
    """Where its reporter shows it, if that is a web address."""
    return alerts.link(incident.resource_url) if said is not None else None


def _flat(details: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What an incident's reporter says, a line each: `labels.job`, and its value."""
    found: list[tuple[str, str]] = []
    pile: list[tuple[str, Any]] = [("", {name: one for name, one in (details or {}).items() if name != PROCESSES})]
    while pile and len(found) < MAX_SAID:
        name, value = pile.pop()
        if isinstance(value, Mapping | list):
            inner = value.items() if isinstance(value, Mapping) else enumerate(value)
            pile += [(f"{name}.{each}" if name else str(each), one) for each, one in inner][::-1]
        elif value is not None and value != "":
            found.append((name, str(value)))
    return found


async def explained(tx: Tx, found: Iterable[Incident]) -> dict[UUID, str]:
    """Of the resources of those that are ongoing, which are unreachable because of what they depend on: its names."""
    why = await dependencies.explanations(tx, {each.resource_id for each in found if each.closed_at is None})
    return {key: ", ".join(parent.name for parent in parents) for key, parents in why.items()}


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


async def _behind_it(tx: Tx, incident: Incident) -> list[str]:
    """The names of what is unreachable because of it, while it lasts."""
    if incident.closed_at is not None or incident.type not in REACHABILITY:
        return []
    found = await dependencies.children_of(tx, [incident.resource_id])
    return [name for _, name in found[incident.resource_id]]


def _lasted(incident: Incident) -> float:
    return float(((incident.closed_at or datetime.now(UTC)) - incident.created_at).total_seconds())


routes = [list_, one, acknowledge, unacknowledge, resolve, snooze]
