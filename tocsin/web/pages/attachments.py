"""Who is notified of a server's or a monitor's incidents, when, and why not; and how that is changed, on its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from tocsin.actions import attachments as actions
from tocsin.domain import ids
from tocsin.domain.attachments import MAX_TYPE_LENGTH, Attachment
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.incidents import Severity
from tocsin.domain.resources.base import Resource, kinds
from tocsin.integrations import base
from tocsin.storage.channels import attachments as stored
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.notifying import plans
from tocsin.storage.notifying.plans import Planned
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import attachment_form, moments
from tocsin.web.render import lasting, page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

FEW = 20
"""Up to this many attached integrations are changed where they stand; more of them on a page of their own each."""
MAX_ATTACHED = 200
MAX_OFFERED = 100
"""Integrations offered for attaching; others are attached on their own pages."""
FAR = timedelta(days=366)
BUTTONS = ("integration", "attach", "attach_all")
"""The fields that name an integration; those of buttons say what to do, too."""
TYPES = {
    "Server": ("downtime", "cpu", "ram", "disk", "swap", "load", "unit_failed"),
    "NetworkMonitor": (
        "connection_error", "timeout", "dns_error", "tls_error", "http_status", "keyword", "content", "slow",
        "packet_loss",
    ),
    "Heartbeat": ("missed", "failed", "overrun"),
    "Source": ("alert",),
    "Probe": ("silent",),
}
"""Types of incident that are suggested, by kind of resource; the first is asked for where none is."""


@dataclass(frozen=True, slots=True)
class Question:
    """An incident that might begin: what the page says who would be notified of. `at` is None for now."""

    type: str
    severity: Severity
    at: datetime | None
    typed_at: str
    asked: bool
    error: str


@dataclass(frozen=True, slots=True)
class Row:
    """An integration on the page of a server or monitor. `why_not` and `held_back` are reasons; `place` is percent."""

    uuid: str
    name: str
    label: str
    problem: str
    everywhere: bool
    repeatable: bool
    attachment: Attachment | None
    limits: list[str]
    after: str
    place: float
    on_duty: tuple[str, str] | None
    why_not: str | None
    held_back: str | None
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """Those who would be notified at one time: in `words`, or at that `moment`."""

    words: str
    moment: datetime | None
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Plan:
    """`told` in the order of time, attached ones that would not be (`not_told`), and those `others` not attached."""

    question: Question
    types: tuple[str, ...]
    told: list[Step]
    not_told: list[Row]
    others: list[Row]
    attached: int
    left_out: int
    in_place: bool


async def plan(
    tx: Tx, service: Service, viewer: Viewer, kind: Resource, resource_id: UUID, request: AnyRequest
) -> Plan:
    """For `who_is_notified` in `notification_plan.html`. The address of the page says what is asked."""
    asked = _question(kind, request.query_params, viewer.zone)
    began = asked.at or datetime.now(UTC)
    found = await plans.plan(tx, viewer.project_id, kind, resource_id, asked.type, asked.severity, began)
    attached = [each for each in found if each.attachment is not None]
    others = [each for each in found if each.attachment is None]
    shown = attached[:MAX_ATTACHED] + others[:MAX_OFFERED]
    wanted = {each.integration_id for each in shown} | {each.on_duty for each in shown if each.on_duty}
    known = {
        each.id: each for each in await integrations.these(tx, service.vault, viewer.project_id, wanted)
    }
    rows = [(each, _row(each, known, viewer.zone)) for each in shown if each.integration_id in known]
    return Plan(
        question=asked,
        types=TYPES.get(kind.type, TYPES["Server"]),
        told=_steps(rows, began),
        not_told=[row for each, row in rows if each.attachment is not None and each.at is None],
        others=[row for each, row in rows if each.attachment is None],
        attached=len(attached),
        left_out=max(0, len(attached) - MAX_ATTACHED),
        in_place=len(attached) <= FEW,
    )


def _question(kind: Resource, query: Mapping[str, Any], zone: str) -> Question:
    type_, severity, typed = (str(query.get(name, "")).strip() for name in ("type", "severity", "at"))
    fits = 0 < len(type_) <= MAX_TYPE_LENGTH and type_.isascii() and type_.isprintable() and " " not in type_
    known: Any = severity if severity in get_args(Severity) else "critical"
    at, error = moments.given(typed, zone), ""
    if typed and (at is None or not abs(at - datetime.now(UTC)) < FAR):
        at, error = None, "must be a time within a year from now"
    return Question(
        type_ if fits else TYPES.get(kind.type, TYPES["Server"])[0], known, at, typed[:32],
        bool(type_ or severity or typed), error,
    )  # fmt: skip


def _row(each: Planned, known: Mapping[UUID, Integration], zone: str) -> Row:
    found, how = known[each.integration_id], each.attachment or Attachment()
    kind, duty = base.of(found.type), known.get(each.on_duty) if each.on_duty else None
    problem = (
        f"disabled: {found.disabled_reason or 'manually'}"
        if found.disabled_at
        else ("failing" if found.failing_since else "")
    )
    return Row(
        uuid=ids.public(ids.INTEGRATION, found.id),
        name=base.display_name(found),
        label=kind.label,
        problem=problem,
        everywhere=found.attach_all or how.to_everything,
        repeatable=kind.repeatable,
        attachment=each.attachment,
        limits=attachment_form.limits(how),
        after=f"after {lasting(how.after)}" if how.after else "at once",
        place=attachment_form.place(how.after),
        on_duty=None if duty is None else (ids.public(ids.INTEGRATION, duty.id), base.display_name(duty)),
        why_not=each.why_not if each.attachment else None,
        held_back=each.held_back,
        values=attachment_form.values(how, zone),
    )


def _steps(rows: list[tuple[Planned, Row]], began: datetime) -> list[Step]:
    steps: list[Step] = []
    for each, row in rows:
        if each.at is None or each.attachment is None:
            continue
        waited = (each.at - began).total_seconds()
        if waited == each.attachment.after:
            words = f"After {lasting(waited)}, unless acknowledged" if waited else "At once"
            step = Step(words, None, [])
        else:
            step = Step("", each.at, [])
        if not steps or (steps[-1].words, steps[-1].moment) != (step.words, step.moment):
            steps.append(step)
        steps[-1].rows.append(row)
    return steps


# ---------------------------------------------------------------------------------------------------------- changes


def _changing(kind: Resource) -> HTTPRouteHandler:
    @post(f"{kind.path}/{{uuid:str}}/integrations", include_in_schema=False)
    async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
        return await _change(uuid, kind, request, viewer, service)

    return change


def _showing(kind: Resource) -> HTTPRouteHandler:
    @get(f"{kind.path}/{{uuid:str}}/integrations/{{integration:str}}", include_in_schema=False)
    async def show(uuid: str, integration: str, viewer: Viewer, service: Service) -> Response[str]:
        return await _form(uuid, kind, integration, viewer, service)

    return show


async def _change(
    uuid: str, kind: Resource, request: AnyRequest, viewer: Viewer, service: Service
) -> Response[str]:
    """`do`, or the button that names the integration: `attach` (which also changes how), `attach_all` (future ones
    included) or `detach`.
    """
    form = await fields(request, viewer)
    pressed = next((name for name in BUTTONS if form.get(name)), "integration")
    integration = form.get(pressed, "")
    wanted = form.get("do", "") if pressed == "integration" else pressed
    try:
        async with transaction(service.pool) as tx:
            message = await _changed(tx, uuid, kind, integration, wanted, form, viewer, service)
    except Refused as refused:
        return await _form(uuid, kind, integration, viewer, service, form, attachment_form.errors(refused))
    return redirect(f"{kind.path}/{uuid}#notified", message)


async def _changed(
    tx: Tx, uuid: str, kind: Resource, integration: str, wanted: str, form: Form, viewer: Viewer, service: Service
) -> str:
    """What to say of it."""
    key = ids.key_of(ids.INTEGRATION, integration)
    if wanted == "detach":
        gone, _ = await actions.detach(tx, viewer.actor, service.vault, kind, uuid, integration)
        return f"{base.display_name(gone)} will no longer be notified."
    given = attachment_form.given(form)
    resource_id = await actions.locked_resource(tx, viewer.project_id, kind, uuid)
    if wanted == "attach_all":
        everywhere = await actions.attach_all(tx, viewer.actor, service.vault, key, given)
        if (here := await stored.one(tx, resource_id, key)) is not None and not here.to_everything:
            await actions.attach(tx, viewer.actor, service.vault, kind, uuid, integration, given)
        return f"{base.display_name(everywhere)} is now notified about all servers and monitors, including future ones."
    made, new = await actions.attach(tx, viewer.actor, service.vault, kind, uuid, integration, given)
    after = made.attachment.after
    when = f" after {lasting(after)}" if after else ("" if new else " at once")
    return f"{base.display_name(made.integration)} will be notified{when}."


async def _form(
    uuid: str, kind: Resource, integration: str, viewer: Viewer, service: Service, typed: Form | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response[str]:
    """How one integration is attached, on a page of its own; also what was refused, to be typed again."""
    async with transaction(service.pool) as tx:
        resource_id = await actions.locked_resource(tx, viewer.project_id, kind, uuid)
        key = ids.key_of(ids.INTEGRATION, integration)
        found = await integrations.one(tx, service.vault, viewer.project_id, key)
        if found is None:
            raise not_found("integration")
        how = await stored.one(tx, resource_id, key)
    planned = Planned(key, found.type, how)
    values = attachment_form.values(how or Attachment(), viewer.zone)
    if typed is not None:
        values |= attachment_form.typed(typed)
    return page(
        "attachment.html", viewer, title=base.display_name(found), status_code=422 if errors else 200,
        row=_row(planned, {key: found}, viewer.zone), values=values, errors=errors or {}, kind=kind, uuid=uuid,
        form=attachment_form,
    )  # fmt: skip


routes = [route(kind) for kind in kinds().values() for route in (_changing, _showing)]
