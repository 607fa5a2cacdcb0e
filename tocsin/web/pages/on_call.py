"""Forms of an on-call schedule's page: who takes over, and the address of its calendar."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from litestar import Response, post

from tocsin.actions import on_call as actions
from tocsin.domain import ids, zones
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.on_call import Override
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect


@post("/integrations/{uuid:str}/overrides", include_in_schema=False)
async def take_over(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Somebody takes over, from a time until another on the clock of the schedule's zone."""
    form = await fields(request, viewer)
    key, member = ids.key_of(ids.INTEGRATION, uuid), ids.key_of(ids.INTEGRATION, form.get("integration_id", ""))
    back = f"/integrations/{uuid}#duty"
    try:
        async with transaction(service.pool) as tx:
            found = actions.on_call_one(await integrations.one(tx, service.vault, viewer.project_id, key))
            zone = ZoneInfo(found.settings["timezone"])
            wanted = Override(member, *(_instant(form.get(name, ""), zone, name) for name in ("from", "until")))
            await actions.add_override(tx, viewer.actor, service.vault, key, wanted)
            who = await integrations.one(tx, service.vault, viewer.project_id, member)
    except Refused as refused:
        if refused.status != 422:
            raise
        return redirect(back, f"Nothing was changed: {refused.message}.", good=False)
    assert who is not None
    return redirect(back, messages.ON_DUTY.format(name=base.display_name(who)))


@post("/integrations/{uuid:str}/overrides/{override_id:str}/delete", include_in_schema=False)
async def take_back(
    uuid: str, override_id: str, request: AnyRequest, viewer: Viewer, service: Service
) -> Response[str]:
    await fields(request, viewer)
    key, override = ids.key_of(ids.INTEGRATION, uuid), ids.key_of(ids.OVERRIDE, override_id)
    async with transaction(service.pool) as tx:
        await actions.delete_override(tx, viewer.actor, service.vault, key, override)
    return redirect(f"/integrations/{uuid}#duty", messages.ON_DUTY_AGAIN)


@post("/integrations/{uuid:str}/feed", include_in_schema=False)
async def change_feed(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.rotate_feed(tx, viewer.actor, service.vault, ids.key_of(ids.INTEGRATION, uuid))
    return redirect(f"/integrations/{uuid}#duty", messages.CALENDAR_MOVED)


def _instant(text: str, zone: ZoneInfo, field: str) -> datetime:
    """The time of a `datetime-local` input."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is not None or not 2000 <= at.year < 2100:
        raise invalid_field(field, "must be a date and a time")
    return zones.instant(at, zone)


routes = [take_over, take_back, change_feed]
