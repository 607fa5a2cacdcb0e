"""What other systems send to a source: parsed with bounds, read by its type, taken in one transaction, kept to be seen.

The answer is 2xx only once what was said is committed; where it cannot be taken at present it is 503, and never 429, at
which senders give up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
import structlog

from tocsin.actions import sources as actions
from tocsin.actions.base import system
from tocsin.api.bounded_json import check_extent, fault, may_fault, parse
from tocsin.api.service import Service
from tocsin.domain.alerts import Alert
from tocsin.domain.errors import Refused
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.domain.sources.base import Left, Note, Said, Unreadable, Wrong
from tocsin.domain.ttl_cache import TTLCache
from tocsin.storage.monitoring.alerts import Became, Taken
from tocsin.storage.monitoring.source_bodies import Kind
from tocsin.storage.monitoring.sources import Source
from tocsin.storage.postgres.database import UNAVAILABLE, transaction

log = structlog.get_logger(__name__)

MAX_ALERTS = 5_000
"""In one body."""
NAMED = 5
"""Bad alerts of a body that the answer names."""
A_TURN = 50
"""Alerts that are read before others get a turn: under two milliseconds."""
KEPT_SECONDS, KEPT = 10.0, {"taken": 3, "refused": 20, "note": 20}
"""Bodies of a source that a process keeps in so many seconds: those that are understood, like as they are, cost more to
keep than to take.
"""

_kept: TTLCache[tuple[asyncpg.Pool, str, str], list[None]] = TTLCache(2_000, KEPT_SECONDS)


@dataclass(slots=True)
class Reading:
    """What a body says."""

    alerts: list[Alert] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left: int = 0
    notes: list[str] = field(default_factory=list)


def parsed(body: bytes) -> object:
    """The JSON of a body, with what cannot be stored replaced by U+FFFD. Raises `Refused` (400, 413)."""
    check_extent(body)
    value = parse(body, loose=True)
    return _storable(value) if may_fault(body) and fault(value) is not None else value


def _storable(value: object) -> object:
    """Recursive, because nothing that was parsed is deep."""
    if isinstance(value, dict):
        return {str(_storable(name)): _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    return value if fault(value) is None else str(value)


async def read(service: Service, said: Iterator[Said]) -> Reading:
    """All that a body says, with turns for others in between. Raises `Unreadable` if it is too much."""
    async with service.reading:
        return await _read(said)


async def _read(said: Iterator[Said]) -> Reading:
    found = Reading()
    for number, each in enumerate(said, 1):
        match each:
            case Alert():
                found.alerts.append(each)
            case Wrong(reason):
                found.wrong.append(reason)
            case Left(alerts):
                found.left += alerts
            case Note(text):
                found.notes.append(text)
        if number > MAX_ALERTS:
            raise Unreadable(f"it has more than {MAX_ALERTS:,} alerts; send fewer at once")
        if number % A_TURN == 0:
            await asyncio.sleep(0)
    return found


async def take(service: Service, source: Source, body: bytes, reading: Reading) -> Became:
    """Take what was read, and keep the body. Raises `Refused` (503 where it cannot be taken now, 400 for bad alerts,
    whose neighbours are taken all the same).
    """
    actor = system(source.project_id, source.wanted.name)
    became = Became()
    if reading.alerts:
        given = Taken(source.id, source.project_id, reading.alerts)
        try:
            became = await actions.take(service.batches.alerts, actor, given)
            if became.gone:
                raise Refused(404, "source_not_found", "The source was deleted")
            for incident in became.to_acknowledge:
                async with transaction(service.pool) as tx:
                    await actions.acknowledge(tx, actor, service.vault, incident, source.wanted.name)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if isinstance(error, UNAVAILABLE):
                raise
            log.error("alerts could not be taken", source=SOURCE.public(source.id), error=type(error).__name__)
            raise Refused(503, "unavailable", "It could not be taken at present; try again") from None
    if reading.wrong:
        named = "; ".join(reading.wrong[:NAMED])
        more = f"; and {len(reading.wrong) - NAMED:,} more" if len(reading.wrong) > NAMED else ""
        reason = f"{named}{more}"
        await keep(service, source, "refused", f"{reason}. Of the rest: {in_words(became, reading)}", body)
        raise Refused(400, "invalid_request", f"These cannot be taken: {reason}. The rest was taken")
    await keep(service, source, "note" if reading.notes else "taken", in_words(became, reading), body)
    return became


def in_words(became: Became, reading: Reading) -> str:
    """What became of a body."""
    counts = {
        "opened": became.opened, "changed": became.changed, "still ongoing": became.ongoing,
        "resolved": became.resolved, "acknowledged": len(became.to_acknowledge),
        "without effect": became.nothing,
        "left out by its sender, of which nothing is known": reading.left,
    }  # fmt: skip
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    notes = [f"a note, not an alert: {each}" for each in reading.notes]
    return ", ".join([*said, *notes]) or "it has no alerts"


async def keep(service: Service, source: Source, kind: Kind, became: str, body: bytes) -> None:
    """Keep a body to be looked at, unless many were kept just now. That it cannot be kept is nobody's trouble."""
    place = (service.pool, source.key, kind)
    lately = _kept.get(place)
    if lately is None:
        lately = []
        _kept.put(place, lately, time.monotonic())
    if len(lately) >= KEPT[kind]:
        return
    lately.append(None)
    with suppress(*UNAVAILABLE, asyncpg.PostgresError):
        async with transaction(service.pool) as tx:
            actor = system(source.project_id, source.wanted.name)
            await actions.keep_body(tx, actor, source, kind, became, body)


def now() -> datetime:
    return datetime.now(UTC)
