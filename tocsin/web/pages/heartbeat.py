"""One heartbeat: what to paste, runs by day, latest pings, last output, settings, attachments, and deleting it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from litestar import Response, get, post

from tocsin.actions import heartbeats as actions
from tocsin.actions.heartbeats import HeartbeatFields
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.monitoring import heartbeats, pings, resources
from tocsin.storage.monitoring.heartbeats import Heartbeat
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import attachment_form, messages, run_calendar
from tocsin.web import heartbeat_form as form_of
from tocsin.web.formatting import milliseconds, size
from tocsin.web.pages import attachments, dependencies, silence
from tocsin.web.ranges import MAX_INCIDENTS
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

MAX_PINGS = 15
MAX_RUNS = 3_000
"""Ends of runs that the calendar is made of."""
MAX_SHOWN = 20_000
"""Characters of the last output that the page shows: its end."""
MASK = "********"


@get("/heartbeats/{uuid:str}", include_in_schema=False)
async def show(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    return await _page(uuid, request, viewer, service)


async def _page(
    uuid: str,
    request: AnyRequest,
    viewer: Viewer,
    service: Service,
    typed: Form | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response[str]:
    now = datetime.now(UTC)
    first = run_calendar.start(viewer.zone, now)
    async with service.pool.acquire() as tx:
        found = await _existing(tx, service, viewer, uuid)
        runs = await pings.runs(tx, found.id, first, limit=MAX_RUNS)
        latest = await pings.list_(tx, found.id, limit=MAX_PINGS, offset=0)
        output = await pings.last_body(tx, found.id)
        past = await resources.incidents_of(tx, viewer.project_id, found.id, since=first)
        plan = await attachments.plan(tx, service, viewer, HEARTBEAT, found.id, request)
        silences = await silence.of_resource(tx, viewer.project_id, found.id)
        family = await dependencies.family(tx, viewer.project_id, found.id, found.depends_on)
        slug = found.wanted.slug
        alike = await heartbeats.of_same_slug(tx, viewer.project_id, slug) if slug else 0
    url = f"{service.public_url}/ping/{found.ping_key if viewer.writes else MASK}"
    return page(
        "heartbeat.html", viewer, title=found.wanted.name, status_code=422 if errors else 200, uuid=uuid,
        heartbeat=found, current_status=form_of.state(found), described=form_of.described(found), url=url,
        lines=form_of.lines(url, found.wanted), days=run_calendar.days(runs, viewer.zone, now),
        cut_short=len(runs) == MAX_RUNS, latest=latest, output=_shown(output), milliseconds=milliseconds, size=size,
        incidents=past[:MAX_INCIDENTS], over="5w", ranges={"5w": "five weeks"}, plan=plan, plan_form=attachment_form,
        silences=silences, family=family, alike=alike,
        values=typed if typed is not None else form_of.values(found.wanted), errors=errors or {},
        least=actions.least_period(production=service.settings.production),
    )  # fmt: skip


def _shown(output: tuple[int, str] | None) -> dict[str, Any] | None:
    if output is None:
        return None
    n, text = output
    return {"n": n, "text": text[-MAX_SHOWN:], "cut": len(text) > MAX_SHOWN}


@get("/heartbeats/{uuid:str}/output/{n:int}", include_in_schema=False)
async def output(uuid: str, n: int, viewer: Viewer, service: Service) -> Response[str]:
    """The whole body of a ping, as plain text."""
    async with service.pool.acquire() as tx:
        found = await _existing(tx, service, viewer, uuid)
        body = await pings.body(tx, found.id, n) if 0 < n < 2**63 else None
    if body is None:
        raise not_found("body")
    headers = {
        "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    }  # fmt: skip
    return Response(body, media_type="text/plain", headers=headers)


@post("/heartbeats/{uuid:str}", include_in_schema=False)
async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form, key = await fields(request, viewer), HEARTBEAT.key_of(uuid)
    try:
        given = form_of.given(form)
        async with transaction(service.pool) as tx:
            await actions.change(
                tx, viewer.actor, service.vault, key, given, production=service.settings.production
            )
    except Refused as refused:
        return await _page(uuid, request, viewer, service, typed=form, errors=form_of.errors(refused))
    return redirect(f"/heartbeats/{uuid}", messages.SETTINGS_CHANGED)


@post("/heartbeats/{uuid:str}/pause", include_in_schema=False)
async def pause(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Pauses, which resolves its incidents, or resumes."""
    form = await fields(request, viewer)
    paused = form.get("paused") == "yes"
    async with transaction(service.pool) as tx:
        await actions.change(
            tx, viewer.actor, service.vault, HEARTBEAT.key_of(uuid), HeartbeatFields(paused=paused),
            production=service.settings.production,
        )  # fmt: skip
    message = "Paused: nothing is expected until you resume it." if paused else "Resumed: it is expected to report."
    return redirect(f"/heartbeats/{uuid}", message)


@post("/heartbeats/{uuid:str}/rotate", include_in_schema=False)
async def rotate(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        await actions.rotate(tx, viewer.actor, service.vault, HEARTBEAT.key_of(uuid))
    return redirect(f"/heartbeats/{uuid}", "It has a new address; the old one no longer works.")


@post("/heartbeats/{uuid:str}/delete", include_in_schema=False)
async def delete(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        found = await actions.delete(tx, viewer.actor, service.vault, HEARTBEAT.key_of(uuid))
    return redirect("/heartbeats", f"{found.wanted.name} deleted.")


async def _existing(tx: Tx, service: Service, viewer: Viewer, uuid: str) -> Heartbeat:
    found = await heartbeats.one(tx, service.vault, viewer.project_id, HEARTBEAT.key_of(uuid))
    if found is None:
        raise not_found("heartbeat")
    return found


routes = [show, output, change, pause, rotate, delete]
