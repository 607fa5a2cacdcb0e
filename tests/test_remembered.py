"""Everything that a process remembers has a bound: in number, in bytes, and in time."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import pkgutil
import time
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import asyncpg
import httpx

import tocsin
from tests.odd_answers import PLAIN, serving
from tests.waiting import until
from tocsin.api import authentication
from tocsin.domain.ttl_cache import TTLCache
from tocsin.engine.deliver import CACHE_SIZE, Deliverer
from tocsin.engine.destinations import Destination
from tocsin.integrations.base import Transports
from tocsin.storage.delivery import queue
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports import interfaces
from tocsin.transports.endpoint import MAX_REMEMBERED_LENGTH, _remembered, endpoint
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer

FIXED = {
    "tocsin.api.docs.describe", "tocsin.web.assets._content", "tocsin.web.render._environment",
    "tocsin.web.agent.text_for", "tocsin.api.docs._file", "tocsin.integrations.base.types",
    "tocsin.integrations.base.every", "tocsin.checks.base.types", "tocsin.checks.base.options",
    "tocsin.domain.resources.base.kinds", "tocsin.api.server.build.<locals>.<lambda>",
    "tocsin.web.ready_made.all_", "tocsin.domain.templates.language._environment",
    "tocsin.transports.dial.public_authorities", "tocsin.transports.dial.no_authorities",
    "tocsin.domain.sources.base.types",
}  # fmt: skip
"""Caches without a bound of their own, of what is in the package: nothing that anybody sends is a key of them."""
MAX_ENTRIES = 10_000


def modules() -> list[Any]:
    names = [found.name for found in pkgutil.walk_packages(tocsin.__path__, "tocsin.") if "static" not in found.name]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


def test_every_cache_of_a_function_has_a_bound() -> None:
    modules()
    caches = [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
    ours = {f"{each.__module__}.{each.__qualname__}": each for each in caches if each.__module__.startswith("tocsin.")}
    assert len(ours) >= 4
    unbounded = {name for name, each in ours.items() if each.cache_parameters()["maxsize"] is None}
    assert unbounded <= FIXED
    for name, each in ours.items():
        assert (each.cache_parameters()["maxsize"] or 0) <= MAX_ENTRIES, name


def test_what_modules_remember_is_bounded_in_number_and_time() -> None:
    kept = {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, TTLCache)
    }
    expected = {
        "tocsin.api.authentication._token_cache",
        "tocsin.web.live._seen",
        "tocsin.transports.endpoint._remembered",
    }
    assert expected <= kept.keys()
    for name, value in kept.items():
        assert (value.max_size <= MAX_ENTRIES, value.seconds <= 60) == (True, True), name


def test_the_oldest_is_given_up_first_and_nothing_outlives_its_time() -> None:
    known: TTLCache[int, int] = TTLCache(3, 60)
    for number in range(5):
        known.put(number, number, time.monotonic())
    assert [known.get(number) for number in range(5)] == [None, None, 2, 3, 4]
    known.put(9, 9, time.monotonic() - 61)
    assert known.get(9) is None
    old: TTLCache[int, int] = TTLCache(3, 0.0)
    for number in range(3):
        old.put(number, number, time.monotonic())
    assert len(old) == 0, "what is over is forgotten without being asked for"


# ------------------------------------------------------------------------------------------------ what lives in objects


async def test_an_engine_knows_the_settings_and_fortunes_of_so_many_integrations(
    pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    wires = Transports(Http(Guard()), Mailer(None, "tocsin@example.com", Path("nowhere")), "http://tocsin.test")
    deliverer = Deliverer(pool, vault, wires, [1.0])
    rows = await pool.fetch(
        """INSERT INTO integrations (id, project_id, type, settings, for_people, repeatable, system, attach_all)
           SELECT gen_random_uuid(), $1, 'Integrations::WebhookIntegration', '{}', false, true, false, false
           FROM generate_series(1, $2) RETURNING id""",
        project.id, CACHE_SIZE + 50,
    )  # fmt: skip
    said = queue.test_content("http://tocsin.test", datetime.now(UTC))
    jobs = [Job(row["id"], project.id, row["id"], 1, False, "test", 1, 0, False, said.started_at, said) for row in rows]
    loaded = await asyncio.gather(*map(deliverer._sendable, jobs))
    assert None not in loaded
    assert len(deliverer._settings_cache) == CACHE_SIZE
    for job in jobs:
        deliverer._destinations[job.integration_id] = Destination(job.integration_id)
    await deliverer._return_expired()
    assert len(deliverer._destinations) == CACHE_SIZE


async def test_connections_are_kept_for_the_next_time_up_to_a_number_and_for_a_few_seconds() -> None:
    http = Http(Guard([ip_network("127.0.0.0/8")]), most_idle=3)
    async with serving(PLAIN, "hang") as there:

        async def kept() -> int:
            return sum(map(len, http._idle.values()))

        for _ in range(3):
            await asyncio.gather(*(http.post(f"{there.url}{number}", b"", {}) for number in range(6)))
            assert await kept() == http._idle_count == 3

        async def forgotten() -> bool:
            return not http._idle

        await until(forgotten, what="idle connections to be closed")
        assert http._idle_count == 0
        await http.post(there.url, b"", {})
        assert await kept() == http._idle_count == 1
        await http.close()
        assert await kept() == http._idle_count == 0


def test_the_addresses_of_this_machine_are_looked_at_anew_and_are_so_many() -> None:
    assert len(interfaces.addresses()) <= interfaces.MOST <= MAX_ENTRIES
    assert interfaces.LOOKED_AT_EVERY <= 60


# ------------------------------------------------------------------------------------------------------ others' text


async def test_a_token_with_a_megabyte_of_blanks_before_it_is_good_and_not_remembered(
    app_client: httpx.AsyncClient, project: Any
) -> None:
    before = len(authentication._token_cache)
    for blanks in (1_000_000, 999_999):
        answer = await app_client.get(
            "/api/v1/integrations", headers={"Authorization": " " * blanks + project.api_token}
        )
        assert answer.status_code == 200
    assert len(authentication._token_cache) == before


async def test_no_cookie_is_remembered_and_no_query_beyond_its_bound(app_client: httpx.AsyncClient) -> None:
    from litestar._parsers import parse_cookie_string, parse_query_string

    parse_query_string.cache_clear()
    parse_cookie_string.cache_clear()
    for number in range(20):
        answer = await app_client.get("/sign-in?next=" + "a" * 9_000, headers={"Cookie": f"zone=x{number}"})
        assert answer.status_code == 414
        answer = await app_client.get("/sign-in", headers={"Cookie": f"zone=x{number}; said={number}"})
        assert answer.status_code == 200
    assert parse_query_string.cache_info().currsize <= 1
    assert parse_cookie_string.cache_info().currsize == 0
    assert parse_query_string.cache_info().maxsize <= 1_024


async def test_a_secret_or_a_long_address_is_remembered_by_nobody() -> None:
    before = len(_remembered)
    endpoint("http://example.com/" + "a" * MAX_REMEMBERED_LENGTH)
    endpoint("http://example.com/\N{SNOWMAN}")
    assert len(_remembered) == before
    assert all(len(address) <= MAX_REMEMBERED_LENGTH for address, _ in _remembered._known)
    modules()
    caches = [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
    assert not [each.__qualname__ for each in caches if each.__module__ == "tocsin.integrations.webhook"]
