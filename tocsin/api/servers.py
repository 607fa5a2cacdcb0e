"""Servers: reading them and their time series, changing their alerts, deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from litestar import delete, get, patch
from litestar.params import Parameter, QueryParameter
from msgspec import UNSET, UnsetType

from tocsin.actions import dependencies
from tocsin.actions import servers as actions
from tocsin.actions.base import Actor
from tocsin.api.schemas import Explanation, Page, explanations, seconds
from tocsin.api.service import Service
from tocsin.domain import servers as domain
from tocsin.domain.errors import invalid_field, not_found
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.domain.server_alerts import SUGGESTED, Alerts
from tocsin.storage.monitoring import samples, servers
from tocsin.storage.monitoring.servers import Server
from tocsin.storage.notifying import dependencies as parents_of
from tocsin.storage.notifying.dependencies import Parent
from tocsin.storage.postgres.database import Tx, transaction

MAX_POINTS = 1_000
MAX_POINTS_ASKED = 10_000
DAY = 86_400
MAX_RANGE = timedelta(days=3660)
MAX_RESOLUTION = 31 * DAY
RESOLUTIONS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY)


class LastMetric(msgspec.Struct):
    """The latest value of a metric, and when the agent took it."""

    value: float
    timestamp: str


class ServerDisk(msgspec.Struct):
    """A mounted file system: bytes in use and in all, and percent of its inodes in use (null: it has no limit)."""

    mount: str
    used: int
    total: int
    inodes: float | None


class ServerShape(msgspec.Struct):
    """A server. `alerts` are the thresholds it is judged by; null means off.

    `disks` and `failed_units` are as of its last report; null means that its agent does not report them.

    `explained_by`: what it depends on and is down, while that explains all that is wrong with it: it is unreachable.
    """

    uuid: str
    hostname: str | None
    public_ip: str | None
    private_ip: str | None
    mac_address: str | None
    motherboard_id: str
    cpu_cores: int | None
    cpu_model: str | None
    operating_system: str | None
    kernel_version: str | None
    disk_total_bytes: int | None
    memory_total_bytes: int | None
    swap_total_bytes: int | None
    agent_version: str
    last_metrics: dict[str, LastMetric]
    disks: list[ServerDisk] | None
    failed_units: list[str] | None
    alerts: Alerts
    depends_on: list[str | list[str]]
    explained_by: list[Explanation]
    created_at: str
    updated_at: str


class LevelChange(msgspec.Struct):
    """Percent from which a value is over, and the seconds that it must stay there before an incident opens."""

    threshold: float | UnsetType = UNSET
    for_: float | UnsetType = msgspec.field(name="for", default=UNSET)


class ThresholdChange(LevelChange):
    """A level, and below it another whose incident is only a warning, until the value is over the first; null: none."""

    warning: LevelChange | UnsetType | None = UNSET


class DowntimeChange(msgspec.Struct):
    """Seconds without a report after which the server counts as down; at least 5."""

    after: float | UnsetType = UNSET


class UnitFailedChange(msgspec.Struct):
    """Seconds that a systemd unit must have failed; one incident for each unit, kept apart by its name."""

    for_: float | UnsetType = msgspec.field(name="for", default=UNSET)


class AlertsChange(msgspec.Struct):
    """What is left out stays as it is; null switches an alert off.

    `disk` is for each file system without an entry in `disks`, by mount point; `disks` replaces all such entries. Where
    an agent reports no file systems, `disk` is for the first disk alone. `load` is percent of the cores: 100 is one
    running process for each. `swap`, `load` and `unit_failed` are off at first.
    """

    cpu: ThresholdChange | UnsetType | None = UNSET
    ram: ThresholdChange | UnsetType | None = UNSET
    disk: ThresholdChange | UnsetType | None = UNSET
    downtime: DowntimeChange | UnsetType | None = UNSET
    disks: dict[str, ThresholdChange | None] | UnsetType | None = UNSET
    swap: ThresholdChange | UnsetType | None = UNSET
    load: ThresholdChange | UnsetType | None = UNSET
    unit_failed: UnitFailedChange | UnsetType | None = UNSET


class ServerFields(msgspec.Struct):
    """What is left out stays. While any of those that it `depends_on` is down, nobody is notified of its downtime; of
    an inner list, all must be down.
    """

    alerts: AlertsChange | UnsetType = UNSET
    depends_on: list[str | list[str]] | UnsetType | None = UNSET


class ServerChange(msgspec.Struct):
    server: ServerFields


class MetricPoint(msgspec.Struct):
    """The mean of one metric over the bucket of time that begins at `timestamp`."""

    metric: str
    timestamp: str
    value: float


class SeriesMeta(msgspec.Struct, rename={"from_": "from"}):
    """The range, and the seconds that one point covers."""

    from_: str
    to: str
    resolution: int


class Series(msgspec.Struct):
    data: list[MetricPoint]
    meta: SeriesMeta


@get("/api/v1/servers", summary="List servers")
async def list_(caller: Actor, service: Service, asked: Page) -> list[ServerShape]:
    """The project's servers, oldest first."""
    async with service.pool.acquire() as tx:
        found = await servers.list_(tx, caller.project_id, limit=asked.per_page, offset=asked.offset)
        return await _shapes(tx, found)


@get("/api/v1/servers/{uuid:str}", summary="Get a server")
async def one(uuid: str, caller: Actor, service: Service) -> ServerShape:
    """One server with the latest value of each of its metrics."""
    async with service.pool.acquire() as tx:
        found = _existing(await servers.one(tx, caller.project_id, SERVER.key_of(uuid)))
        return (await _shapes(tx, [found]))[0]


@patch("/api/v1/servers/{uuid:str}", summary="Change a server's alerts or dependencies")
async def change(uuid: str, data: ServerChange, caller: Actor, service: Service) -> ServerShape:
    """Changes when the server's samples, or its downtime, open an incident, and what it depends on."""
    key, parents = SERVER.key_of(uuid), data.server.depends_on
    async with transaction(service.pool) as tx:
        if parents is not UNSET:
            await dependencies.change(tx, caller, SERVER, key, parents)
        if data.server.alerts is not UNSET or parents is UNSET:
            alerts = data.server.alerts
            given = msgspec.to_builtins(alerts) if alerts is not UNSET else {}
            await actions.change_alerts(tx, caller, key, given)
        return (await _shapes(tx, [_existing(await servers.one(tx, caller.project_id, key))]))[0]


@delete("/api/v1/servers/{uuid:str}", summary="Delete a server")
async def remove(uuid: str, caller: Actor, service: Service) -> None:
    """Deletes a server and resolves its incidents. An agent that goes on reporting creates it again."""
    async with transaction(service.pool) as tx:
        await actions.delete(tx, caller, SERVER.key_of(uuid))


@get("/api/v1/servers/{uuid:str}/metrics", summary="Get a server's time series")
async def series(
    uuid: str,
    caller: Actor,
    service: Service,
    start: Annotated[
        str | None, QueryParameter(name="from", description="ISO 8601; 24 hours before `to` unless given.")
    ] = None,
    end: Annotated[str | None, QueryParameter(name="to", description="ISO 8601; now unless given.")] = None,
    metric: Annotated[
        list[str] | None, QueryParameter(name="metric", description="One or more metrics, repeated or with commas.")
    ] = None,
    resolution: Annotated[
        int | None,
        Parameter(ge=1, le=MAX_RESOLUTION, description="Seconds for each point; chosen by the range unless given."),
    ] = None,
) -> Series:
    """Averages over buckets of `resolution` seconds, oldest first; at most 1,000 for each metric unless given."""
    now = datetime.now(UTC)
    until = _moment("to", end) if end else now
    since = _moment("from", start) if start else max(until, _FIRST + _ONE_DAY) - _ONE_DAY
    if since >= until:
        raise invalid_field("from", "must be before to")
    if until - since > MAX_RANGE:
        raise invalid_field("from", f"must be at most {MAX_RANGE.days} days before to")
    span = (until - since).total_seconds()
    metrics = _metrics(metric)
    step = resolution or fitting_resolution(span)
    if span / step > MAX_POINTS_ASKED:
        raise invalid_field(
            "resolution",
            f"gives more than {MAX_POINTS_ASKED} points; for this range, {-(-int(span) // MAX_POINTS_ASKED)} is fine",
        )
    raw_since = (now - timedelta(days=service.settings.retention_raw)).replace(minute=0, second=0, microsecond=0)
    async with service.pool.acquire() as tx:
        server = _existing(await servers.one(tx, caller.project_id, SERVER.key_of(uuid)))
        points = await samples.series(
            tx, server.id, since, until, metrics=metrics, resolution=step, raw_since=raw_since
        )
    data = [MetricPoint(point.metric, seconds(point.at), point.value) for point in points]
    return Series(data, SeriesMeta(seconds(since), seconds(until), step))


_ONE_DAY = timedelta(days=1)
_FIRST = datetime.min.replace(tzinfo=UTC)


def fitting_resolution(span: float) -> int:
    """The finest usual number of seconds that cuts `span` seconds into at most 1,000 buckets, wherever they start."""
    least = span / (MAX_POINTS - 1)
    for resolution in RESOLUTIONS:
        if resolution >= least:
            return resolution
    return -int(-least // DAY) * DAY


def _moment(field: str, text: str) -> datetime:
    # A plus sign in a URL arrives as a space.
    at = domain.moment(text.replace(" ", "+") if "T" in text.upper() else f"{text}T00:00:00")
    if at is None:
        raise invalid_field(field, "must be a time such as 2025-05-01T10:00:00Z")
    return at


def _metrics(asked: list[str] | None) -> frozenset[str]:
    named = [name.strip() for part in asked or () for name in part.split(",") if name.strip()]
    for name in named:
        if name not in domain.METRICS:
            raise invalid_field("metric", f"must be one of: {', '.join(domain.METRICS)}")
    return frozenset(named or domain.METRICS)


def _existing(server: Server | None) -> Server:
    if server is None:
        raise not_found("server")
    return server


async def _shapes(tx: Tx, found: Sequence[Server]) -> list[ServerShape]:
    why = await parents_of.explanations(tx, [server.id for server in found if server.depends_on])
    return [_shape(server, why.get(server.id, ())) for server in found]


def _shape(server: Server, explained_by: Sequence[Parent]) -> ServerShape:
    same: dict[str, Any] = {
        name: getattr(server, name) for name in (*servers.ATTRIBUTES, "motherboard_id")
    }
    return ServerShape(
        **same,
        alerts=_in_order(server.alerts),
        depends_on=server.depends_on,
        explained_by=explanations(explained_by),
        disks=server.disks and [ServerDisk(**each) for each in server.disks],  # type: ignore[arg-type]
        failed_units=server.failed_units,
        uuid=SERVER.public(server.id),
        last_metrics={
            metric: LastMetric(value, seconds(datetime.fromtimestamp(taken, UTC)))
            for metric, (value, taken) in server.last_metrics.items()
        },
        created_at=seconds(server.created_at),
        updated_at=seconds(server.updated_at),
    )


def _in_order(alerts: Any) -> Any:
    """Alerts as they are documented: the database stores the names of an object in its own order."""
    found = {kind: alerts.get(kind) and _fields(alerts[kind]) for kind in SUGGESTED}
    disks = alerts.get("disks") or {}
    return {**found, "disks": {mount: disks[mount] and _fields(disks[mount]) for mount in sorted(disks)}}


def _fields(alert: Any) -> Any:
    found = {name: alert[name] for name in ("threshold", "for", "after") if name in alert}
    return found | ({"warning": _fields(alert["warning"])} if "warning" in alert else {})


routes = [list_, one, change, remove, series]
