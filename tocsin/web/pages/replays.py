"""Replays: what would be sent again, confirmed; how far one is; and stopping it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import replays as actions
from tocsin.actions.integrations import existing
from tocsin.domain import ids
from tocsin.domain import replays as rules
from tocsin.domain.deliveries import Event
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.replays import MAX_RANGE, Selection, Status
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import replays, selections
from tocsin.storage.delivery.replays import Replay
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import messages, moments
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

FEW = 1_000
"""Up to how many are counted on a page that only offers to send them again."""
MINUTE = 60.0


def selected(status: str, start: datetime | None, end: datetime | None) -> Selection | None:
    """What the filter of the delivery log selects, or None if that cannot be sent again."""
    now = datetime.now(UTC)
    chosen: Status | None = next((each for each in get_args(Status) if each == status), None)
    if chosen is None:
        return None
    try:
        return rules.selection(start or now - MAX_RANGE + timedelta(hours=1), end, chosen, now)
    except Refused:
        return None


async def offer(tx: Tx, viewer: Viewer, integration: integrations.Integration, selection: Selection | None) -> int:
    """How many the viewer may send again, up to `FEW`."""
    if selection is None or not viewer.writes or not base.of(integration.type).repeatable:
        return 0
    return sum((await selections.count(tx, viewer.project_id, integration.id, selection, limit=FEW)).values())


@get("/integrations/{uuid:str}/replay", include_in_schema=False)
async def confirm(
    uuid: str, viewer: Viewer, service: Service, status: str = "",
    start: Annotated[str, QueryParameter(name="from")] = "", to: str = "",
) -> Response[str]:
    """How many would be sent again, and of what."""
    since, until = moments.given(start, viewer.zone), moments.given(to, viewer.zone)
    selection = selected(status, since, until)
    counts: dict[Event, int] = {}
    async with transaction(service.pool) as tx:
        integration = existing(
            await integrations.one(tx, service.vault, viewer.project_id, ids.key_of(ids.INTEGRATION, uuid))
        )
        if selection is not None:
            counts = await selections.count(tx, viewer.project_id, integration.id, selection, limit=actions.COUNTED)
        running = await replays.running(tx, viewer.project_id, integration.id)
    return page(
        "replay_new.html", viewer, title="Send again", uuid=uuid, name=base.display_name(integration), counts=counts,
        total=sum(counts.values()), most=rules.MAX_DELIVERIES, selection=selection, status=status, since=since,
        until=until, start=start, to=to, running=running, repeatable=base.of(integration.type).repeatable,
        back=address(uuid, status, start, to),
    )


@post("/integrations/{uuid:str}/replay", include_in_schema=False)
async def create(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    status, start, to = form.get("status", ""), form.get("from", ""), form.get("to", "")
    selection = selected(status, moments.given(start, viewer.zone), moments.given(to, viewer.zone))
    back = address(uuid, status, start, to)
    if selection is None:
        return redirect(back, f"{actions.NOTHING}.", good=False)
    try:
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, service.vault, ids.key_of(ids.INTEGRATION, uuid), selection)
    except Refused as refused:
        if refused.status != 422:
            raise
        return redirect(back, f"{refused.message}.", good=False)
    return redirect(f"/replays/{ids.public(ids.REPLAY, made.id)}", messages.REPLAY_STARTED)


@get("/replays/{uuid:str}", include_in_schema=False)
async def show(uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    """How far it is, kept live."""
    key = ids.key_of(ids.REPLAY, uuid)
    async with service.pool.acquire() as tx:
        replay = await _found(tx, viewer, key)
        integration = await integrations.one(tx, service.vault, viewer.project_id, replay.integration_id)
    return page(
        "replay.html", viewer, title="Sending again", uuid=uuid, replay=replay, ended=ended(replay), rate=_rate(replay),
        integration=integration, name=base.display_name(integration) if integration else "a deleted integration",
    )


@post("/replays/{uuid:str}/stop", include_in_schema=False)
async def stop(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.stop(tx, viewer.actor, ids.key_of(ids.REPLAY, uuid))
    return redirect(f"/replays/{uuid}", messages.REPLAY_STOPPED)


def address(uuid: str, status: str, start: str, to: str, page_of: str = "deliveries") -> str:
    """The delivery log (or another page of the integration) with its filter."""
    asked = {name: value[:32] for name, value in (("status", status), ("from", start), ("to", to)) if value}
    return f"/integrations/{uuid}/{page_of}" + (f"?{urlencode(asked)}" if asked else "")


def ended(replay: Replay) -> int:
    """How many redeliveries have finished."""
    return replay.delivered + replay.dead + replay.suppressed


def _rate(replay: Replay) -> int:
    """Redeliveries that finished per minute, on the average."""
    lasted = ((replay.finished_at or datetime.now(UTC)) - replay.created_at).total_seconds()
    return round(ended(replay) / max(lasted, 1.0) * MINUTE)


async def _found(tx: Tx, viewer: Viewer, key: UUID) -> Replay:
    replay = await replays.one(tx, viewer.project_id, key)
    if replay is None:
        raise not_found("replay")
    return replay


routes = [confirm, create, show, stop]
