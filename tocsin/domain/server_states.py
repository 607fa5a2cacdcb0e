"""What reports make of a server: its latest values, the counts of its alerts, and the verdicts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from tocsin.domain import clocks, file_systems, reports, servers, units
from tocsin.domain.clocks import Clock
from tocsin.domain.cpu import Unit
from tocsin.domain.file_systems import DISK, FileSystem
from tocsin.domain.incidents import CLOCK, Severity
from tocsin.domain.reports import Read, Recorded, Report
from tocsin.domain.server_alerts import Alerts
from tocsin.domain.servers import Verdict, Watch
from tocsin.domain.units import UNIT_FAILED

LastMetrics = dict[str, list[float]]
"""By metric: the latest value, and its time in seconds since 1970."""


class Reported(TypedDict, total=False):
    """What its agent said last; what it says nothing of is absent."""

    disks: list[FileSystem]
    failed_units: list[str]


EXPLAINED_BY_PROCESSES = frozenset({"cpu", "ram", "swap", "load"})
"""Types of incident that are told with the processes that use most at that time."""


@dataclass(slots=True)
class State:
    """A locked server, while reports are applied to it one after the other.

    `ongoing` are its incidents by type and key; `changed` if something about the machine itself did.
    """

    id: UUID
    project_id: UUID
    motherboard_id: str
    attributes: dict[str, Any]
    alerts: Alerts
    cpu_unit: Unit | None
    last_metrics: LastMetrics
    watch: Watch
    clock: Clock | None
    now: datetime
    reported: Reported
    ongoing: dict[tuple[str, str], Severity] = field(default_factory=dict)
    changed: bool = False

    @property
    def name(self) -> str:
        return str(self.attributes["hostname"] or self.motherboard_id)

    def ongoing_by_key(self, type_: str) -> dict[str, Severity]:
        """What is ongoing of that type and has a key, by it."""
        return {key: severity for (each, key), severity in self.ongoing.items() if each == type_ and key}


def read(state: State, report: Report) -> Read:
    """Interpret a report; what it says about its server is stored in the state."""
    changes = {name: value for name, value in report.attributes.items() if state.attributes[name] != value}
    state.attributes |= changes
    cores = state.attributes["cpu_cores"]
    if report.cpu_unit != "percent" and state.cpu_unit is None and reports.sends_units(report.rows, cores):
        state.cpu_unit = changes["cpu_unit"] = "units"
    state.changed = state.changed or bool(changes)
    before = state.clock
    found = reports.read(report.rows, report.cpu_unit or state.cpu_unit or "percent", cores, before, state.now)
    state.clock = found.clock
    if before is not None and (found.clock is None or found.clock["skew"] != before["skew"]):
        _set_back(state)
    return found


def _set_back(state: State) -> None:
    """Its clock jumped back: drop what it reported for the future, so that it does not block new samples."""
    now = state.now.timestamp()
    state.watch = {kind: track for kind, track in state.watch.items() if track["at"] <= now}
    for latest in state.last_metrics.values():
        latest[1] = min(latest[1], now)


def apply(state: State, report: Report, found: Read) -> Recorded:
    """One report's effect on its server."""
    for at, values in found.rows:
        taken = at.timestamp()
        for metric, value in values.items():
            if metric not in state.last_metrics or state.last_metrics[metric][1] <= taken:
                state.last_metrics[metric] = [value, taken]
    verdicts = _judge(state, report, found)
    if ("downtime", "") in state.ongoing:
        verdicts.append(Verdict("downtime", "recovered", "A report arrived"))
    lasting = (CLOCK, "") in state.ongoing
    if state.clock is not None or lasting:
        state.clock, about_clock = clocks.judge(state.clock, lasting, state.now.timestamp(), state.name)
        verdicts += about_clock
    for verdict in verdicts:
        if verdict.kind == "over":
            state.ongoing[verdict.type, verdict.key] = verdict.severity
        else:
            state.ongoing.pop((verdict.type, verdict.key), None)
    return Recorded(state.id, verdicts, found.refused, state.clock["skew"] if state.clock else 0.0)


def _judge(state: State, report: Report, found: Read) -> list[Verdict]:
    one_by_one, verdicts = _judge_disks(state, report)
    alerts = state.alerts if one_by_one is None else {**state.alerts, "disk": None}
    watch, of_samples = servers.judge(
        state.watch, found.rows, alerts, _totals(state.attributes),
        {type_: severity for (type_, key), severity in state.ongoing.items() if not key}, state.now, state.name,
    )  # fmt: skip
    if report.processes:
        of_samples = [_with_processes(each, report) for each in of_samples]
    of_units: Watch = {kind: track for kind, track in state.watch.items() if kind.startswith("unit:")}
    if report.failed_units is not None:
        state.reported = {**state.reported, "failed_units": list(report.failed_units)}
        of_units, about_units = units.judge(
            state.watch, report.failed_units, state.alerts.get("unit_failed"), state.ongoing_by_key(UNIT_FAILED),
            state.now, state.name,
        )  # fmt: skip
        verdicts += about_units
    state.watch = watch | (one_by_one or {}) | of_units
    return of_samples + verdicts


def _judge_disks(state: State, report: Report) -> tuple[Watch | None, list[Verdict]]:
    """The counts of its file systems (None: they are not watched one by one), and the verdicts on them."""
    ended = []
    if report.disks is None and report.disks_refused:
        return {each: track for each, track in state.watch.items() if each.startswith(("disk:", "disk.warning:"))}, []
    if report.disks is None:
        if "disks" in state.reported:
            state.reported = {}
            ended = [
                Verdict(DISK, "recovered", "Its agent does not report file systems any more", key=mount)
                for mount in sorted(state.ongoing_by_key(DISK))
            ] + [
                Verdict(UNIT_FAILED, "recovered", "Its agent does not report units any more", key=unit)
                for unit in sorted(state.ongoing_by_key(UNIT_FAILED)) if report.failed_units is None
            ]
        return None, ended
    if "disks" not in state.reported and (DISK, "") in state.ongoing:
        ended = [Verdict(DISK, "recovered", "Its file systems are watched one by one from now on")]
    state.reported = {**state.reported, "disks": list(report.disks)}
    watch, verdicts = file_systems.judge(
        state.watch, report.disks, state.alerts, state.ongoing_by_key(DISK), not report.disks_refused, state.now,
        state.name,
    )  # fmt: skip
    return watch, ended + verdicts


def _with_processes(verdict: Verdict, report: Report) -> Verdict:
    if verdict.kind == "recovered" or verdict.type not in EXPLAINED_BY_PROCESSES:
        return verdict
    return replace(verdict, details={"processes": report.processes})


def _totals(attributes: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "ram": attributes["memory_total_bytes"],
        "disk": attributes["disk_total_bytes"],
        "swap": attributes["swap_total_bytes"],
        "load": attributes["cpu_cores"],
    }
