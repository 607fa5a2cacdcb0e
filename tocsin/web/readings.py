"""A server's status and readings, in words and meters, for lists and headings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from tocsin.domain import file_systems as domain
from tocsin.domain import server_alerts, servers
from tocsin.domain.incidents import WARNINGS
from tocsin.storage.monitoring.server_list import ServerOverview
from tocsin.storage.monitoring.servers import Server
from tocsin.storage.notifying.dependencies import Parent
from tocsin.web.formatting import percent, size
from tocsin.web.sparklines import meter

TROUBLE = {
    "cpu": "CPU high", "ram": "RAM high", "disk": "disk nearly full", "downtime": "down", "clock": "clock wrong",
    "swap": "swap nearly full", "load": "load high", "unit_failed": "unit failed",
}  # fmt: skip
SLACK = 30.0
"""Seconds beyond its downtime alert before a server is shown as silent: an incident may be about to open."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading: its label, in percent, in words, and as a meter."""

    label: str
    value: str
    detail: str
    meter: Markup


def state(watched: ServerOverview, now: datetime) -> tuple[str, str]:
    """The badge: its kind (`ok`, `warn`, `bad`) and its text."""
    if watched.explained_by:
        return unreachable(watched.explained_by)
    if "downtime" in watched.ongoing:
        return "bad", TROUBLE["downtime"]
    if watched.ongoing:
        kind = "warn" if WARNINGS.issuperset(watched.ongoing) else "bad"
        return kind, ", ".join(TROUBLE.get(each, each.replace("_", " ")) for each in watched.ongoing)
    after = (watched.server.alerts["downtime"] or {"after": server_alerts.DEFAULT_AFTER})["after"]
    if (now - watched.seen_at).total_seconds() > after + SLACK:
        return "warn", "not reporting"
    return ("ok", "up") if watched.server.last_metrics else ("warn", "no readings yet")


def is_gone(watched: ServerOverview, now: datetime) -> bool:
    """Whether it looks as if it was gone for good, so that it is offered to be removed."""
    return now - watched.seen_at >= servers.GONE_AFTER


def unreachable(explained_by: Sequence[Parent]) -> tuple[str, str]:
    """The badge of what is behind something that is down."""
    names = " and ".join(each.name for each in explained_by[:2]) + (" …" if len(explained_by) > 2 else "")
    return "warn", f"unreachable: {names} {'is' if len(explained_by) == 1 else 'are'} down"


def name(server: Server) -> str:
    return server.hostname or server.motherboard_id


def more_readings(server: Server) -> list[Reading]:
    """Swap and load, as far as they are reported."""
    found = []
    last: Any = {name: value for name, (value, _) in server.last_metrics.items()}
    if "swap_used_b" in last and server.swap_total_bytes:
        share = 100.0 * last["swap_used_b"] / server.swap_total_bytes
        detail = f"{size(last['swap_used_b'])} of {size(server.swap_total_bytes)}"
        found.append(Reading("Swap", percent(share), detail, meter(share, _limit(server, "swap"))))
    if "load_1m" in last:
        cores = server.cpu_cores
        share = 100.0 * last["load_1m"] / cores if cores else 0.0
        detail = f"{percent(share)} of {cores} core{'s' if cores > 1 else ''}" if cores else ""
        found.append(Reading("Load", f"{last['load_1m']:.2f}", detail, meter(share, _limit(server, "load"))))
    return found


def file_systems(server: Server) -> list[Reading]:
    """The mounted file systems, the fullest first, if they are reported."""
    found = []
    for each in sorted(server.disks or (), key=lambda each: (-domain.percent(each), each["mount"])):
        share, alert = domain.percent(each), server_alerts.for_disk(server.alerts, each["mount"])
        detail = f"{size(each['used'])} of {size(each['total'])}"
        if each["inodes"] is not None:
            detail += f", {percent(each['inodes'])} of its inodes"
        bar = meter(share, alert["threshold"] if alert else None)
        found.append(Reading(each["mount"], percent(share), detail, bar))
    return found


def _limit(server: Server, kind: str) -> float | None:
    alerts: Any = server.alerts
    return alerts[kind]["threshold"] if alerts.get(kind) else None


def readings(server: Server) -> list[Reading]:
    """CPU, RAM and disk, as far as they are reported."""
    found = []
    for label, kind, metric, total in (
        ("CPU", "cpu", "cpu_used", None),
        ("RAM", "ram", "mem_used_b", server.memory_total_bytes),
        ("Disk", "disk", "disk_used_b", server.disk_total_bytes),
    ):
        if metric not in server.last_metrics:
            continue
        value = server.last_metrics[metric][0]
        alerts: Any = server.alerts
        limit = alerts[kind]["threshold"] if alerts.get(kind) else None
        if kind == "cpu":
            cores = f"{server.cpu_cores} core{'s' if server.cpu_cores > 1 else ''}" if server.cpu_cores else ""
            found.append(Reading(label, percent(value), cores, meter(value, limit)))
        elif total:
            share = 100.0 * value / total
            found.append(Reading(label, percent(share), f"{size(value)} of {size(total)}", meter(share, limit)))
        else:
            found.append(Reading(label, size(value), "", Markup("")))
    return found
