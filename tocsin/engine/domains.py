"""Asks registries when the registrations of domains end, and has their monitors judged by that."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

import asyncpg
import structlog

from tocsin.domain import rdap as rules
from tocsin.engine.connectivity import Connectivity
from tocsin.storage.monitoring import domains
from tocsin.storage.monitoring.domains import Recorded
from tocsin.transports.rdap import Rdap, RdapFailed

log = structlog.get_logger(__name__)

BATCH = 10
PAUSE = 5.0
"""Seconds between two looks."""
TIDY_EVERY = 3600.0
DAY = timedelta(days=1)
AGAIN_AFTER_FAILURE = timedelta(hours=6)
SERVICES_KEPT, SERVICES_AGAIN = timedelta(days=7), timedelta(hours=1)
"""How long the list of services is kept, and after how long it is fetched again if that failed."""
FIRST = UUID(int=0)


async def run(
    pool: asyncpg.Pool, rdap: Rdap, public_url: str, stop: asyncio.Event, connectivity: Connectivity | None = None
) -> None:
    """Until `stop` is set. Several engines may do so at once: each domain is asked about by one of them."""
    tidy_at = 0.0
    while not stop.is_set():
        if monotonic() >= tidy_at:
            async with pool.acquire() as tx, tx.transaction():
                await domains.tidy(tx)
            tidy_at = monotonic() + TIDY_EVERY
        if connectivity is None or not connectivity.away:
            await ask(pool, rdap)
        await judge(pool, public_url)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await stop.wait()


async def ask(pool: asyncpg.Pool, rdap: Rdap) -> None:
    """Ask about some of the domains that are due: one after another of each registry."""
    async with pool.acquire() as tx, tx.transaction():
        due = await domains.claim(tx, BATCH)
    if not due:
        return
    known, trouble = await _services(pool, rdap)
    of_service: dict[str, list[str]] = {}
    none: list[Recorded] = []
    for name in due:
        if (service := rules.service_of(name, known)) is not None:
            of_service.setdefault(service, []).append(name)
        else:
            none.append(_nobody_to_ask(name, trouble))
    async with pool.acquire() as tx, tx.transaction():
        await domains.record(tx, none)
        paused = await domains.paused(tx, list(of_service))
    await asyncio.gather(
        *(_ask_in_turn(pool, rdap, each, names, paused.get(each)) for each, names in of_service.items())
    )


async def judge(pool: asyncpg.Pool, public_url: str) -> None:
    """Judge the monitors of domains of which something new is known, or that were not judged for an hour."""
    async with pool.acquire() as tx, tx.transaction():
        due = await domains.due_to_judge(tx, BATCH)
    for known in due:
        after: UUID | None = FIRST
        while after is not None:
            async with pool.acquire() as tx, tx.transaction():
                after = await domains.judge(tx, known, after, datetime.now(UTC), public_url=public_url)
        async with pool.acquire() as tx:
            await domains.judged(tx, known)


async def _services(pool: asyncpg.Pool, rdap: Rdap) -> tuple[Mapping[str, str], str | None]:
    """The services by suffix, and why they could not be fetched where there are none."""
    async with pool.acquire() as tx:
        found = await domains.services(tx)
    if not found.old:
        return found.by_suffix, None
    fresh, trouble = None, None
    try:
        fresh = await rdap.services()
    except RdapFailed as failure:
        trouble = f"the list of registries could not be fetched: {failure}"
        log.warning("The list of RDAP services could not be fetched", error=str(failure))
    async with pool.acquire() as tx:
        await domains.keep_services(tx, fresh, SERVICES_KEPT if fresh else SERVICES_AGAIN)
    return fresh or found.by_suffix, trouble


def _nobody_to_ask(name: str, trouble: str | None) -> Recorded:
    if trouble is not None:
        return Recorded(name, _about(SERVICES_AGAIN), problem=_sentence(trouble), asked=False)
    words = f"The registry of .{name.rpartition('.')[2]} has no RDAP service, so it cannot be asked when this ends"
    return Recorded(name, _about(DAY), problem=words, asked=False)


async def _ask_in_turn(
    pool: asyncpg.Pool, rdap: Rdap, service: str, names: Sequence[str], pause: timedelta | None
) -> None:
    for name in names:
        if pause is None:
            found, pause = await _ask(rdap, service, name)
        else:
            words = "Its registry has asked to be left alone for a while"
            found = Recorded(name, pause + _about(timedelta(minutes=1)), problem=words, asked=False)
        async with pool.acquire() as tx, tx.transaction():
            await domains.record(tx, [found])
            if found.asked and pause is not None:
                await domains.pause(tx, service, pause)


async def _ask(rdap: Rdap, service: str, name: str) -> tuple[Recorded, timedelta | None]:
    """What came of it, and how long the registry wants to be left alone."""
    try:
        answer = await rdap.domain(service, name)
    except RdapFailed as failure:
        again = DAY if failure.unknown else AGAIN_AFTER_FAILURE
        again = _about(again) if failure.pause is None else failure.pause + _about(timedelta(minutes=1))
        return Recorded(name, again, problem=_sentence(str(failure))), failure.pause
    problem = None if answer.expires_at else "Its registry does not say when the registration ends"
    return Recorded(name, _about(DAY), answer.expires_at, answer.registrar, problem, answered=True), None


def _about(length: timedelta) -> timedelta:
    """Some time around that, so that domains that were once asked about together are not always."""
    return length * random.uniform(0.75, 1.25)  # noqa: S311


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
