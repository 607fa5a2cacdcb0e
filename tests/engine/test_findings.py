"""What checks find beside their verdicts: one incident for one certificate, while the site is up or down as it is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from tests.certificates import Issued, issue, root
from tests.engine.test_monitor_checks import PUBLIC_URL, claim, make, make_due, read, watching
from tests.sites import VAULT, answer, says
from tests.waiting import until
from tocsin.domain.incidents import OpenRequest
from tocsin.domain.monitors import Finding, Problem, Result
from tocsin.storage.delivery import openings
from tocsin.storage.monitoring import due_checks, monitors
from tocsin.storage.monitoring.due_checks import CompletedCheck

__all__ = ["make", "read"]

OLD = Finding("tls_expiry", "warning", "The certificate for shop ends in 20 days", "aa" * 32, {"name": "shop"})
WORSE = Finding("tls_expiry", "critical", "The certificate for shop ends in 2 days", "aa" * 32, {"name": "shop"})
NEW = Finding("tls_expiry", "warning", "The certificate for shop ends in 29 days", "bb" * 32, {"name": "shop"})


async def found(
    pool: asyncpg.Pool, *findings: Finding, problem: Problem | None = None, looked: bool = True
) -> None:
    await make_due(pool)
    (due,) = await claim(pool)
    result = Result(problem, problem and "It broke", 12.5, findings=findings if looked else None)
    async with pool.acquire() as tx, tx.transaction():
        await due_checks.record(tx, [CompletedCheck(due, result)], public_url=PUBLIC_URL)


async def incidents(pool: asyncpg.Pool) -> list[tuple[str, str, str, bool]]:
    rows = await pool.fetch("SELECT type, severity, dedup_key, closed_at IS NULL AS lasts FROM incidents ORDER BY id")
    return [(row["type"], row["severity"], row["dedup_key"][:2], row["lasts"]) for row in rows]


async def test_one_certificate_is_one_incident_that_gets_worse_and_ends_with_a_new_one(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make()
    await found(pool)
    assert await incidents(pool) == []
    for _ in range(3):
        await found(pool, OLD)
    assert await incidents(pool) == [("tls_expiry", "warning", "aa", True)]
    await found(pool, WORSE)
    assert await incidents(pool) == [("tls_expiry", "critical", "aa", True)]
    await found(pool, OLD)
    assert await incidents(pool) == [("tls_expiry", "critical", "aa", True)]
    await found(pool, NEW)
    assert await incidents(pool) == [("tls_expiry", "critical", "aa", False), ("tls_expiry", "warning", "bb", True)]
    await found(pool)
    assert not any(lasts for *_, lasts in await incidents(pool))
    details = await pool.fetchval("SELECT details FROM incidents ORDER BY id LIMIT 1")
    assert details == {"name": "shop"}


async def test_a_check_that_saw_no_certificate_changes_nothing_about_it(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make(confirmations=1)
    await found(pool, OLD)
    await found(pool, problem="timeout", looked=False)
    assert await incidents(pool) == [("tls_expiry", "warning", "aa", True), ("timeout", "critical", "", True)]
    await found(pool, OLD)
    assert await incidents(pool) == [("tls_expiry", "warning", "aa", True), ("timeout", "critical", "", False)]


async def test_a_site_whose_certificate_ends_soon_is_up(
    pool: asyncpg.Pool, make: Callable[..., Any], read: Callable[..., Any]
) -> None:
    monitor = await make(confirmations=1)
    await found(pool, OLD)
    shown = await read(monitor)
    assert (shown.status, len(shown.open_incidents)) == ("success", 1)
    await found(pool, OLD, problem="http_status")
    assert (await read(monitor)).status == "error"
    assert len(await incidents(pool)) == 2


async def test_several_certificates_of_one_site_are_several_incidents(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    await make()
    await found(pool, OLD, NEW)
    await found(pool, NEW)
    assert await incidents(pool) == [("tls_expiry", "warning", "aa", False), ("tls_expiry", "warning", "bb", True)]


async def test_an_incident_of_that_type_that_others_have_opened_is_left_alone(
    pool: asyncpg.Pool, project: Any, make: Callable[..., Any]
) -> None:
    monitor = await make()
    async with pool.acquire() as tx, tx.transaction():
        theirs = OpenRequest(project.id, "NetworkMonitor", monitor, "tls_expiry", "By hand")
        await openings.open(tx, [theirs], public_url=PUBLIC_URL)
    await found(pool, OLD)
    await found(pool)
    assert await incidents(pool) == [("tls_expiry", "critical", "", True), ("tls_expiry", "warning", "aa", False)]


async def test_pausing_ends_it_too(pool: asyncpg.Pool, project: Any, make: Callable[..., Any]) -> None:
    monitor = await make()
    await found(pool, OLD)
    async with pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, project.id, monitor)
        assert before
        after = type(before)(before.name, before.target, paused=True)
        await monitors.change(tx, VAULT, project.id, monitor, before, after)
    assert not any(lasts for *_, lasts in await incidents(pool))


@asynccontextmanager
async def https(first: Issued, port: int = 0) -> AsyncIterator[tuple[int, Callable[[Issued], ssl.SSLContext]]]:
    """A site whose certificate can be replaced while it runs."""
    talk, current = says(answer()), [first.server()]

    def choose(connection: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        connection.context = current[0]

    context = first.server()
    context.sni_callback = choose  # type: ignore[assignment]

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()

    server = await asyncio.start_server(converse, "127.0.0.1", port, ssl=context)

    def replace(issued: Issued) -> ssl.SSLContext:
        current[0] = issued.server()
        return current[0]

    try:
        yield server.sockets[0].getsockname()[1], replace
    finally:
        server.close()


async def test_an_engine_opens_it_for_a_real_site_and_ends_it_when_the_certificate_is_renewed(
    pool: asyncpg.Pool, make: Callable[..., Any]
) -> None:
    authority = root()
    ending = issue("localhost", authority, timedelta(days=90), timedelta(days=20))
    renewed = issue("localhost", authority, timedelta(days=90), timedelta(days=89))
    async with https(ending) as (port, replace):
        await make(f"https://localhost:{port}/", verify_tls=False)
        async with watching(pool):
            await until(lambda: lasting(pool, True), what="the incident")
            replace(renewed)
            await until(lambda: lasting(pool, False), what="its end")
    ((type_, severity, _, lasts),) = await incidents(pool)
    assert (type_, severity, lasts) == ("tls_expiry", "warning", False)


async def lasting(pool: asyncpg.Pool, wanted: bool) -> bool:
    return [lasts for *_, lasts in await incidents(pool)] == [wanted]
