"""One server: charts, incidents, alerts and attachments, and deleting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from litestar import Response, get, post

from tocsin.actions import servers as actions
from tocsin.domain import clocks, server_alerts
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.monitoring import resources, samples, server_list
from tocsin.storage.monitoring.resources import Past
from tocsin.storage.monitoring.server_list import ServerOverview
from tocsin.storage.monitoring.servers import Server
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web import attachment_form, readings
from tocsin.web.charts import Chart, Line, Point, line_chart, per_second
from tocsin.web.formatting import rate, size
from tocsin.web.pages import attachments, dependencies, silence
from tocsin.web.ranges import DEFAULT_RANGE, MAX_INCIDENTS, Range, chosen
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Form, Service, Viewer, fields, redirect

SHOWN = ("cpu_used", "mem_used_b", "disk_used_b", "net_sent_b", "net_recv_b", "swap_used_b", "load_1m")
LIMITED = {"cpu": "CPU", "ram": "RAM", "disk": "Disk", "swap": "Swap", "load": "Load"}
OPTIONAL = ("swap", "load")
"""Without a chart where they are not reported."""


@get("/servers/{uuid:str}", include_in_schema=False)
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
) -> Response[str]:
    shown = chosen(over)
    now = datetime.now(UTC)
    start = now - shown.span
    async with service.pool.acquire() as tx:
        watched = await server_list.one(tx, viewer.project_id, SERVER.key_of(uuid))
        if watched is None:
            raise not_found("server")
        past = await resources.incidents_of(tx, viewer.project_id, watched.server.id, since=start)
        points = await _points(tx, watched.server.id, start, now, shown.resolution)
        plan = await attachments.plan(tx, service, viewer, SERVER, watched.server.id, request)
        silences = await silence.of_resource(tx, viewer.project_id, watched.server.id)
        family = await dependencies.family(tx, viewer.project_id, watched.server.id, watched.server.depends_on)
    return page(
        "server.html", viewer, title=readings.name(watched.server), status_code=422 if errors else 200,
        uuid=uuid, server=watched.server, seen_at=watched.seen_at, current_status=readings.state(watched, now),
        readings=readings.readings(watched.server) + readings.more_readings(watched.server),
        facts=_facts(watched.server), disks=readings.file_systems(watched.server), gone=readings.is_gone(watched, now),
        clock=f"Its clock is {clocks.describe(watched.skew)}. {clocks.CONSEQUENCE}" if watched.skew else "",
        charts=_charts(watched, points, past, start, now, shown, viewer.zone), **shown.context(),
        incidents=past[:MAX_INCIDENTS], plan=plan, plan_form=attachment_form, silences=silences, family=family,
        alerts=typed if typed is not None else _written(watched.server.alerts), errors=errors or {}, limited=LIMITED,
        own_disks=_own_alerts(watched.server),
    )  # fmt: skip


@post("/servers/{uuid:str}/alerts", include_in_schema=False)
async def change_alerts(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Alerts without a tick are switched off, as by `null` in the API."""
    form = await fields(request, viewer)
    given: dict[str, object] = dict.fromkeys(LIMITED)
    for kind in filter(form.get, LIMITED):
        warning = _level(form, f"{kind}.warning") if form.get(f"{kind}.warning") else None
        given[kind] = {**_level(form, kind), "warning": warning}
    given["unit_failed"] = {"for": _number(form, "unit_failed.for")} if form.get("unit_failed") else None
    given["downtime"] = {"after": _number(form, "downtime.after")} if form.get("downtime") else None
    try:
        async with transaction(service.pool) as tx:
            await actions.change_alerts(tx, viewer.actor, SERVER.key_of(uuid), given)
    except Refused as refused:
        if refused.status != 422:
            raise
        errors = {each.field.removeprefix("alerts."): each.message for each in refused.details}
        return await _page(uuid, request, viewer, service, typed=form, errors=errors)
    return redirect(f"/servers/{uuid}#alerts", "Alerts saved. They apply from now on.")


@post("/servers/{uuid:str}/disks", include_in_schema=False)
async def change_disk(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Give one file system an alert of its own, or none, or that of all others."""
    form = await fields(request, viewer)
    mount, choice, key = form.get("mount", ""), form.get("choice", ""), SERVER.key_of(uuid)
    try:
        async with transaction(service.pool) as tx:
            watched = await server_list.one(tx, viewer.project_id, key)
            if watched is None:
                raise not_found("server")
            disks: dict[str, Any] = dict(watched.server.alerts.get("disks") or {})
            before = disks.pop(mount, None) or watched.server.alerts["disk"] or server_alerts.SUGGESTED["disk"]
            if choice in ("own", "off"):
                disks[mount] = _own(form, before) if choice == "own" else None
            await actions.change_alerts(tx, viewer.actor, key, {"disks": disks})
    except Refused as refused:
        if refused.status != 422:
            raise
        what = refused.details[0].message if refused.details else refused.message
        return redirect(f"/servers/{uuid}#disks", f"{mount}: {what}", good=False)
    return redirect(f"/servers/{uuid}#disks", f"The alert of {mount} is saved. It applies from now on.")


@post("/servers/{uuid:str}/delete", include_in_schema=False)
async def delete(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    await fields(request, viewer)
    async with transaction(service.pool) as tx:
        found = await actions.delete(tx, viewer.actor, SERVER.key_of(uuid))
    return redirect("/servers", f"{readings.name(found)} deleted.")


# ------------------------------------------------------------------------------------------------------------ charts


async def _points(tx: Tx, server_id: UUID, start: datetime, end: datetime, resolution: int) -> dict[str, list[Point]]:
    """By metric. Long ranges are read from hourly roll-ups, short ones from raw samples."""
    if resolution >= 3_600:
        found = await samples.hours(tx, server_id, start, end, metrics=SHOWN, resolution=resolution)
    else:
        found = await samples.series(
            tx, server_id, start, end, metrics=SHOWN, resolution=resolution, raw_since=start
        )
    points: dict[str, list[Point]] = {metric: [] for metric in SHOWN}
    for each in found:
        points[each.metric].append((each.at, each.value))
    return points


def _charts(
    watched: ServerOverview,
    points: Mapping[str, Sequence[Point]],
    past: Sequence[Past],
    start: datetime,
    end: datetime,
    shown: Range,
    zone: str,
) -> list[Chart]:
    server = watched.server
    common: dict[str, Any] = {
        "start": start, "end": end, "over": shown.label, "zone": zone, "means": shown.mean_of,
    }  # fmt: skip
    charts = []
    for kind, label, metric, total in (
        ("cpu", "CPU", "cpu_used", 100),
        ("ram", "RAM", "mem_used_b", server.memory_total_bytes),
        ("disk", "Disk", "disk_used_b", server.disk_total_bytes),
        ("swap", "Swap", "swap_used_b", server.swap_total_bytes),
        ("load", "Load in percent of the cores", "load_1m", server.cpu_cores),
    ):
        if kind in OPTIONAL and not points[metric]:
            continue
        alerts: Any = server.alerts
        shaded = [(each.created_at, each.closed_at or end) for each in past if each.type in (kind, "downtime")]
        found, latest = list(points[metric]), _latest(server, metric)
        own: dict[str, Any] = {"words": size}
        if total:
            found, latest = ([(at, 100.0 * value / total) for at, value in each] for each in (found, latest))
            limit = alerts[kind]["threshold"] if alerts.get(kind) else None
            top = max(100.0, limit or 0.0, *(value for _, value in found)) if kind == "load" else 100.0
            own = {"top": top, "threshold": limit, "alarms": sum(each.type == kind for each in past)}
        own["latest"] = latest[0] if latest else None
        charts.append(line_chart(kind, label, [Line(label, found)], shaded=shaded, **own, **common))
    shaded = [(each.created_at, each.closed_at or end) for each in past if each.type == "downtime"]
    lines = [
        Line(name, per_second(_whole(points[metric], end, shown.resolution)))
        for name, metric in (("received", "net_recv_b"), ("sent", "net_sent_b"))
    ]
    return [*charts, line_chart("net", "Network", lines, words=rate, shaded=shaded, **common)]


def _latest(server: Server, metric: str) -> list[Point]:
    """The latest value, if there is one."""
    value, taken = server.last_metrics.get(metric, (0.0, None))
    return [] if taken is None else [(datetime.fromtimestamp(taken, UTC), value)]


def _whole(points: Sequence[Point], end: datetime, resolution: int) -> list[Point]:
    """Without the bucket that is not complete yet: its mean would distort the rate of a counter."""
    return [point for point in points if point[0] + timedelta(seconds=resolution) <= end]


# ------------------------------------------------------------------------------------------------------------- words


def _facts(server: Server) -> list[tuple[str, str]]:
    cores = f" × {server.cpu_cores}" if server.cpu_cores else ""
    facts = (
        ("System", " ".join(filter(None, (server.operating_system, server.kernel_version)))),
        ("Processor", f"{server.cpu_model or ''}{cores}".strip(" ×") if server.cpu_model else cores.strip(" ×")),
        ("Memory", size(server.memory_total_bytes) if server.memory_total_bytes else ""),
        ("Disk", size(server.disk_total_bytes) if server.disk_total_bytes else ""),
        ("Addresses", ", ".join(filter(None, (server.public_ip, server.private_ip)))),
        ("Agent", server.agent_version),
    )
    return [(name, value) for name, value in facts if value]


def _written(alerts: Any) -> dict[str, str]:
    """Alerts as form values; those that are off have no tick."""
    written = {}
    for kind, default in server_alerts.SUGGESTED.items():
        if alerts.get(kind):
            written[kind] = "on"
        alert = dict(alerts.get(kind) or default)
        if kind in LIMITED:
            if "warning" in alert:
                written[f"{kind}.warning"] = "on"
            for field, value in alert.pop("warning", _milder(alert)).items():
                written[f"{kind}.warning.{field}"] = f"{value:g}"
        for field, value in alert.items():
            written[f"{kind}.{field}"] = f"{value:g}"
    return written


def _own(form: Form, before: Mapping[str, Any]) -> dict[str, object]:
    warning = None
    if form.get("warning", "").strip():
        warning = {"threshold": _number(form, "warning"), "for": before["for"]}
    return {"threshold": _number(form, "threshold"), "for": before["for"], "warning": warning}


def _own_alerts(server: Server) -> dict[str, str]:
    """In words, by mount point: the alerts that only one file system has."""
    found = {}
    for mount, alert in sorted((server.alerts.get("disks") or {}).items()):
        found[mount] = "alert off"
        if alert:
            milder = f", a warning from {alert['warning']['threshold']:g} %" if "warning" in alert else ""
            found[mount] = f"alert at {alert['threshold']:g} %{milder}"
    return found


def _milder(alert: Mapping[str, float]) -> dict[str, float]:
    """The warning level that is suggested where there is none."""
    return {"threshold": max(1.0, alert["threshold"] - 10), "for": alert["for"]}


def _level(form: Form, name: str) -> dict[str, object]:
    return {field: _number(form, f"{name}.{field}") for field in ("threshold", "for")}


def _number(form: Form, name: str) -> object:
    """The input as a number, or unchanged if it is not one: the rules refuse it with a message."""
    text = form.get(name, "").strip().replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return text


routes = [show, change_alerts, change_disk, delete]
