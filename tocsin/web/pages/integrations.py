"""The project's integrations: the list, and adding one by a form per type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import integrations as actions
from tocsin.actions import phone_codes, telegram
from tocsin.domain import ids
from tocsin.domain.errors import Refused, invalid
from tocsin.domain.on_call import TYPE
from tocsin.domain.templates.filters import FILTERS
from tocsin.domain.templates.names import NAMES
from tocsin.integrations import base
from tocsin.integrations.base import IntegrationType, Preview
from tocsin.integrations.slack import SlackIntegration
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.storage.channels import integration_list
from tocsin.storage.channels.integration_list import Overview
from tocsin.storage.channels.telegram import TELEGRAM
from tocsin.storage.postgres.database import transaction
from tocsin.web import integration_form, messages, on_call, ready_made
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

PREVIEW = "preview"
"""What the button says that shows what would be sent, and saves nothing."""
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
        shown = [each.integration for each in found[:ROWS]]
        on_duty = await on_call.on_duty_now(tx, service, viewer, shown)
    rows = [
        (each, base.display_name(each.integration), base.of(each.integration.type).label, status_badge(each))
        for each in found[:ROWS]
    ]
    return page(
        "integrations.html", viewer, title="Integrations", rows=rows, number=number, more=len(found) > ROWS,
        on_duty=on_duty,
    )


def status_badge(each: Overview) -> tuple[str, str]:
    """Its status, as a colour and a word."""
    if each.integration.disabled_at:
        return "bad", "disabled"
    if base.of(each.integration.type).unready(each.integration.settings):
        return "warn", "not set up yet"
    if each.unverified:
        return "warn", "address not verified"
    if each.integration.failing_since:
        return "bad", "failing"
    if each.last_status == "delivered":
        return "ok", "working"
    return "", "" if each.last_status or each.integration.type == TYPE else "not used yet"


@get("/integrations/new", include_in_schema=False)
async def new(viewer: Viewer, service: Service, kind: str = "", ready: str = "") -> Response[str]:
    """The types to choose from, or the form of the chosen one; filled in for a service that a webhook is ready for."""
    if kind not in base.types():
        kinds = [
            each for each in base.types().values()
            if each.fields or each.form_page or each.type == SlackIntegration.type
        ]
        return page(
            "integration_types.html", viewer, title="Add an integration", kinds=kinds, slack=SlackIntegration.type,
            has_slack=service.settings.slack is not None, webhook=WebhookIntegration.type, ready_made=ready_made.all_(),
        )  # fmt: skip
    if page_of_its_own := base.of(kind).form_page:
        return redirect(f"/integrations/{page_of_its_own}")
    chosen = ready_made.all_().get(ready) if kind == WebhookIntegration.type else None
    if chosen is None:
        return await _form(service, viewer, base.of(kind), {"timezone": viewer.zone})
    filled = {**integration_form.filled_in(base.of(kind), chosen), "name": chosen.name}
    previews = integration_form.previews(base.of(kind), filled, service.public_url)
    return await _form(service, viewer, base.of(kind), {**filled, "ready": ready}, previews=previews, folded=True)


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
        if form.get("do") == PREVIEW:
            shown = integration_form.previews(kind, form, service.public_url)
            return await _form(service, viewer, kind, form, previews=shown)
        wanted = actions.new(kind.type, given, form.get("name", "").strip() or None)
        warning = await actions.reachable(kind, wanted.settings, service.settings.allow_networks)
        if kind.verification_field and production:
            code = form.get(kind.verification_field.name, "").strip()
            if not code:
                number = given["phone_number"]
                await phone_codes.send(service.pool, viewer.actor, service.vault, service.settings, number)
                return await _form(service, viewer, kind, form, step=2)
            given[kind.verification_field.name] = code
        wanted = await actions.looked_up(wanted, service.settings)
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, service.vault, wanted, production=production)
            if made.type == TELEGRAM and kind.unready(made.settings):
                await telegram.new_code(tx, viewer.actor, service.vault, made.id)
    except Refused as refused:
        step = 2 if kind.verification_field and form.get(kind.verification_field.name) else 1
        return await _form(service, viewer, kind, form, integration_form.errors(kind, refused), step=step)
    message = messages.INTEGRATION_MADE.format(name=base.display_name(made))
    to = f"/integrations/{ids.public(ids.INTEGRATION, made.id)}"
    return redirect(to, message, warning=warning)


async def _form(
    service: Service, viewer: Viewer, kind: IntegrationType, values: Mapping[str, str],
    errors: Mapping[str, str] | None = None, step: int = 1, previews: Sequence[Preview] = (),
    folded: bool = False,
) -> Response[str]:
    async with service.pool.acquire() as tx:
        members = await on_call.to_choose_from(tx, service, viewer) if kind.type == TYPE else []
    hidden, is_webhook = integration_form.hidden(kind), kind.type == WebhookIntegration.type
    services = ready_made.all_() if is_webhook else {}
    ready = services.get(values.get("ready", ""))
    return page(
        "integration_new.html", viewer, title=f"Add: {ready.name if ready else kind.label}",
        status_code=422 if errors else 200, kind=kind,
        values={name: value for name, value in values.items() if name not in hidden}, errors=errors or {}, step=step,
        previews=previews, ready_made=services, ready=ready,
        names=NAMES if is_webhook else {}, filters=FILTERS,
        unfolded=not folded and integration_form.unfolded(kind, values, errors or {}),
        members=members, chosen=integration_form.members(kind, values),
    )


routes = [list_, new, create]
