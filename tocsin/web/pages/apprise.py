"""Apprise: finding one of its services, or pasting an address; a form from the service's description; changing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response, get, post

from tocsin.actions import integrations as actions
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.integrations import base
from tocsin.integrations.apprise import AppriseIntegration
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.postgres.database import transaction
from tocsin.transports.apprise.catalog import Described
from tocsin.web import integration_form, messages
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

KIND = AppriseIntegration()
FIELD = "field-"
"""Before the name of a field in a form, so that none is taken for one of ours."""
MAX_LISTED = 20
MAX_SEARCH_LENGTH = 100


@get("/integrations/apprise", include_in_schema=False)
async def choose(viewer: Viewer, service: Service, find: str = "") -> Response[str]:
    """The services, and a field for an address of one."""
    return await _choice(viewer, service, find[:MAX_SEARCH_LENGTH])


@get("/integrations/apprise/{name:str}", include_in_schema=False)
async def new(viewer: Viewer, service: Service, name: str) -> Response[str]:
    return _form(viewer, await service.apprise_catalog.describe(name), {}, {})


@post("/integrations/apprise", include_in_schema=False)
async def create(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """From the fields of a `service`, or from a `url`."""
    form = await fields(request, viewer)
    name, url = form.get("service", ""), form.get("url", "").strip()
    given: dict[str, Any] = {"service": name, "fields": _given(form)} if name else {"url": url}
    described = await service.apprise_catalog.describe(name) if name else None
    try:
        wanted = actions.new(
            KIND.type, await KIND.consult(given, None, service.apprise), form.get("name", "").strip() or None
        )
        warning = await actions.reachable(KIND, wanted.settings, service.settings.allow_networks)
        async with transaction(service.pool) as tx:
            made = await actions.create(
                tx, viewer.actor, service.vault, wanted, production=service.settings.production
            )
    except Refused as refused:
        if described is None:
            return await _choice(viewer, service, "", _errors(refused))
        return _form(viewer, described, _typed(form), _errors(refused), own_name=form.get("name", ""))
    message = messages.INTEGRATION_MADE.format(name=base.display_name(made))
    return redirect(f"/integrations/{ids.public(ids.INTEGRATION, made.id)}", message, warning=warning)


@get("/integrations/{uuid:str}/apprise", include_in_schema=False)
async def show(uuid: str, viewer: Viewer, service: Service) -> Response[str]:
    """The form of an integration that there is."""
    stored = await _stored(uuid, viewer, service)
    described = await service.apprise_catalog.describe(stored.settings["service"])
    return _form(viewer, described, stored.settings["fields"], {}, stored, uuid, stored.name or "")


@post("/integrations/{uuid:str}/apprise", include_in_schema=False)
async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Its fields and its name; a secret that is left empty is kept."""
    form = await fields(request, viewer)
    stored = await _stored(uuid, viewer, service)
    described = await service.apprise_catalog.describe(stored.settings["service"])
    secret = {each.name for each in described.fields if each.secret}
    given = {"fields": {name: value for name, value in _given(form).items() if value or name not in secret}}
    name = form.get("name", "").strip() or None
    try:
        known = await KIND.consult(given if given["fields"] else {}, stored.settings, service.apprise)
        wanted = KIND.parse(known, stored.settings)
        warning = await actions.reachable(KIND, wanted, service.settings.allow_networks)
        async with transaction(service.pool) as tx:
            await actions.change(
                tx, viewer.actor, service.vault, stored.id, known, name=name, renamed=name != stored.name
            )
    except Refused as refused:
        return _form(viewer, described, _typed(form), _errors(refused), stored, uuid, form.get("name", ""))
    return redirect(f"/integrations/{uuid}", messages.SETTINGS_CHANGED, warning=warning)


async def _stored(uuid: str, viewer: Viewer, service: Service) -> Integration:
    """Raises `Refused` (404) also for one of another type."""
    async with service.pool.acquire() as tx:
        found = await integrations.one(tx, service.vault, viewer.project_id, ids.key_of(ids.INTEGRATION, uuid))
    return actions.existing(found if found is not None and found.type == KIND.type else None)


async def _choice(
    viewer: Viewer, service: Service, find: str, errors: Mapping[str, str] | None = None
) -> Response[str]:
    found = await service.apprise_catalog.services(find)
    return page(
        "apprise.html", viewer, title="Add: Apprise", status_code=422 if errors else 200, kind=KIND, find=find,
        services=found[:MAX_LISTED], more=len(found) - MAX_LISTED, errors=errors or {},
    )  # fmt: skip


def _form(
    viewer: Viewer, described: Described, values: Mapping[str, str], errors: Mapping[str, str],
    stored: Integration | None = None, uuid: str = "", own_name: str = "",
) -> Response[str]:
    kept = stored.settings["secret_fields"].keys() if stored is not None else ()
    return page(
        "apprise_service.html", viewer, title=described.label if stored is None else base.display_name(stored),
        status_code=422 if errors else 200, described=described, values=values, errors=errors, kept=kept, uuid=uuid,
        own_name=own_name, prefix=FIELD,
    )  # fmt: skip


def _given(form: Mapping[str, str]) -> dict[str, str | None]:
    return {key.removeprefix(FIELD): text.strip() or None for key, text in form.items() if key.startswith(FIELD)}


def _typed(form: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in _given(form).items() if text}


def _errors(refused: Refused) -> dict[str, str]:
    """Messages by field; what is said of all together is under `form`."""
    found = integration_form.errors(KIND, refused)
    short = {name.removeprefix("fields."): message for name, message in found.items()}
    return {integration_form.GENERAL if name == "fields" else name: message for name, message in short.items()}


routes = [choose, new, create, show, change]
