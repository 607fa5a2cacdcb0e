"""Everything that a process remembers has a bound: in number, in bytes, and in time."""

from __future__ import annotations

import functools
import gc
import importlib
import pkgutil
import time
from typing import Any

import httpx

import tocsin
from tocsin.api import caller
from tocsin.domain.remembered import Remembered

FIXED = {
    "tocsin.api.docs.describe", "tocsin.web.pages._content", "tocsin.web.render._environment",
    "tocsin.web.agent.text_for", "tocsin.api.docs._file", "tocsin.integrations.base.types", "tocsin.checks.base.types",
    "tocsin.api.server.build.<locals>.<lambda>",
}  # fmt: skip
"""Caches without a bound of their own, of what is in the package: nothing that anybody sends is a key of them."""
MOST_ENTRIES = 10_000


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
        assert (each.cache_parameters()["maxsize"] or 0) <= MOST_ENTRIES, name


def test_what_modules_remember_is_bounded_in_number_and_time() -> None:
    kept = {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, Remembered)
    }
    assert {"tocsin.api.caller._remembered", "tocsin.web.live._seen"} <= kept.keys()
    for name, value in kept.items():
        assert (value.most <= MOST_ENTRIES, value.seconds <= 60) == (True, True), name


def test_the_oldest_is_given_up_first_and_nothing_outlives_its_time() -> None:
    known: Remembered[int, int] = Remembered(3, 60)
    for number in range(5):
        known.put(number, number, time.monotonic())
    assert [known.get(number) for number in range(5)] == [None, None, 2, 3, 4]
    known.put(9, 9, time.monotonic() - 61)
    assert known.get(9) is None
    old: Remembered[int, int] = Remembered(3, 0.0)
    for number in range(3):
        old.put(number, number, time.monotonic())
    assert len(old) == 0, "what is over is forgotten without being asked for"


async def test_a_token_with_a_megabyte_of_blanks_before_it_is_good_and_not_remembered(
    app_client: httpx.AsyncClient, project: Any
) -> None:
    before = len(caller._remembered)
    for blanks in (1_000_000, 999_999):
        answer = await app_client.get(
            "/api/v1/integrations", headers={"Authorization": " " * blanks + project.api_token}
        )
        assert answer.status_code == 200
    assert len(caller._remembered) == before


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
