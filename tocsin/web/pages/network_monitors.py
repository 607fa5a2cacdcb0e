"""The project's network monitors: the list, and adding one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from litestar import Response, get, post
from litestar.params import QueryParameter

from tocsin.actions import monitor_tries
from tocsin.actions import monitors as actions
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import MonitorConfig, Result
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.monitoring import checks, monitors, places
from tocsin.storage.monitoring.monitors import TIMES_OVER, Monitor, Sort
from tocsin.storage.postgres.database import transaction
from tocsin.web import monitor_form
from tocsin.web.formatting import milliseconds, percent
from tocsin.web.readings import unreachable
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect
from tocsin.web.sparklines import sparkline

ROWS = 25
LAST_PAGE = 100_000
BEATS = 30
"""Checks in a sparkline."""
SORTS: Mapping[str, tuple[str, Sort]] = {
    "status": ("Problems first", "status"), "created_at": ("Newest first", "created_at"),
}  # fmt: skip
STATES = {
    "error": ("bad", "down"), "unreachable": ("warn", "unreachable"),
    "success": ("ok", "up"), "pending": ("warn", "not up yet"), "paused": ("", "paused"),
}  # fmt: skip


@get("/network_monitors", include_in_schema=False)
async def list_(
    viewer: Viewer,
    service: Service,
    q: str = "",
    sort: str = "status",
    number: Annotated[int, QueryParameter(name="page")] = 1,
) -> Response[str]:
    number, search = min(max(number, 1), LAST_PAGE), q.strip()[:200]
    sort = sort if sort in SORTS else "status"
    async with service.pool.acquire() as tx:
        found, total = await monitors.list_(
            tx, viewer.project_id, search=search, sort=SORTS[sort][1], limit=ROWS, offset=(number - 1) * ROWS
        )
        latest = await checks.latest(tx, [each.id for each in found], each=BEATS)
        now = datetime.now(UTC)
        times = await checks.percentiles_of(tx, [each.id for each in found], now - TIMES_OVER, now)
    rows = [
        {
            "id": each.id,
            "name": each.wanted.name,
            "url": each.wanted.target.url,
            "state": state(each),
            "uptime": each.uptime,
            "times": times.get(each.id),
            "response_ms": each.last_response_ms,
            "last_check_at": each.last_check_at,
            "spark": sparkline(
                "Response time", [(check.response_ms, check.ok) for check in reversed(latest[each.id])], places=BEATS
            ),
        }
        for each in found
    ]
    return page(
        "network_monitors.html", viewer, title="Monitors", rows=rows, search=search, sort=sort, number=number,
        sorts={name: words for name, (words, _) in SORTS.items()}, more=total > number * ROWS,
        milliseconds=milliseconds, percent=percent,
    )


@get("/network_monitors/new", include_in_schema=False)
async def new(viewer: Viewer, service: Service) -> Response[str]:
    return await _form(viewer, service, monitor_form.FRESH)


@post("/network_monitors", include_in_schema=False)
async def create(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Starts monitoring; a target that cannot be reached is monitored all the same, with a warning."""
    form = await fields(request, viewer)
    try:
        wanted = actions.wanted(monitor_form.given(form), None, production=service.settings.production)
        warning = await actions.reachable(wanted, service.settings.allow_networks)
        async with transaction(service.pool) as tx:
            made = await actions.create(tx, viewer.actor, service.vault, wanted)
    except Refused as refused:
        return await _form(viewer, service, form, monitor_form.errors(refused))
    message = f"{short_name(wanted.name)} is now monitored."
    to = f"/network_monitors/{NETWORK_MONITOR.public(made.id)}"
    return redirect(to, message, warning=warning)


@post("/network_monitors/try", include_in_schema=False)
async def try_(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """One check, whose whole answer is shown above the form; nothing is saved."""
    form = await fields(request, viewer)
    try:
        wanted = actions.wanted(monitor_form.given(form), None, production=service.settings.production)
        result = await tried(wanted, viewer, service)
    except Refused as refused:
        return await _form(viewer, service, form, monitor_form.errors(refused))
    return await _form(viewer, service, form, result=result)


async def tried(wanted: MonitorConfig, viewer: Viewer, service: Service) -> Result:
    """One check of what is wanted. Raises `Refused`, also for too many (429)."""
    await actions.reachable(wanted, service.settings.allow_networks)
    async with transaction(service.pool) as tx:
        await monitor_tries.take(tx, viewer.actor)
    return await monitor_tries.look(wanted, service.settings.allow_networks)


def state(monitor: Monitor) -> tuple[str, str]:
    """The badge: its kind (`ok`, `warn`, `bad`) and its text."""
    return unreachable(monitor.explained_by) if monitor.status == "unreachable" else STATES[monitor.status]


def short_name(name: str) -> str:
    """The name for use in a sentence: the host if it is an address."""
    try:
        return urlsplit(name).hostname or name if "://" in name else name
    except ValueError:  # a name may be anything
        return name


async def _form(
    viewer: Viewer, service: Service, values: Mapping[str, str], errors: Mapping[str, str] | None = None,
    result: Result | None = None,
) -> Response[str]:  # fmt: skip
    async with service.pool.acquire() as tx:
        known = await places.known(tx, viewer.project_id)
    return page(
        "network_monitor_new.html", viewer, title="Add a monitor", status_code=422 if errors else 200, values=values,
        errors=errors or {}, least=actions.least_interval(production=service.settings.production), form=monitor_form,
        known=known, result=result, milliseconds=milliseconds,
    )


routes = [list_, new, create, try_]
