"""Incidents: reading them, opening and resolving them by API, snoozing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, cast
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from tocsin.actions import incidents as actions
from tocsin.actions.base import Actor
from tocsin.api import trail
from tocsin.api.body import BATCH_LIMIT
from tocsin.api.schemas import CODE, GRADE, VISIBLE, Listed, Page, seconds
from tocsin.api.service import Service
from tocsin.api.validation_messages import missing_root
from tocsin.domain import ids
from tocsin.domain.errors import Detail, Refused, invalid, invalid_field, not_found
from tocsin.domain.incidents import (
    AT_ONCE,
    SEVERITIES,
    Incident,
    Opened,
    OpenRequest,
    ResolveRequest,
    ResourceNotFound,
    Severity,
    truncated_message,
)
from tocsin.domain.resources.base import kinds
from tocsin.storage.delivery import details, incidents
from tocsin.storage.postgres.database import transaction
from tocsin.transports import tracing

BATCH = 1000
LAST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)
MAX_ACKNOWLEDGED = 30 * 86_400

if TYPE_CHECKING:
    ResourceType = str
else:
    ResourceType = Literal[tuple(kinds())]
IncidentType = Annotated[str, Meta(min_length=1, max_length=64, pattern=CODE)]
Message = Annotated[
    str, Meta(min_length=1, pattern=VISIBLE, description="Truncated to 2,000 characters, with an ellipsis.")
]


# A choice of these would quote what was given in its refusal, which takes long if that is.
Grade = Annotated[str, Meta(pattern=GRADE, extra_json_schema={"enum": list(SEVERITIES)})]


class IncidentShown(msgspec.Struct):
    uuid: str
    status: Literal["ongoing", "resolved"]
    error_message: str
    closed_at: str | None
    snoozed_at: str | None
    snooze_until: str | None
    monitorable_type: ResourceType
    monitorable_uuid: str
    monitorable_name: str
    incident_type: str
    request: str | None
    request_headers: Mapping[str, str] | None
    response: str | None
    response_headers: Mapping[str, str] | None
    created_at: str
    updated_at: str
    severity: Severity
    acknowledged_at: str | None
    acknowledged_by: str | None
    acknowledged_until: str | None
    silenced_by: str | None


class IncidentDetailed(IncidentShown):
    """One incident, and what its reporter says besides: of a source's alert, its labels and annotations, say.

    `dedup_key` keeps it apart from others of its type; both are left out where there is nothing to say.
    """

    dedup_key: str | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET


class IncidentToOpen(msgspec.Struct):
    """An ongoing one of the same resource and type is raised to a worse `severity`, and never lowered."""

    resource_type: ResourceType
    resource_uuid: str
    incident_type: IncidentType
    message: Message
    severity: Grade = "critical"


class IncidentToResolve(msgspec.Struct):
    resource_type: ResourceType
    resource_uuid: str
    incident_type: IncidentType
    message: Message | None = None


class OpenIncidents(msgspec.Struct):
    """One `incident`, or up to 1,000 `incidents` of which all or none are opened."""

    ROOTS: ClassVar = ("incident", "incidents")
    incident: IncidentToOpen | UnsetType = UNSET
    incidents: Annotated[list[IncidentToOpen], Meta(min_length=1, max_length=BATCH)] | UnsetType = UNSET


class ResolveIncidents(msgspec.Struct):
    """One `incident`, or up to 1,000 `incidents`."""

    ROOTS: ClassVar = ("incident", "incidents")
    incident: IncidentToResolve | UnsetType = UNSET
    incidents: Annotated[list[IncidentToResolve], Meta(min_length=1, max_length=BATCH)] | UnsetType = UNSET


class OpenedMeta(msgspec.Struct):
    opened: int
    already_ongoing: int


class OpenedBatch(msgspec.Struct):
    data: list[IncidentShown]
    meta: OpenedMeta


class NotOngoing(msgspec.Struct):
    resource_type: ResourceType
    resource_uuid: str
    incident_type: str


class ResolvedMeta(msgspec.Struct):
    resolved: int
    not_ongoing: int


class ResolvedBatch(msgspec.Struct):
    """What was resolved, and which of the requests found nothing ongoing."""

    data: list[IncidentShown]
    not_ongoing: list[NotOngoing]
    meta: ResolvedMeta


class Acknowledgement(msgspec.Struct):
    """`for` is how many seconds it lasts: if the incident is still ongoing then, it counts as unacknowledged again, and
    people are told so. Without it, it lasts until the incident is resolved.
    """

    seconds: Annotated[int, Meta(ge=1, le=MAX_ACKNOWLEDGED)] | None = msgspec.field(
        name="for", default=None
    )


class Snooze(msgspec.Struct):
    until: Annotated[datetime, Meta(tz=True)]


def shown(incident: Incident) -> IncidentShown:
    """An incident as every response shows it."""
    return IncidentShown(
        uuid=ids.public(ids.INCIDENT, incident.id),
        status="ongoing" if incident.closed_at is None else "resolved",
        error_message=incident.message,
        closed_at=seconds(incident.closed_at),
        snoozed_at=seconds(incident.snoozed_at),
        snooze_until=seconds(incident.snooze_until),
        monitorable_type=incident.resource_type,
        monitorable_uuid=kinds()[incident.resource_type].public(incident.resource_id),
        monitorable_name=incident.resource_name,
        incident_type=incident.type,
        request=incident.request,
        request_headers=incident.request_headers,
        response=incident.response,
        response_headers=incident.response_headers,
        created_at=seconds(incident.created_at),
        updated_at=seconds(incident.updated_at),
        severity=incident.severity,
        acknowledged_at=seconds(incident.acknowledged_at),
        acknowledged_by=incident.acknowledged_by,
        acknowledged_until=seconds(incident.acknowledged_until),
        silenced_by=None if incident.silenced_by is None else ids.public(ids.SILENCE, incident.silenced_by),
    )


async def open_all(service: Service, caller: Actor, data: OpenIncidents) -> tuple[int, IncidentShown | OpenedBatch]:
    """Open what is requested, all or none: 201 if anything was opened, 200 if all of it was ongoing."""
    requests = _requests(data.incident, data.incidents)
    single = not isinstance(data.incident, UnsetType)
    keys = _keys(requests, single)
    with tracing.span("open incidents") as span:
        batch = [
            OpenRequest(
                caller.project_id, request.resource_type, key, request.incident_type,
                truncated_message(request.message), severity=cast(Severity, request.severity),
            )
            for request, key in zip(requests, keys, strict=True)
        ]
        answers = await actions.open(service.batches.open, caller, batch)
        opened = [answer for answer in answers if isinstance(answer, Opened)]
        if span is not None:
            trail.describe(span, [answer.incident.id for answer in opened if answer.new])
    if len(opened) < len(batch):
        missing = [index for index, answer in enumerate(answers) if isinstance(answer, ResourceNotFound)]
        raise _unknown(requests, missing, single)
    new = sum(answer.new for answer in opened)
    status = 201 if new else 200
    if single:
        return status, shown(opened[0].incident)
    meta = OpenedMeta(opened=new, already_ongoing=len(opened) - new)
    return status, OpenedBatch(await _all_shown([answer.incident for answer in opened]), meta)


async def resolve_all(service: Service, caller: Actor, data: ResolveIncidents) -> tuple[int, ResolvedBatch]:
    """Resolve those that are ongoing: always 200."""
    requests = _requests(data.incident, data.incidents)
    keys = _keys(requests, not isinstance(data.incident, UnsetType))
    with tracing.span("resolve incidents") as span:
        batch = [
            ResolveRequest(caller.project_id, key, request.incident_type, actions.BY_API)
            for request, key in zip(requests, keys, strict=True)
        ]
        ended = await actions.resolve_ongoing(service.batches.resolve, caller, batch)
        if span is not None:
            trail.describe(span, [incident.id for found in ended for incident in found])
    resolved = {incident.id: incident for found in ended for incident in found}
    not_ongoing = [
        NotOngoing(request.resource_type, request.resource_uuid, request.incident_type)
        for request, found in zip(requests, ended, strict=True)
        if not found
    ]
    meta = ResolvedMeta(resolved=len(resolved), not_ongoing=len(not_ongoing))
    return 200, ResolvedBatch(await _all_shown([*resolved.values()]), not_ongoing, meta)


async def _all_shown(found: Sequence[Incident]) -> list[IncidentShown]:
    answers: list[IncidentShown] = []
    for start in range(0, len(found), AT_ONCE):
        if start:
            await asyncio.sleep(0)
        answers += map(shown, found[start : start + AT_ONCE])
    return answers


RequestType = TypeVar("RequestType", IncidentToOpen, IncidentToResolve)


def _requests(one: RequestType | UnsetType, many: list[RequestType] | UnsetType) -> list[RequestType]:
    if isinstance(one, UnsetType):
        if isinstance(many, UnsetType):
            raise missing_root("incident", "incidents")
        return many
    if not isinstance(many, UnsetType):
        raise invalid_field("incidents", "cannot be combined with incident; give one of the two")
    return [one]


def _keys(requests: Sequence[IncidentToOpen | IncidentToResolve], single: bool) -> list[UUID]:
    known_kinds = kinds()
    keys = [ids.parse(known_kinds[request.resource_type].prefix, request.resource_uuid) for request in requests]
    known = [key for key in keys if key is not None]
    if len(known) < len(keys):
        raise _unknown(requests, [index for index, key in enumerate(keys) if key is None], single)
    return known


def _unknown(
    requests: Sequence[IncidentToOpen | IncidentToResolve], indexes: Sequence[int], single: bool
) -> Refused:
    """422: these name no resource of the project."""
    details = [
        Detail(
            "resource_uuid" if single else f"incidents[{index}].resource_uuid",
            f"is not the uuid of a {requests[index].resource_type} of this project",
        )
        for index in indexes
    ]
    first = f"{details[0].field} {details[0].message}"
    return invalid(first if single else f"{first}; nothing was opened or resolved", *details)


@get("/api/v1/incidents")
async def list_(
    caller: Actor,
    service: Service,
    asked: Page,
    status: Annotated[Literal["ongoing", "resolved"] | None, Parameter(description="Only these.")] = None,
) -> Listed[IncidentShown]:
    """List incidents

    Ongoing ones first, then the newest.
    """
    async with transaction(service.pool) as tx:
        found, total = await incidents.list_(
            tx,
            caller.project_id,
            ongoing=None if status is None else status == "ongoing",
            limit=asked.per_page,
            offset=asked.offset,
        )
    return Listed([*map(shown, found)], asked.meta(total))


@post("/api/v1/incidents", status_code=201, request_max_body_size=BATCH_LIMIT, opt={"hot": open_all})
async def open_(data: OpenIncidents, caller: Actor, service: Service) -> Response[IncidentShown | OpenedBatch]:
    """Open an incident, or a batch of them

    201; one that is already ongoing for the same resource and type returns 200 and is not opened twice. Of a
    batch, all are opened or none.

    The types `cpu`, `ram`, `disk`, `downtime` and `clock` of servers are Tocsin's own: an incident of such a type that
    was opened here, too, is resolved by the server's next good report.
    """
    status, answer = await open_all(service, caller, data)
    return Response(answer, status_code=status)


@post("/api/v1/incidents/resolve", status_code=200, request_max_body_size=BATCH_LIMIT, opt={"hot": resolve_all})
async def resolve(data: ResolveIncidents, caller: Actor, service: Service) -> ResolvedBatch:
    """Resolve what is ongoing for a resource and type

    For callers that do not know the incident's uuid. The response lists what was not ongoing.
    """
    _, answer = await resolve_all(service, caller, data)
    return answer


@get("/api/v1/incidents/{uuid:str}")
async def read(uuid: str, caller: Actor, service: Service) -> IncidentDetailed:
    """Read one incident"""
    async with service.pool.acquire() as tx:
        incident = await incidents.one(tx, caller.project_id, ids.key_of(ids.INCIDENT, uuid))
        if incident is None:
            raise not_found("incident")
        said = await details.of_incident(tx, caller.project_id, incident.id)
    return IncidentDetailed(
        **msgspec.structs.asdict(shown(incident)), dedup_key=incident.dedup_key or UNSET,
        details=UNSET if said is None else dict(said),
    )  # fmt: skip


@post("/api/v1/incidents/{uuid:str}/resolve", status_code=200)
async def resolve_one(uuid: str, caller: Actor, service: Service) -> IncidentShown:
    """Resolve one incident

    One that is resolved already is returned as it is.
    """
    async with transaction(service.pool) as tx:
        return shown(await actions.resolve(tx, caller, ids.key_of(ids.INCIDENT, uuid), by=actions.BY_API))


@post("/api/v1/incidents/{uuid:str}/acknowledge", status_code=200)
async def acknowledge(
    uuid: str, caller: Actor, service: Service, data: Acknowledgement | None = None
) -> IncidentShown:
    """Acknowledge one incident

    Somebody has it: nobody further is told of it, and nobody is reminded, until it is resolved.
    """
    key, seconds = ids.key_of(ids.INCIDENT, uuid), None if data is None else data.seconds
    async with transaction(service.pool) as tx:
        return shown(await actions.acknowledge(tx, caller, service.vault, key, seconds=seconds))


@post("/api/v1/incidents/{uuid:str}/unacknowledge", status_code=200)
async def unacknowledge(uuid: str, caller: Actor, service: Service) -> IncidentShown:
    """Take back the acknowledgement of one incident

    What was called off by it is due again.
    """
    async with transaction(service.pool) as tx:
        return shown(await actions.unacknowledge(tx, caller, ids.key_of(ids.INCIDENT, uuid)))


@post("/api/v1/incidents/{uuid:str}/snooze", status_code=200)
async def snooze(uuid: str, data: Snooze, caller: Actor, service: Service) -> IncidentShown:
    """Snooze one incident

    No notifications are sent until then; if it is still ongoing then, a reminder is sent.
    """
    if not datetime.now(UTC) < data.until < LAST_MOMENT:
        raise invalid_field("until", "must be a time in the future, such as 2099-01-01T08:00:00Z")
    async with transaction(service.pool) as tx:
        return shown(await actions.snooze(tx, caller, ids.key_of(ids.INCIDENT, uuid), data.until))


routes = [list_, open_, resolve, read, resolve_one, acknowledge, unacknowledge, snooze]
