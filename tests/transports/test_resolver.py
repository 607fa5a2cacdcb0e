"""Names become addresses by few threads, and silent name servers stop nobody but their own zone."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import waiting
from tocsin.transports import resolver
from tocsin.transports.resolver import MAX_REMEMBERED, MAX_WAITING, OF_A_ZONE, OF_ALL, THREADS, Resolver, Unresolved

QUICK = 1.0
"""Seconds of patience with those that are silent on purpose."""


class NameServer:
    """Answers at once, except for names that hang until they are let go. It counts who is being looked up."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.under_way = 0
        self.most = 0
        self._lock = threading.Lock()
        self._let_go = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> Any:
        with self._lock:
            self.asked.append(host)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            if host.startswith("silent"):
                self._let_go.wait(60)
            if host.startswith("broken"):
                raise RuntimeError("a surprise")
            if host.startswith("missing"):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            if host.startswith("nothing"):
                return []
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        finally:
            with self._lock:
                self.under_way -= 1

    def answer_all(self) -> None:
        self._let_go.set()


@pytest.fixture
def server() -> Iterator[NameServer]:
    made = NameServer()
    yield made
    made.answer_all()


async def until(look: Callable[[], bool]) -> None:
    async def looked() -> bool:
        return look()

    await waiting.until(looked, timeout=30)


async def said(name: str, by: Resolver) -> str:
    try:
        found = await asyncio.wait_for(by.look_up(name), 30)
    except (Unresolved, OSError) as error:
        return str(error)
    return str(found[0][4][0])


async def test_all_who_ask_for_a_name_at_once_share_one_look_up(server: NameServer) -> None:
    by = Resolver(server)
    assert await asyncio.gather(*(said("site.example", by) for _ in range(50))) == ["127.0.0.1"] * 50
    assert server.asked == ["site.example"]
    assert await said("site.example", by) == "127.0.0.1"
    assert len(server.asked) == 2


async def test_who_leaves_does_not_end_the_look_up_for_the_others(server: NameServer) -> None:
    by = Resolver(server)
    leaving, staying = (asyncio.create_task(by.look_up("silent.example")) for _ in range(2))
    await until(lambda: server.under_way == 1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    server.answer_all()
    assert (await asyncio.wait_for(staying, 30))[0][4][0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.example", "Name or service not known"), ("broken.example", "RuntimeError"),
     ("nothing.example", "it has no address")],
)  # fmt: skip
async def test_a_look_up_that_fails_in_any_way_is_told_and_leaves_nothing_behind(
    server: NameServer, name: str, words: str
) -> None:
    by = Resolver(server)
    for _ in range(2):
        assert words in await said(name, by)
    assert server.asked == [name] * 2


async def test_a_look_up_whose_thread_cannot_start_is_told_and_the_name_lives_on(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    by, start = Resolver(server), threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "look-up":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="No thread can be started"):
            await by.look_up("site.example")
    assert await said("site.example", by) == "127.0.0.1"
    assert by._threads == 0


async def test_silent_name_servers_are_waited_for_no_longer_than_the_patience_lasts(server: NameServer) -> None:
    by = Resolver(server, QUICK)
    assert "no name server answered for 1 seconds" in await said("silent.example", by)
    assert "do not answer" in await said("silent.example", by)
    assert server.asked == ["silent.example"]  # nobody is asked twice for what hangs
    server.answer_all()
    await until(lambda: by._threads == 0)
    assert await said("silent.example", by) == "127.0.0.1"


async def test_any_number_of_silent_names_takes_few_threads_and_others_are_answered(server: NameServer) -> None:
    by = Resolver(server, QUICK)
    assert await said("known.silent.example", by) == "127.0.0.1"
    names = [f"silent{number}.silent.example" for number in range(500)]
    asking = [asyncio.create_task(said(name, by)) for name in names]
    await until(lambda: server.under_way == OF_A_ZONE["new"])
    assert await said("other.example", by) == "127.0.0.1"
    assert await said("known.silent.example", by) == "127.0.0.1"
    assert all("Could not resolve" in each for each in await asyncio.gather(*asking))
    assert server.most <= OF_A_ZONE["new"] + 1
    assert "the name servers of silent.example do not answer" in await said("another.silent.example", by)
    assert await said("other.example", by) == "127.0.0.1"


async def test_a_name_that_was_silent_waits_behind_no_more_than_one_other_of_its_zone(server: NameServer) -> None:
    by = Resolver(server, QUICK)
    names = [f"silent{number}.example.com" for number in range(OF_A_ZONE["new"])]
    await asyncio.gather(*(said(name, by) for name in names))
    server.answer_all()
    await until(lambda: by._threads == 0)
    server._let_go.clear()
    before = len(server.asked)
    await asyncio.gather(*(said(name, by) for name in names))
    assert len(server.asked) == before + OF_A_ZONE["silent"]
    assert await said("new.example.com", by) == "127.0.0.1"


async def test_when_all_threads_hang_who_asks_is_told_at_once(server: NameServer) -> None:
    by = Resolver(server, QUICK)
    assert await said("known.example", by) == "127.0.0.1"
    zones = range(THREADS // OF_A_ZONE["new"] + 2)
    names = [f"silent{number}.zone{zone}.example" for zone in zones for number in range(OF_A_ZONE["new"])]
    asked = [asyncio.create_task(said(name, by)) for name in names]
    await until(lambda: server.under_way == OF_ALL["new"])
    await asyncio.gather(*asked)
    assert server.most == OF_ALL["new"]
    began = asyncio.get_running_loop().time()
    assert "too many names cannot be resolved at present" in await said("fresh.example.org", by)
    assert asyncio.get_running_loop().time() - began < QUICK
    assert await said("known.example", by) == "127.0.0.1"  # the last threads are for names that work
    server.answer_all()
    await until(lambda: by._threads == 0)
    assert await said("fresh.example.org", by) == "127.0.0.1"


async def test_names_that_work_take_turns_where_there_are_more_than_threads(server: NameServer) -> None:
    by = Resolver(server)
    names = [f"host{number}.zone{number % 60}.example" for number in range(600)]
    assert await asyncio.gather(*(said(name, by) for name in names)) == ["127.0.0.1"] * 600
    assert server.most <= OF_ALL["new"]
    assert not by._waiting
    assert not by._running
    assert not by._under_way


async def test_what_is_remembered_of_names_has_a_bound(server: NameServer) -> None:
    by = Resolver(server)
    for number in range(MAX_REMEMBERED + 10):
        by._remember(f"host{number}.example", "answered")
    assert len(by._last) == MAX_REMEMBERED
    asking = [asyncio.create_task(said(f"silent.{number}.example{number // 100}.com", by)) for number in range(6000)]
    await until(lambda: len(server.asked) >= OF_ALL["new"])
    assert by._waiting_count == sum(map(len, by._waiting.values())) <= MAX_WAITING
    server.answer_all()
    await asyncio.gather(*asking)
    assert not by._waiting


async def test_one_resolver_serves_a_whole_process() -> None:
    assert resolver.shared() is resolver.shared()


@pytest.mark.parametrize(
    ("name", "zone"),
    [("a.b.example.com", "example.com"), ("example.com", "example.com"), ("localhost", "localhost"),
     ("a.example.co.uk.", "example.co.uk"), ("www.example.de", "example.de")],
)  # fmt: skip
def test_a_zone_is_about_what_somebody_can_register(name: str, zone: str) -> None:
    assert resolver._zone(name) == zone
