"""A report's samples, interpreted by what is known about its server: CPU in percent, times by a correct clock. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tocsin.domain import clocks, cpu, requests
from tocsin.domain.clocks import Clock
from tocsin.domain.cpu import Unit
from tocsin.domain.file_systems import FileSystem
from tocsin.domain.processes import Processes
from tocsin.domain.servers import EARLIEST, TOO_EARLY, TOO_LATE, Row, Verdict

CPU = "cpu_used"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RIGHT = timedelta(seconds=clocks.TOLERANCE)
_EARLIEST = (EARLIEST - _EPOCH).total_seconds()

Refusal = tuple[datetime, str | None, str]
"""The time that a sample was sent with, its metric (or None: all of that time), and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent sent, validated. `attributes` are those of the server that were given; `rows` are by time.

    `cpu_unit` is that of its CPU values, if the report or its sender declares it. `disks` and `failed_units` are as of
    its sending, None if it says nothing of them; with `disks_refused`, there are others that are not among them.
    """

    project_id: UUID
    motherboard_id: str
    attributes: Mapping[str, str | int]
    rows: Sequence[Row]
    cpu_unit: Unit | None = None
    disks: Sequence[FileSystem] | None = None
    disks_refused: bool = False
    failed_units: Sequence[str] | None = None
    processes: Processes | None = None
    origin: str | None = field(default_factory=requests.current)

    @property
    def identity(self) -> tuple[UUID, str]:
        return self.project_id, self.motherboard_id


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of a report. `skew` is by how many seconds the server's clock is ahead, as far as it is known."""

    server_id: UUID
    verdicts: Sequence[Verdict]
    refused: Sequence[Refusal] = ()
    skew: float = 0.0


@dataclass(frozen=True, slots=True)
class Read:
    """The rows to store and judge, the new state of the clock, and the implausible samples that are rejected."""

    rows: Sequence[Row]
    clock: Clock | None
    refused: Sequence[Refusal] = ()


def sends_units(rows: Sequence[Row], cores: int | None) -> bool:
    """Whether CPU values without a declared unit can only be in units."""
    return any(values.get(CPU, 0.0) >= cpu.OVER and cpu.in_units(values[CPU], cores) for _, values in rows)


def read(rows: Sequence[Row], unit: Unit, cores: int | None, clock: Clock | None, arrived: datetime) -> Read:
    """`rows` are ordered by time, as they were sent; `unit` is that of CPU values, `clock` the state so far."""
    rows, refused = _in_percent(rows, unit, cores)
    if clock is None and rows and rows[0][0] >= EARLIEST and -_RIGHT <= rows[-1][0] - arrived <= _RIGHT:
        return Read(rows, None, refused)  # the usual case
    times = [(at - _EPOCH).total_seconds() for at, _ in rows]
    now = (arrived - _EPOCH).total_seconds()
    clock = clocks.follow(clock, times, now)
    skew = clock["skew"] if clock else 0.0
    if not times or (not skew and times[0] >= _EARLIEST and times[-1] - now <= clocks.FUTURE):
        return Read(rows, clock, refused)
    ahead, kept = timedelta(seconds=skew), []
    for taken, (at, values) in zip(times, rows, strict=True):
        if taken - skew < _EARLIEST:
            refused.append((at, None, TOO_EARLY))
        elif taken - skew > now + clocks.FUTURE:
            refused.append((at, None, TOO_LATE))
        else:
            kept.append((at - ahead, values))
    return Read(kept, clock, refused)


def _in_percent(rows: Sequence[Row], unit: Unit, cores: int | None) -> tuple[Sequence[Row], list[Refusal]]:
    if unit == "percent":
        for _, values in rows:
            if values.get(CPU, 0.0) > 100.0:
                break
        else:
            return rows, []
    refused: list[Refusal] = []
    changed: list[Row] = []
    for at, values in rows:
        if CPU in values:
            found = cpu.percent(values[CPU], unit, cores)
            others = {metric: value for metric, value in values.items() if metric != CPU}
            if isinstance(found, str):
                refused.append((at, CPU, found))
                values = others
            else:
                values = {**others, CPU: found}
        if values:
            changed.append((at, values))
    return changed, refused
