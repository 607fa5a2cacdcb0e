"""Fire drills: beginning one from a resource's page, and who was reached after how long, live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from litestar import Response, get, post

from tocsin.actions import drills as actions
from tocsin.actions import incidents
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.domain.resources.base import kinds
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import drills
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect


@post("/drills", include_in_schema=False)
async def begin(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """One that lasts already is shown as it is."""
    form = await fields(request, viewer)
    resource, message = form.get("resource", ""), form.get("message", "").strip() or None
    async with transaction(service.pool) as tx:
        incident = await actions.begin(tx, viewer.actor, resource, message, service.public_url)
    return redirect(f"/drills/{ids.public(ids.INCIDENT, incident.id)}")


@get("/drills/{uuid:str}", include_in_schema=False)
async def show(uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    async with service.pool.acquire() as tx:
        incident = await actions.existing(tx, viewer.actor, ids.key_of(ids.INCIDENT, uuid))
        found = await drills.result(tx, incident)
        wanted = {key for each in found.reached for key in (each.integration_id, each.on_behalf_of) if key}
        known = await integrations.these(tx, service.vault, viewer.project_id, wanted)
    began, now = incident.created_at, datetime.now(UTC)
    return page(
        "drill.html", viewer, title="Fire drill", uuid=uuid, incident=incident,
        watched=kinds()[incident.resource_type].page(incident.resource_id),
        ends_at=began + timedelta(seconds=drills.SECONDS), lasted=((incident.closed_at or now) - began).total_seconds(),
        reached=found.reached, names={each.id: base.display_name(each) for each in known},
        acknowledged=[(each.by, (each.at - began).total_seconds()) for each in found.acknowledged],
        count=sum(each.after is not None for each in found.reached),
    )  # fmt: skip


@post("/drills/{uuid:str}/{verb:str}", include_in_schema=False)
async def go_on(uuid: str, verb: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """`acknowledge` it, or `end` it before its time."""
    await fields(request, viewer)
    if verb not in ("acknowledge", "end"):
        raise not_found("drill")
    key = ids.key_of(ids.INCIDENT, uuid)
    async with transaction(service.pool) as tx:
        drill = await actions.existing(tx, viewer.actor, key)
        if verb == "acknowledge":
            if drill.closed_at is None:
                await incidents.acknowledge(tx, viewer.actor, service.vault, key)
            message = messages.DRILL_ACKNOWLEDGED
        else:
            await incidents.resolve(tx, viewer.actor, key, by=viewer.email)
            message = messages.DRILL_ENDED
    return redirect(f"/drills/{uuid}", message)


routes = [begin, show, go_on]
