"""The project's silences: what is silent and what will be, the next two weeks, and making one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import silences as actions
from tocsin.domain import ids
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.resources.base import of_uuid
from tocsin.domain.silences import State, next_spans
from tocsin.storage.notifying import on_call, scope
from tocsin.storage.notifying import silences as stored
from tocsin.storage.notifying.silences import Stored
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import messages, silence_form
from tocsin.web.calendar import Entry, bounds, two_weeks
from tocsin.web.pages.silence import choices, link
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

ROWS = 25
LAST_PAGE = 10_000
STATES: tuple[tuple[State, str, str], ...] = (
    ("active", "Silent now", "warn"), ("planned", "Planned", ""), ("ended", "Ended", ""),
)  # fmt: skip


@get("/silences", include_in_schema=False)
async def list_(
    viewer: Viewer, service: Service, number: Annotated[int, QueryParameter(name="page")] = 1
) -> Response[str]:
    """Each state has its list; further pages are of all three."""
    number, now = min(max(number, 1), LAST_PAGE), datetime.now(UTC)
    async with service.pool.acquire() as tx:
        groups, more = [], False
        for name, title, css in STATES:
            found, total = await stored.list_(
                tx, viewer.project_id, state=name, limit=ROWS, offset=(number - 1) * ROWS
            )
            groups.append((name, title, css, [_row(each, now) for each in found]))
            more |= total > number * ROWS
        days = two_weeks(await _entries(tx, viewer, now), viewer.zone, now) if number == 1 else []
    return page(
        "silences.html", viewer, title="Silences", groups=groups, number=number, more=more, days=days,
        empty=not any(rows for *_, rows in groups),
    )


@get("/silences/new", include_in_schema=False)
async def new(viewer: Viewer, service: Service, resource: str = "") -> Response[str]:
    return await _form(viewer, service, silence_form.fresh(datetime.now(UTC), viewer.zone, resource[:40]))


@post("/silences", include_in_schema=False)
async def create(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer)
    try:
        given = silence_form.given(form)
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, given)
    except Refused as refused:
        return await _form(viewer, service, silence_form.typed(form), silence_form.errors(refused))
    return redirect(link(made.id), _made(made))


@post("/silences/quick", include_in_schema=False)
async def quick(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """The buttons on a resource's page; they lead back there."""
    form, now = await fields(request, viewer), datetime.now(UTC)
    uuid = form.get("resource", "")
    kind = of_uuid(uuid)
    key = kind.key_of(uuid)
    async with transaction(service.pool) as tx:
        named = await scope.named(tx, viewer.project_id, [key], 1)
        if key not in named:
            raise not_found(kind.noun)
        given = silence_form.quick(form.get("for", ""), uuid, named[key][1], viewer.zone, now)
        made = await actions.create(tx, viewer.actor, given)
    return redirect(f"{kind.page(key)}#silences", _made(made))


def _made(made: Stored) -> str:
    words = messages.SILENCE_MADE if made.state == "active" else messages.SILENCE_PLANNED
    return words.format(name=made.silence.name)


async def _entries(tx: Tx, viewer: Viewer, now: datetime) -> list[Entry]:
    """What the calendar shows."""
    shown = bounds(viewer.zone, now)
    found = await stored.spans_of_project(tx, viewer.project_id, *shown)
    duties = await on_call.duties(tx, viewer.project_id, *shown)
    return [
        *(Entry(each.name, "silence", each.starts_at, each.ends_at, link(each.silence_id)) for each in found),
        *(Entry(each.title, "duty", each.starts_at, each.ends_at, each.href) for each in duties),
    ]


def _row(found: Stored, now: datetime) -> dict[str, Any]:
    silence = found.silence
    coming = next_spans(silence.rule, now, 1) if found.state != "ended" else []
    return {
        "name": silence.name,
        "href": link(found.id),
        "uuid": ids.public(ids.SILENCE, found.id),
        "span": coming[0] if coming else None,
        "ends_at": silence.rule.ends_at,
        "repeats": silence_form.repeats_in_words(silence.rule),
        "resources": silence.resources and len(silence.resources),
        "integrations": silence.integrations and len(silence.integrations),
        "types": silence.incident_types,
        "severity": silence.severity,
    }


async def _form(
    viewer: Viewer, service: Service, values: Mapping[str, Any], errors: Mapping[str, str] | None = None
) -> Response[str]:
    async with service.pool.acquire() as tx:
        offered = await choices(tx, service, viewer, values)
    return page(
        "silence_new.html", viewer, title="New silence", status_code=422 if errors else 200, values=values,
        errors=errors or {}, **offered,
    )


routes = [list_, new, create, quick]
