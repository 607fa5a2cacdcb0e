"""Registrations that end: asked rarely of a strict RDAP service, one incident for one domain and date."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.engine.test_monitor_checks import PUBLIC_URL
from tests.rdap_server import Fault, RdapServer, domain
from tests.sites import VAULT
from tests.waiting import until
from tocsin.actions import monitors as actions
from tocsin.actions.base import Actor
from tocsin.actions.monitors import MonitorFields
from tocsin.engine import domains as engine
from tocsin.storage.monitoring import monitors
from tocsin.storage.monitoring.monitors import Monitor
from tocsin.transports.guard import Guard
from tocsin.transports.rdap import Rdap

LOOPBACK = Guard([ipaddress.ip_network("127.0.0.1/32")])
Make = Callable[..., Any]


def in_days(days: float) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def registry() -> Iterator[RdapServer]:
    server = RdapServer("com", "org")
    yield server
    server.close()
    assert server.mistakes == []


@asynccontextmanager
async def rdap(registry: RdapServer, guard: Guard = LOOPBACK) -> AsyncIterator[Rdap]:
    made = Rdap(registry.bootstrap_url, guard, "Tocsin/test")
    try:
        yield made
    finally:
        await made.close()


@pytest_asyncio.fixture
async def make(pool: asyncpg.Pool, project: Any) -> Make:
    async def make(url: str = "https://www.example.com/", days: int | None = 30) -> UUID:
        wanted = actions.wanted(MonitorFields(url=url, domain_days=days), None, production=True)
        async with pool.acquire() as tx, tx.transaction():
            made = await actions.create(tx, Actor(project.id, "owner", "api"), VAULT, wanted)
        return made.id

    return make


@pytest_asyncio.fixture
async def change(pool: asyncpg.Pool, project: Any) -> Make:
    async def change(monitor: UUID, **fields: Any) -> None:
        async with pool.acquire() as tx, tx.transaction():
            actor = Actor(project.id, "owner", "api")
            await actions.change(tx, actor, VAULT, monitor, MonitorFields(**fields), production=True)

    return change


@pytest_asyncio.fixture
async def read(pool: asyncpg.Pool, project: Any) -> Make:
    async def read(monitor: UUID) -> Monitor:
        async with pool.acquire() as tx:
            found = await monitors.one(tx, VAULT, project.id, monitor)
        assert found
        return found

    return read


async def due(pool: asyncpg.Pool) -> None:
    """A day has passed."""
    await pool.execute("UPDATE domains SET ask_at = now()")
    await pool.execute("UPDATE rdap_pauses SET until = now() - interval '1 s'")


async def look(pool: asyncpg.Pool, registry: RdapServer, guard: Guard = LOOPBACK) -> None:
    async with rdap(registry, guard) as made:
        await engine.ask(pool, made)
    await engine.judge(pool, PUBLIC_URL)


async def incidents(pool: asyncpg.Pool) -> list[tuple[str, str, bool]]:
    rows = await pool.fetch("SELECT type, severity, closed_at IS NULL AS lasts FROM incidents ORDER BY id")
    return [(row["type"], row["severity"], row["lasts"]) for row in rows]


async def problem(pool: asyncpg.Pool) -> str | None:
    found: str | None = await pool.fetchval("SELECT problem FROM domains")
    return found


WARNING, CRITICAL = ("domain_expiry", "warning", True), ("domain_expiry", "critical", True)
ENDED = ("domain_expiry", "critical", False)


async def test_one_domain_and_date_is_one_incident_that_gets_worse_and_ends_with_a_new_date(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, read: Make
) -> None:
    monitor = await make()
    registry.domains["example.com"] = domain("example.com", in_days(100))
    await look(pool, registry)
    known = (await read(monitor)).registration
    assert (known.name, known.registrar, known.problem) == ("example.com", "Example Registrar, Inc.", None)
    assert await incidents(pool) == []
    for days, expected in ((20, [WARNING]), (20, [WARNING])):
        registry.domains["example.com"] = domain("example.com", in_days(days))
        await due(pool)
        await look(pool, registry)
        assert await incidents(pool) == expected
    shown = await read(monitor)
    assert (shown.failing, len(shown.open_incidents)) == (False, 1)
    row = await pool.fetchrow("SELECT message, details, dedup_key FROM incidents")
    assert row["message"].startswith("The registration of example.com (with Example Registrar, Inc.) ends in ")
    assert row["details"]["domain"] == "example.com"
    registry.domains["example.com"] = domain("example.com", in_days(400))
    await due(pool)
    await look(pool, registry)
    assert await incidents(pool) == [("domain_expiry", "warning", False)]


async def test_it_becomes_critical_by_time_alone_without_asking_again(
    pool: asyncpg.Pool, registry: RdapServer, make: Make
) -> None:
    await make()
    registry.domains["example.com"] = domain("example.com", in_days(10))
    await look(pool, registry)
    assert await incidents(pool) == [WARNING]
    await pool.execute("UPDATE domains SET expires_at = expires_at - interval '1 us', judge_at = now()")
    await pool.execute("UPDATE network_monitors SET options = options || '{\"domain_days\": 90}'")
    await engine.judge(pool, PUBLIC_URL)
    assert await incidents(pool) == [CRITICAL]
    assert len(registry.asked) == 1


async def test_several_monitors_of_one_domain_ask_once_a_day_and_each_has_its_incident(
    pool: asyncpg.Pool, registry: RdapServer, make: Make
) -> None:
    registry.domains["example.com"] = domain("example.com", in_days(20))
    for url in ("https://www.example.com/", "tcp://db.example.com:5432", "tls://mx.example.com:25",
                "dns://192.0.2.53/example.com"):  # fmt: skip
        await make(url)
    await make("http://example.com/", days=10)
    for _ in range(3):
        await look(pool, registry)
    assert registry.asked == ["example.com"]
    assert registry.lists == 1
    assert await incidents(pool) == [WARNING] * 4
    again = await pool.fetchval("SELECT extract(epoch FROM ask_at - now()) / 3600 FROM domains")
    assert 17.9 < again < 30.1
    await make()
    await look(pool, registry)
    assert await incidents(pool) == [WARNING] * 5
    assert registry.asked == ["example.com"]


async def test_nothing_is_asked_for_monitors_that_do_not_want_it_or_are_paused(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, change: Make
) -> None:
    await make(days=None)
    await change(await make(), paused=True)
    await look(pool, registry)
    assert (registry.asked, registry.lists) == ([], 0)


async def test_it_ends_when_the_monitor_is_paused_or_does_not_watch_the_domain_any_more(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, change: Make
) -> None:
    registry.domains["example.com"] = domain("example.com", in_days(2))
    changes = ({"paused": True}, {"domain_days": None}, {"url": "https://example.org/"})
    for number, fields in enumerate(changes, 1):
        monitor = await make()
        await look(pool, registry)
        assert await incidents(pool) == [ENDED] * (number - 1) + [CRITICAL]
        await change(monitor, **fields)
        assert await incidents(pool) == [ENDED] * number


async def test_fewer_days_end_it_too(pool: asyncpg.Pool, registry: RdapServer, make: Make, change: Make) -> None:
    registry.domains["example.com"] = domain("example.com", in_days(20))
    monitor = await make()
    await look(pool, registry)
    await change(monitor, domain_days=10)
    await look(pool, registry)
    assert await incidents(pool) == [("domain_expiry", "warning", False)]
    assert registry.asked == ["example.com"]


async def test_a_registry_without_rdap_is_said_once_and_is_no_incident(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, read: Make
) -> None:
    monitor = await make("https://www.example.de/")
    await look(pool, registry)
    known = (await read(monitor)).registration
    assert known.problem == "The registry of .de has no RDAP service, so it cannot be asked when this ends"
    assert known.checked_at is None
    assert (registry.asked, await incidents(pool)) == ([], [])


async def test_a_registry_that_says_too_often_is_left_alone_for_as_long_as_it_says(
    pool: asyncpg.Pool, registry: RdapServer, make: Make
) -> None:
    registry.domains |= {name: domain(name, in_days(100)) for name in ("one.com", "two.com", "three.com")}
    registry.faults.append(Fault(429, {"Retry-After": "7200"}))
    for name in ("one.com", "two.com"):
        await make(f"https://{name}/")
    await look(pool, registry)
    assert len(registry.asked) == 1
    assert await pool.fetchval("SELECT min(ask_at) > now() + interval '119 min' FROM domains")
    assert await pool.fetchval("SELECT max(ask_at) < now() + interval '125 min' FROM domains")
    await make("https://three.com/")
    await look(pool, registry)
    assert len(registry.asked) == 1
    await due(pool)
    await look(pool, registry)
    assert sorted(registry.asked[1:]) == ["one.com", "three.com", "two.com"]


async def test_what_was_known_stays_while_the_registry_cannot_be_asked(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, read: Make
) -> None:
    monitor = await make()
    registry.domains["example.com"] = domain("example.com", in_days(20))
    await look(pool, registry)
    for fault, words in (
        (Fault(503), "Its registry answered with status 503"),
        (Fault(404), "Its registry does not know it: it is not registered"),
        (Fault(200, {"Content-Type": "text/html"}, b"<html>"), "Its registry answered with text/html, not application"),
        (Fault(200, {"Content-Type": "application/rdap+json"}, b"[" * 100_000), "What its registry answered is not of"),
        (Fault(200, {"Content-Type": "application/rdap+json"}, b" " * 300_000), "Its answer was not complete"),
    ):
        registry.faults.append(fault)
        await due(pool)
        await look(pool, registry)
        known = (await read(monitor)).registration
        assert known.problem.startswith(words)
        assert known.expires_at is not None
        assert await incidents(pool) == [WARNING]


async def test_an_answer_without_an_end_is_said_and_ends_the_incident(
    pool: asyncpg.Pool, registry: RdapServer, make: Make
) -> None:
    await make()
    registry.domains["example.com"] = domain("example.com", in_days(2))
    await look(pool, registry)
    registry.domains["example.com"] = domain("example.com")
    await due(pool)
    await look(pool, registry)
    assert await problem(pool) == "Its registry does not say when the registration ends"
    assert await incidents(pool) == [ENDED]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://10.0.0.1/domain/example.com", "It cannot be asked: The address 10.0.0.1 is not public"),
        ("http://127.0.0.2/domain/example.com", "It cannot be asked: The address 127.0.0.2 is not public"),
        ("file:///etc/passwd", "It redirected to what cannot be followed"),
        ("ftp://127.0.0.1/", "It cannot be asked: The address cannot be used"),
    ],
)
async def test_a_redirect_to_where_nothing_may_be_asked_is_not_followed(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, location: str, words: str
) -> None:
    await make()
    registry.faults.append(Fault(302, {"Location": location}))
    await look(pool, registry)
    assert (await problem(pool) or "").startswith(words)


async def test_few_redirects_are_followed_and_no_loop(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, read: Make
) -> None:
    monitor = await make()
    registry.domains["example.com"] = domain("example.com", in_days(100))
    registry.faults.extend([Fault(301, {"Location": "/registry/domain/example.com"})] * 3)
    await look(pool, registry)
    assert (await read(monitor)).registration.expires_at is not None
    registry.faults.extend([Fault(301, {"Location": "/registry/domain/example.com"})] * 4)
    await due(pool)
    await look(pool, registry)
    assert await problem(pool) == "It redirected more than 3 times"
    assert len(registry.asked) == 8


async def test_the_list_of_services_is_kept_for_a_week_and_used_longer_if_a_new_one_cannot_be_had(
    pool: asyncpg.Pool, registry: RdapServer, make: Make
) -> None:
    registry.list_faults.append(Fault(500))
    await make()
    await look(pool, registry)
    assert (await problem(pool) or "").startswith("The list of registries could not be fetched: it answered with stat")
    await pool.execute("UPDATE rdap_services SET fetch_at = now()")
    registry.domains["example.com"] = domain("example.com", in_days(100))
    await due(pool)
    await look(pool, registry)
    assert await problem(pool) is None
    assert await pool.fetchval("SELECT round(extract(epoch FROM fetch_at - now()) / 86400) FROM rdap_services") == 7
    await pool.execute("UPDATE rdap_services SET fetch_at = now()")
    registry.list_faults.append(Fault(200, {}, b"{"))
    await due(pool)
    await look(pool, registry)
    assert (await problem(pool), len(registry.asked), registry.lists) == (None, 2, 3)


async def test_an_engine_asks_by_itself_and_forgets_what_nobody_watches(
    pool: asyncpg.Pool, registry: RdapServer, make: Make, read: Make, project: Any
) -> None:
    gone = await make("https://example.org/")
    async with pool.acquire() as tx, tx.transaction():
        await actions.delete(tx, Actor(project.id, "owner", "api"), VAULT, gone)
    monitor, stop = await make(), asyncio.Event()
    registry.domains["example.com"] = domain("example.com", in_days(20))
    async with rdap(registry) as made:
        task = asyncio.create_task(engine.run(pool, made, PUBLIC_URL, stop))

        async def opened() -> bool:
            return await incidents(pool) == [WARNING]

        await until(opened, what="the incident")
        stop.set()
        await asyncio.wait_for(task, 10)
    assert (await read(monitor)).registration.expires_at is not None
    assert await pool.fetchval("SELECT array_agg(name) FROM domains") == ["example.com"]
    assert registry.asked == ["example.com"]
