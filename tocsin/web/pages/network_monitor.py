"""One network monitor: response times, uptime by day, latest checks, settings, attachments, and deleting it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from litestar import Response, get, post

from tocsin.actions import monitors as actions
from tocsin.actions.monitors import MonitorFields
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.monitors import Result
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.delivery import flapping
from tocsin.storage.monitoring import checks, monitors, probe_list, resources
from tocsin.storage.monitoring import places as stored_places
from tocsin.storage.monitoring.monitors import UPTIME_DAYS, Monitor
from tocsin.storage.postgres.database import transaction
from tocsin.web import attachment_form, messages, monitor_form, places
from tocsin.web.charts import Line, line_chart
from tocsin.web.formatting import milliseconds, percent
from tocsin.web.pages import attachments, dependencies, silence
from tocsin.web.pages.network_monitors import short_name, state, tried
from tocsin.web.ranges import DEFAULT_RANGE, MAX_INCIDENTS, chosen
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect
from tocsin.web.sparklines import Day, day_bars

MAX_CHECKS, MAX_WITH_PLACES = 10, 20
"""Latest checks that are shown; more where several places check."""


@get("/network_monitors/{uuid:str}", include_in_schema=False)
async def show(
    uuid: str, request: AnyRequest, viewer: Viewer, service: Service, over: str = DEFAULT_RANGE
) -> Response[str]:
    return await _page(uuid, request, viewer, service, over)


async def _page(
    uuid: str,
    request: AnyRequest,
    viewer: Viewer,
    service: Service,
    over: str = DEFAULT_RANGE,
    typed: Form | None = None,
    errors: Mapping[str, str] | None = None,
    result: Result | None = None,
) -> Response[str]:
    shown = chosen(over)
    now = datetime.now(UTC)
    start = now - shown.span
    first = now.astimezone(ZoneInfo(viewer.zone)).date() - timedelta(days=UPTIME_DAYS - 1)
    days = [first + timedelta(days=number) for number in range(UPTIME_DAYS)]
    async with service.pool.acquire() as tx:
        found = _existing(await monitors.one(tx, service.vault, viewer.project_id, NETWORK_MONITOR.key_of(uuid)))
        past = await resources.incidents_of(tx, viewer.project_id, found.id, since=start)
        times = await checks.response_times(tx, found.id, start, now, resolution=shown.resolution)
        percentiles = (await checks.percentiles_of(tx, [found.id], start, now)).get(found.id)
        how = (await flapping.of(tx, [found.id])).get(found.id)
        by_day = await checks.days(tx, found.id, [datetime.combine(day, time(), ZoneInfo(viewer.zone)) for day in days])
        saw = found.seen_from
        offered = await stored_places.known(tx, viewer.project_id)
        known = await probe_list.ids_of(tx, [each.place for each in saw])
        latest = (await checks.latest(tx, [found.id], each=MAX_WITH_PLACES if saw else MAX_CHECKS))[found.id]
        plan = await attachments.plan(tx, service, viewer, NETWORK_MONITOR, found.id, request)
        silences = await silence.of_resource(tx, viewer.project_id, found.id)
        family = await dependencies.family(tx, viewer.project_id, found.id, found.depends_on)
    chart = line_chart(
        "response", "Response time", [Line("Response time", times)], start=start, end=now, over=shown.label,
        zone=viewer.zone, words=milliseconds, means=shown.mean_of,
        latest=next(((each.at, each.response_ms) for each in latest if each.ok and each.response_ms is not None), None),
        shaded=[(each.created_at, each.closed_at or now) for each in past],
    )  # fmt: skip
    return page(
        "network_monitor.html", viewer, title=found.wanted.name, status_code=422 if errors else 200, uuid=uuid,
        monitor=found, current_status=state(found), chart_now=chart, **shown.context(), percentiles=percentiles,
        flapping=how if how is not None and how.steady_at > now else None,
        bars=day_bars(f"Uptime over {UPTIME_DAYS} days", [Day(day, by_day.get(day)) for day in days]), first_day=first,
        uptime=None if found.uptime is None else percent(found.uptime), milliseconds=milliseconds, latest=latest,
        incidents=past[:MAX_INCIDENTS], plan=plan, plan_form=attachment_form, silences=silences, family=family,
        values=typed if typed is not None else monitor_form.values(found.wanted), errors=errors or {}, result=result,
        form=monitor_form, known=offered, state=places.state, called=places.called,
        undecided=places.undecided(saw), saw=[(each, places.called(each.place), known.get(each.place)) for each in saw],
        least=actions.least_interval(production=service.settings.production),
    )  # fmt: skip


@post("/network_monitors/{uuid:str}", include_in_schema=False)
async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form, key = await fields(request, viewer), NETWORK_MONITOR.key_of(uuid)
    production = service.settings.production
    try:
        given = monitor_form.given(form)
        async with service.pool.acquire() as tx:
            before = _existing(await monitors.one(tx, service.vault, viewer.project_id, key))
        wanted = actions.wanted(given, before.wanted, production=production)
        warning = await actions.reachable(wanted, service.settings.allow_networks)
        async with transaction(service.pool) as tx:
            await actions.change(tx, viewer.actor, service.vault, key, given, production=production)
    except Refused as refused:
        return await _page(uuid, request, viewer, service, typed=form, errors=monitor_form.errors(refused))
    return redirect(f"/network_monitors/{uuid}", messages.SETTINGS_CHANGED, warning=warning)


@post("/network_monitors/{uuid:str}/try", include_in_schema=False)
async def try_(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """One check with the settings in the form; nothing is saved."""
    form, key = await fields(request, viewer), NETWORK_MONITOR.key_of(uuid)
    try:
        async with service.pool.acquire() as tx:
            before = _existing(await monitors.one(tx, service.vault, viewer.project_id, key))
        given = monitor_form.given(form)
        wanted = actions.wanted(given, before.wanted, production=service.settings.production)
        result = await tried(wanted, viewer, service)
    except Refused as refused:
        return await _page(uuid, request, viewer, service, typed=form, errors=monitor_form.errors(refused))
    return await _page(uuid, request, viewer, service, typed=form, result=result)


@post("/network_monitors/{uuid:str}/pause", include_in_schema=False)
async def pause(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Pauses, which resolves its incidents, or resumes at once."""
    form = await fields(request, viewer)
    paused = form.get("paused") == "yes"
    given, key = MonitorFields(paused=paused), NETWORK_MONITOR.key_of(uuid)
    async with transaction(service.pool) as tx:
        await actions.change(tx, viewer.actor, service.vault, key, given, production=service.settings.production)
    message = "Paused: no checks run until you resume it." if paused else "Resumed: checks run again."
    return redirect(f"/network_monitors/{uuid}", message)


@post("/network_monitors/{uuid:str}/delete", include_in_schema=False)
async def delete(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        found = await actions.delete(tx, viewer.actor, service.vault, NETWORK_MONITOR.key_of(uuid))
    return redirect("/network_monitors", f"{short_name(found.wanted.name)} deleted.")


def _existing(found: Monitor | None) -> Monitor:
    if found is None:
        raise not_found("network_monitor")
    return found


routes = [show, change, try_, pause, delete]
