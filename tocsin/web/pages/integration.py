"""One integration: its status, tests, attachments and settings, and deleting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from litestar import Response, get, post

from tocsin.actions import attachments as placing
from tocsin.actions import integrations as actions
from tocsin.domain import ids
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.on_call import TYPE
from tocsin.domain.resources.base import of_uuid
from tocsin.domain.templates.filters import FILTERS
from tocsin.domain.templates.names import NAMES
from tocsin.integrations import base
from tocsin.integrations.base import Preview
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.storage.channels import integration_list, integrations
from tocsin.storage.delivery import deliveries, incidents
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.delivery.leases import Attempt
from tocsin.storage.postgres.database import transaction
from tocsin.web import integration_form, messages, on_call, telegram_chat
from tocsin.web.incident_timeline import latency
from tocsin.web.pages.integrations import PREVIEW, status_badge
from tocsin.web.pages.network_monitors import short_name
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

MAX_PLACES = 100
"""Servers and monitors listed and offered for attaching; others are found by name."""
FEW_PLACES = 10
"""Up to this many are listed unfolded."""
LATEST = 5


@get("/integrations/{uuid:str}", include_in_schema=False)
async def show(uuid: str, viewer: Viewer, service: Service, tested: str = "", find: str = "") -> Response[str]:
    return await _page(uuid, viewer, service, tested, find.strip()[:200])


async def _page(
    uuid: str, viewer: Viewer, service: Service, tested: str = "", search: str = "", typed: Form | None = None,
    flood_typed: Form | None = None, errors: Mapping[str, str] | None = None, previews: Sequence[Preview] = (),
) -> Response[str]:
    key, test = ids.key_of(ids.INTEGRATION, uuid), ids.parse(ids.DELIVERY, tested)
    async with service.pool.acquire() as tx:
        each = await integration_list.one(tx, service.vault, viewer.project_id, key)
        if each is None:
            raise not_found("integration")
        fitness = await integrations.health(tx, viewer.project_id, key)
        attached, free = [
            await integration_list.places(tx, viewer.project_id, key, attached=is_so, search=search, limit=MAX_PLACES)
            for is_so in (True, False)
        ]
        latest = await deliveries.latest(tx, viewer.project_id, key, limit=LATEST)
        told_of = await incidents.these(tx, viewer.project_id, filter(None, [each.incident_id for each in latest]))
        chat = await telegram_chat.of(tx, service.vault, each.integration, writes=viewer.writes)
        test_delivery = await deliveries.one(tx, viewer.project_id, test) if test else None
        is_on_call = each.integration.type == TYPE
        duty = await on_call.duty_of(tx, service, viewer, each.integration) if is_on_call else None
        members = await on_call.to_choose_from(tx, service, viewer) if is_on_call else []
    stored = each.integration
    kind = base.of(stored.type)
    values = typed if typed is not None else integration_form.values(kind, stored.settings)
    return page(
        "integration.html", viewer, title=base.display_name(stored), status_code=422 if errors else 200, uuid=uuid,
        overview=each, integration=stored, kind=kind, current_status=status_badge(each), fitness=fitness,
        attached=attached, free=free, most=MAX_PLACES, few=FEW_PLACES, search=search, latest=latest, latency=latency,
        incidents=told_of,
        test_delivery=test_delivery, last_attempt=_last_attempt(test_delivery),
        has_flood=actions.has_flood(kind), flood=flood_typed or integration_form.flood_values(stored.flood),
        values=values, errors=errors or {}, unfolded=integration_form.unfolded(kind, values, errors or {}),
        shown=kind.public_settings(stored.settings, reveal=False), public_url=service.public_url, previews=previews,
        names=NAMES if stored.type == WebhookIntegration.type else {}, filters=FILTERS,
        duty=duty, members=members, chosen=integration_form.members(kind, values),
        unready=kind.unready(stored.settings), chat=chat,
    )  # fmt: skip


def _last_attempt(test_delivery: Delivery | None) -> Attempt | None:
    return (
        msgspec.convert(test_delivery.attempts, list[Attempt])[-1]
        if test_delivery is not None and test_delivery.attempts
        else None
    )


@post("/integrations/{uuid:str}", include_in_schema=False)
async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Its name and settings; secrets left empty are kept."""
    form = await fields(request, viewer)
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx:
        before = actions.existing(await integrations.one(tx, service.vault, viewer.project_id, key))
    kind = base.of(before.type)
    try:
        if form.get("do") == PREVIEW:
            shown = integration_form.previews(kind, form, service.public_url, before.settings)
            return await _page(uuid, viewer, service, typed=form, previews=shown)
        given = integration_form.given(kind, form, changing=True)
        warning = await actions.reachable(kind, kind.parse(given, before.settings), service.settings.allow_networks)
        name = form.get("name", "").strip() or None
        async with transaction(service.pool) as tx:
            await actions.change(
                tx, viewer.actor, service.vault, key, given, name=name, renamed=name != before.name
            )
    except Refused as refused:
        return await _page(uuid, viewer, service, typed=form, errors=integration_form.errors(kind, refused))
    return redirect(f"/integrations/{uuid}", messages.SETTINGS_CHANGED, warning=warning)


@post("/integrations/{uuid:str}/flood", include_in_schema=False)
async def change_flood(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    key = ids.key_of(ids.INTEGRATION, uuid)
    try:
        given = integration_form.given_flood(form)
        async with transaction(service.pool) as tx:
            await actions.change_flood(tx, viewer.actor, service.vault, key, given)
    except Refused as refused:
        return await _page(uuid, viewer, service, flood_typed=form, errors=integration_form.flood_errors(refused))
    return redirect(f"/integrations/{uuid}#flood", messages.SETTINGS_CHANGED)


@post("/integrations/{uuid:str}/test", include_in_schema=False)
async def try_out(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Sends a test like any notification; the page that follows shows its result live."""
    await fields(request, viewer)
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        made = await actions.test(tx, viewer.actor, service.vault, key, service.public_url)
    return redirect(f"/integrations/{uuid}?tested={ids.public(ids.DELIVERY, made.id)}#test")


@post("/integrations/{uuid:str}/attach", include_in_schema=False)
async def attach(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """`do` is `attach_all` (including future ones), `stop_attach_all` (which excludes future ones), or `attach` or
    `detach` with `place`, a server's or monitor's uuid.
    """
    form = await fields(request, viewer)
    key, wanted, place = ids.key_of(ids.INTEGRATION, uuid), form.get("do", ""), form.get("place", "")
    async with transaction(service.pool) as tx:
        match wanted:
            case "attach_all":
                await placing.attach_all(tx, viewer.actor, service.vault, key)
                message = messages.ATTACHED_TO_ALL
            case "stop_attach_all":
                await placing.stop_attach_all(tx, viewer.actor, service.vault, key)
                message = messages.STOPPED_ATTACH_ALL
            case "detach":
                await placing.detach(tx, viewer.actor, service.vault, of_uuid(place), place, uuid)
                message = messages.DETACHED
            case _:
                await placing.attach(tx, viewer.actor, service.vault, of_uuid(place), place, uuid)
                message = messages.ATTACHED
    return redirect(f"/integrations/{uuid}#places", message)


@post("/integrations/{uuid:str}/enable", include_in_schema=False)
async def enable(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.enable(tx, viewer.actor, service.vault, ids.key_of(ids.INTEGRATION, uuid))
    return redirect(f"/integrations/{uuid}", messages.ENABLED)


@post("/integrations/{uuid:str}/trust", include_in_schema=False)
async def trust(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """A person confirms that the host key that was offered last replaces the known one."""
    form = await fields(request, viewer)
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        await actions.trust_host_key(tx, viewer.actor, service.vault, key, form.get("fingerprint", ""))
    return redirect(f"/integrations/{uuid}", messages.TRUSTED)


@post("/integrations/{uuid:str}/delete", include_in_schema=False)
async def delete(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        gone = await actions.delete(tx, viewer.actor, service.vault, ids.key_of(ids.INTEGRATION, uuid))
    return redirect("/integrations", messages.INTEGRATION_DELETED.format(name=short_name(base.display_name(gone))))


routes = [show, change, change_flood, try_out, attach, enable, trust, delete]
