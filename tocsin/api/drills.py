"""Fire drills: beginning one, and who was reached by it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from litestar import Response, get, post

from tocsin.actions import drills as actions
from tocsin.actions.base import Actor
from tocsin.api.incidents import IncidentShown
from tocsin.api.incidents import shown as incident_shown
from tocsin.api.schemas import seconds
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain.incidents import Incident
from tocsin.storage.delivery import drills
from tocsin.storage.postgres.database import Tx, transaction


class NewDrill(msgspec.Struct):
    """`resource` is the uuid of a server or monitor."""

    resource: str
    message: str | None = None


class DrillToBegin(msgspec.Struct):
    drill: NewDrill


class ReachedShown(msgspec.Struct):
    """One that was to be told. `after_seconds` is from the beginning of the drill to the delivery."""

    integration_uuid: str
    integration_type: str
    on_behalf_of: str | None
    status: str
    reason: str | None
    after_seconds: float | None


class AcknowledgedShown(msgspec.Struct):
    by: str
    at: str
    after_seconds: float


class DrillShown(msgspec.Struct):
    """A drill, who was reached after how long, and who acknowledged it."""

    uuid: str
    incident: IncidentShown
    ends_at: str
    reached: list[ReachedShown]
    acknowledged: list[AcknowledgedShown]


@post("/api/v1/drills", status_code=201)
async def begin(data: DrillToBegin, caller: Actor, service: Service) -> Response[DrillShown]:
    """Begin a fire drill

    A marked test incident through everything: attachments, `after`, on-call, reminders. Each who is told is asked to
    acknowledge it; nothing is restarted. It ends by itself after 30 minutes, or when its incident is resolved.
    """
    async with transaction(service.pool) as tx:
        incident = await actions.begin(
            tx, caller, data.drill.resource, data.drill.message, service.public_url
        )
        return Response(await _shown(tx, incident), status_code=201)


@get("/api/v1/drills/{uuid:str}")
async def read(uuid: str, caller: Actor, service: Service) -> DrillShown:
    """Read one drill

    Who was reached after how long, and who acknowledged it.
    """
    async with transaction(service.pool) as tx:
        return await _shown(tx, await actions.existing(tx, caller, ids.key_of(ids.INCIDENT, uuid)))


async def _shown(tx: Tx, incident: Incident) -> DrillShown:
    found = await drills.result(tx, incident)
    return DrillShown(
        uuid=ids.public(ids.INCIDENT, incident.id),
        incident=incident_shown(incident),
        ends_at=seconds(incident.closed_at or incident.created_at + timedelta(seconds=drills.SECONDS)),
        reached=[
            ReachedShown(
                ids.public(ids.INTEGRATION, each.integration_id), each.integration_type,
                None if each.on_behalf_of is None else ids.public(ids.INTEGRATION, each.on_behalf_of),
                each.status, each.reason, each.after,
            )
            for each in found.reached
        ],
        acknowledged=[
            AcknowledgedShown(each.by, seconds(each.at), round((each.at - incident.created_at).total_seconds(), 1))
            for each in found.acknowledged
        ],
    )  # fmt: skip


routes: list[Any] = [begin, read]
