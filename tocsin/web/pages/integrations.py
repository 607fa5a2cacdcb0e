"""The project's integrations: the list, and adding one by a form per type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import integrations as actions
from tocsin.actions import phone_codes
from tocsin.domain import ids
from tocsin.domain.errors import Refused, invalid
from tocsin.integrations import base
from tocsin.integrations.base import IntegrationType
from tocsin.integrations.slack import SlackIntegration
from tocsin.storage.channels import integration_list
from tocsin.storage.channels.integration_list import Overview
from tocsin.storage.postgres.database import transaction
from tocsin.web import integration_form, messages
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

ROWS = 50
LAST_PAGE = 2_000


@get("/integrations", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    number = min(max(number, 1), LAST_PAGE)
    async with service.pool.acquire() as tx:
        found = await integration_list.page(
            tx, service.vault, viewer.project_id, limit=ROWS + 1, offset=(number - 1) * ROWS
        )
    rows = [
        (each, base.display_name(each.integration), base.of(each.integration.type).label, status_badge(each))
        for each in found[:ROWS]
    ]
    return page(
        "integrations.html", viewer, title="Integrations", rows=rows, number=number, more=len(found) > ROWS
    )


def status_badge(each: Overview) -> tuple[str, str]:
    """Its status, as a colour and a word."""
    if each.integration.disabled_at:
        return "bad", "disabled"
    if each.unverified:
        return "warn", "address not verified"
    if each.integration.failing_since:
        return "bad", "failing"
    if each.last_status == "delivered":
        return "ok", "working"
    return "", "" if each.last_status else "not used yet"


@get("/integrations/new", include_in_schema=False)
async def new(viewer: Viewer, service: Service, kind: str = "") -> Response[str]:
    """The types to choose from, or the form of the chosen one."""
    if kind not in base.types():
        kinds = [each for each in base.types().values() if each.fields or each.type == SlackIntegration.type]
        return page(
            "integration_types.html", viewer, title="Add an integration", kinds=kinds, slack=SlackIntegration.type,
            has_slack=service.settings.slack is not None,
        )  # fmt: skip
    return _form(viewer, base.of(kind), {})


@post("/integrations", include_in_schema=False)
async def create(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Creates it; in production a phone number must be verified first, which is the second step."""
    form = await fields(request, viewer)
    kind = base.of(form.get("kind", ""))
    production = service.settings.production
    try:
        if not kind.fields:
            raise invalid(f"A {kind.label} integration cannot be created by a form")
        given = integration_form.given(kind, form)
        wanted = actions.new(kind.type, given, form.get("name", "").strip() or None)
        warning = await actions.reachable(kind, wanted.settings, service.settings.allow_networks)
        if kind.verification_field and production:
            code = form.get(kind.verification_field.name, "").strip()
            if not code:
                number = given["phone_number"]
                await phone_codes.send(service.pool, viewer.actor, service.vault, service.settings, number)
                return _form(viewer, kind, form, step=2)
            given[kind.verification_field.name] = code
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, service.vault, wanted, production=production)
    except Refused as refused:
        step = 2 if kind.verification_field and form.get(kind.verification_field.name) else 1
        return _form(viewer, kind, form, integration_form.errors(kind, refused), step=step)
    message = messages.INTEGRATION_MADE.format(name=base.display_name(made))
    to = f"/integrations/{ids.public(ids.INTEGRATION, made.id)}"
    return redirect(to, message, warning=warning)


def _form(
    viewer: Viewer, kind: IntegrationType, values: Mapping[str, str], errors: Mapping[str, str] | None = None,
    step: int = 1,
) -> Response[str]:
    hidden = {each.name for each in kind.fields if each.name in kind.secret_settings}
    return page(
        "integration_new.html", viewer, title=f"Add: {kind.label}", status_code=422 if errors else 200, kind=kind,
        values={name: value for name, value in values.items() if name not in hidden}, errors=errors or {}, step=step,
    )


routes = [list_, new, create]
