"""Reports of agents: one report of a server's samples, in the form of the public agent."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
import structlog
from litestar import Request, post
from msgspec import UNSET, UnsetType

from tocsin.actions import servers
from tocsin.actions.base import Actor, system
from tocsin.api.body import LONG_LIMIT
from tocsin.api.schemas import Detail
from tocsin.api.service import Service
from tocsin.domain import clocks, file_systems, names, processes, units
from tocsin.domain import servers as domain
from tocsin.domain.cpu import Unit
from tocsin.domain.errors import invalid_field
from tocsin.domain.reports import Refusal, Report
from tocsin.storage.monitoring.servers import AT_ONCE, NUMBERS, TEXTS
from tocsin.storage.postgres.database import UNAVAILABLE, transaction

log = structlog.get_logger()

MAX_SAMPLES = 5_000
MAX_ERRORS = 100
MAX_TEXT_LENGTH = 255
HEARTBEAT = 1.0
IN_UNITS = "Go-http-client/"
"""The user agent of the public agent, which sends CPU values in units."""

_LARGEST = {
    "cpu_cores": 2**31 - 1, "disk_total_bytes": 2**63 - 1, "memory_total_bytes": 2**63 - 1,
    "swap_total_bytes": 2**63 - 1,
}  # fmt: skip
_EARLIEST = datetime.min.replace(tzinfo=UTC)

Loose = Any
"""Agents are not all strict about types: a number may come as text and vice versa."""

Indexed = tuple[int, domain.Sample]


class Attributes(msgspec.Struct):
    """Attributes of the server. Only its identity is required; what is null, omitted or invalid stays as it was."""

    motherboard_id: Loose = None
    mac_address: Loose = None
    cpu_cores: Loose = None
    cpu_model: Loose = None
    hostname: Loose = None
    public_ip: Loose = None
    private_ip: Loose = None
    operating_system: Loose = None
    kernel_version: Loose = None
    disk_total_bytes: Loose = None
    memory_total_bytes: Loose = None
    swap_total_bytes: Loose = None
    uptime: Loose = None
    cpu_unit: Loose = None


class ReportShape(msgspec.Struct):
    """`metrics` are objects with `metric`, `value` and `timestamp`; each may fail alone, as may each of the others.

    The others are as of now, and optional. `disks` are all mounted file systems, at most 64: `mount`, `used` and
    `total` in bytes, `inodes` in percent (or null). `failed_units` are the names of systemd units, at most 50.
    `processes` are those that use most, by `cpu` and by `ram`, at most 10 each: `name`, and `share` in percent of the
    whole machine.
    """

    LOOSE: ClassVar = ("metrics", "disks", "failed_units", "processes")
    attributes: Attributes
    metrics: list[Any]
    agent_version: Loose
    disks: Loose = None
    failed_units: Loose = None
    processes: Loose = None


class ReportAnswer(msgspec.Struct):
    """How many samples were stored. `errors` is present only if some were not, and lists at most 100 of them.

    `warnings` is present only for problems that did not reject samples, such as the machine's clock.
    """

    success_count: int
    failure_count: int
    message: str
    errors: list[Detail] | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


async def take(
    service: Service, caller: Actor, data: ReportShape, user_agent: str | None
) -> tuple[int, ReportAnswer]:
    """Store the valid part of a report: always 201."""
    if len(data.metrics) <= AT_ONCE:
        received, samples, errors, others = parse(data, caller.project_id, user_agent)
    else:
        received, samples, errors, others = await asyncio.to_thread(parse, data, caller.project_id, user_agent)
    recorded = await servers.report(service.batches.report, caller, received)
    count = len(samples)
    if recorded.refused:
        late = _refused(samples, recorded.refused)
        count -= len(late)
        errors = sorted(errors + late)
    warnings: list[str] | UnsetType = UNSET
    if recorded.skew:
        warnings = [f"This machine's clock is {clocks.describe(recorded.skew)}. {clocks.CONSEQUENCE}"]
    if not errors and not others:
        return 201, ReportAnswer(count, 0, "All metrics were successfully created", warnings=warnings)
    message = "Some metrics could not be created" if count else "No metrics could be created"
    details = [Detail(f"metrics[{index}]", what) for index, what in errors[:MAX_ERRORS]]
    details += [Detail(*each) for each in others[: MAX_ERRORS - len(details)]]
    return 201, ReportAnswer(count, len(errors) + len(others), message, details, warnings)


@post(
    "/api/v1/server_metrics", summary="Report a server's metrics", request_max_body_size=LONG_LIMIT,
    opt={"hot": take, "hot_header": b"user-agent"},
)  # fmt: skip
async def report(data: ReportShape, caller: Actor, service: Service, request: Request[Any, Any, Any]) -> ReportAnswer:
    """Stores a server's samples, judges them and opens or resolves incidents. The first report creates the server.

    Of more than 5,000 samples the newest 5,000 are stored. `cpu_used` is percent if `attributes.cpu_unit` is
    `percent`; if absent, too, except for agents in Go, whose values are units of 1,024 for each core, as are
    those of a server that has once sent more than 100. What an agent sends besides is judged, too: each file system by
    its own alert, failed units; the processes are shown with what they may explain.
    """
    _, answer = await take(service, caller, data, request.headers.get("user-agent"))
    return answer


def parse(
    data: ReportShape, project_id: UUID, user_agent: str | None
) -> tuple[Report, list[Indexed], list[tuple[int, str]], list[tuple[str, str]]]:
    """The report, its valid samples with their index, what is wrong with other samples, and with all else by field.

    Raises `Refused` (422).
    """
    given = data.attributes
    motherboard_id = _identity("attributes.motherboard_id", given.motherboard_id)
    attributes: dict[str, str | int] = {"agent_version": _identity("agent_version", data.agent_version)}
    for name in TEXTS:
        text = names.line(_text(getattr(given, name))[: 4 * MAX_TEXT_LENGTH])
        if not names.is_blank(text):
            attributes[name] = names.cut(text, MAX_TEXT_LENGTH)
    for name in NUMBERS:
        number = _whole(getattr(given, name))
        if number is not None and 0 <= number <= _LARGEST[name]:
            attributes[name] = number
    rows: dict[datetime, dict[str, float]] = {}
    samples: list[Indexed] = []
    errors: list[tuple[int, str]] = []
    for index, each in _newest(data.metrics):
        sample = domain.validate(each)
        if isinstance(sample, str):
            errors.append((index, sample))
        else:
            rows.setdefault(sample.at, {})[sample.metric] = sample.value
            samples.append((index, sample))
    unit = _cpu_unit(given.cpu_unit, user_agent)
    disks, bad_disks = file_systems.valid(data.disks)
    failed_units, bad_units = units.valid(data.failed_units)
    most, bad_processes = processes.valid(data.processes)
    received = Report(
        project_id, motherboard_id, attributes, sorted(rows.items()), unit, disks, bool(bad_disks), failed_units, most
    )
    return received, samples, errors, [*bad_disks, *bad_units, *bad_processes]


def _cpu_unit(declared: Loose, user_agent: str | None) -> Unit | None:
    if declared == "percent":
        return "percent"
    return "units" if user_agent is not None and user_agent.startswith(IN_UNITS) else None


def _refused(samples: Iterable[Indexed], refused: Iterable[Refusal]) -> list[tuple[int, str]]:
    what = {(at, metric): words for at, metric, words in refused}
    problems = ((index, what.get((each.at, each.metric)) or what.get((each.at, None))) for index, each in samples)
    return [(index, words) for index, words in problems if words is not None]


def _newest(metrics: Sequence[Any]) -> Sequence[tuple[int, Any]]:
    numbered = list(enumerate(metrics))
    if len(numbered) <= MAX_SAMPLES:
        return numbered

    def taken(pair: tuple[int, Any]) -> datetime:
        return (domain.moment(pair[1].get("timestamp")) if isinstance(pair[1], dict) else None) or _EARLIEST

    return sorted(heapq.nlargest(MAX_SAMPLES, numbered, key=taken))


def _identity(field: str, given: Loose) -> str:
    text = _text(given)
    if names.is_blank(text):
        raise invalid_field(field, "is required")
    if text.lower() == "unknown":
        raise invalid_field(field, 'must not be "unknown"')
    if len(text) > MAX_TEXT_LENGTH:
        raise invalid_field(field, f"must have at most {MAX_TEXT_LENGTH} characters")
    return text


def _text(given: Loose) -> str:
    return str(given).strip() if isinstance(given, str | int | float) and not isinstance(given, bool) else ""


def _whole(given: Loose) -> int | None:
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(given, int | float | str) and not isinstance(given, bool):
            return int(given) if not isinstance(given, str) or len(given) < 30 else None
    return None


async def heartbeat(pool: asyncpg.Pool) -> None:
    """Record every second that reports are accepted here, until cancelled: without it, no server counts as down."""
    while True:
        try:
            async with transaction(pool) as tx:
                await servers.record_api_alive(tx, system())
        except UNAVAILABLE:
            pass  # While the database is unavailable nobody can report; the break is noticed afterwards.
        except asyncpg.PostgresError as error:
            log.warning("heartbeat failed", error=type(error).__name__)
        await asyncio.sleep(HEARTBEAT)


routes = [report]
