"""What agents send: one report of a server's samples, in the form of the public agent."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
import structlog
from litestar import post
from msgspec import UNSET, UnsetType

from tocsin.actions import servers
from tocsin.actions.base import Actor
from tocsin.api.service import Service
from tocsin.api.shapes import Detail
from tocsin.domain import servers as domain
from tocsin.domain.errors import invalid_field
from tocsin.storage import silence
from tocsin.storage.database import UNAVAILABLE
from tocsin.storage.servers import NUMBERS, TEXTS, Report

log = structlog.get_logger()

MOST_SAMPLES = 5_000
MOST_ERRORS = 100
LONGEST_TEXT = 255
HEARTBEAT = 1.0

_LARGEST = {"cpu_cores": 2**31 - 1, "disk_total_bytes": 2**63 - 1, "memory_total_bytes": 2**63 - 1}
_EARLIEST = datetime.min.replace(tzinfo=UTC)

Loose = Any
"""Agents are not all strict about types: a number may come as text and the other way round."""


class Attributes(msgspec.Struct):
    """What the server is. Only its identity is required; what is null, left out or no such thing stays as it was."""

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
    uptime: Loose = None


class ReportShape(msgspec.Struct):
    """`metrics` are objects with `metric`, `value` and `timestamp`; each stands for itself, so one may fail alone."""

    LOOSE: ClassVar = ("metrics",)
    attributes: Attributes
    metrics: list[Any]
    agent_version: Loose


class ReportAnswer(msgspec.Struct):
    """How many samples were taken. `errors` is there only where some were not, and names at most 100 of them."""

    success_count: int
    failure_count: int
    message: str
    errors: list[Detail] | UnsetType = UNSET


async def take(service: Service, caller: Actor, data: ReportShape) -> tuple[int, ReportAnswer]:
    """Store what of a report can be stored: always 201."""
    received, count, errors = parse(data, caller.project_id, datetime.now(UTC))
    await servers.report(service.batches.report, caller, received)
    if not errors:
        return 201, ReportAnswer(count, 0, "All metrics were successfully created")
    message = "Some metrics could not be created" if count else "No metrics could be created"
    return 201, ReportAnswer(count, len(errors), message, errors[:MOST_ERRORS])


@post("/api/v1/server_metrics", summary="Report a server's metrics", opt={"hot": take})
async def report(data: ReportShape, caller: Actor, service: Service) -> ReportAnswer:
    """Stores a server's samples, judges them and opens or resolves what follows. The first report makes the server.

    Of more than 5,000 samples the newest 5,000 are taken.
    """
    _, answer = await take(service, caller, data)
    return answer


def parse(data: ReportShape, project_id: UUID, now: datetime) -> tuple[Report, int, list[Detail]]:
    """The report, how many samples it has, and what is wrong with the others. Raises `Refused` (422)."""
    given = data.attributes
    motherboard_id = _identity("attributes.motherboard_id", given.motherboard_id)
    attributes: dict[str, str | int] = {"agent_version": _identity("agent_version", data.agent_version)}
    for name in TEXTS:
        if text := _text(getattr(given, name)):
            attributes[name] = text[:LONGEST_TEXT]
    for name in NUMBERS:
        number = _whole(getattr(given, name))
        if number is not None and 0 <= number <= _LARGEST[name]:
            attributes[name] = number
    rows: dict[datetime, dict[str, float]] = {}
    count, errors = 0, []
    for index, each in _newest(data.metrics):
        sample = domain.validate(each, now)
        if isinstance(sample, str):
            errors.append(Detail(f"metrics[{index}]", sample))
        else:
            rows.setdefault(sample.at, {})[sample.metric] = sample.value
            count += 1
    return Report(project_id, motherboard_id, attributes, sorted(rows.items())), count, errors


def _newest(metrics: Sequence[Any]) -> Sequence[tuple[int, Any]]:
    numbered = list(enumerate(metrics))
    if len(numbered) <= MOST_SAMPLES:
        return numbered

    def taken(pair: tuple[int, Any]) -> datetime:
        return (domain.moment(pair[1].get("timestamp")) if isinstance(pair[1], dict) else None) or _EARLIEST

    return sorted(heapq.nlargest(MOST_SAMPLES, numbered, key=taken))


def _identity(field: str, given: Loose) -> str:
    text = _text(given)
    if not text:
        raise invalid_field(field, "is required")
    if text.lower() == "unknown":
        raise invalid_field(field, 'must not be "unknown"')
    if len(text) > LONGEST_TEXT:
        raise invalid_field(field, f"must have at most {LONGEST_TEXT} characters")
    return text


def _text(given: Loose) -> str:
    return str(given).strip() if isinstance(given, str | int | float) and not isinstance(given, bool) else ""


def _whole(given: Loose) -> int | None:
    with contextlib.suppress(ValueError, OverflowError):
        if isinstance(given, int | float | str) and not isinstance(given, bool):
            return int(given) if not isinstance(given, str) or len(given) < 30 else None
    return None


async def heartbeat(pool: asyncpg.Pool) -> None:
    """Say once a second that reports are accepted here, until cancelled: without it, no server counts as silent."""
    while True:
        try:
            async with pool.acquire() as tx, tx.transaction():
                await silence.keep_listening(tx)
        except UNAVAILABLE:
            pass  # While the database is away nobody can report; the break is seen when it is back.
        except asyncpg.PostgresError as error:
            log.warning("heartbeat failed", error=type(error).__name__)
        await asyncio.sleep(HEARTBEAT)


routes = [report]
