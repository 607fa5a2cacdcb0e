"""How many: nobody keeps others out by being connected."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.hasty import FORM, IDLE_TIMEOUT, MAX_OF_ONE, PROXY, SIGN_IN, deaf, hasty, locked, wires
from tests.needed import program
from tests.raw_http import GET, INCIDENTS, LAST, LIVE, Wire, answers, ask, dial, is_refusal, port_of, post
from tests.service import Service, service_on
from tests.waiting import until

__all__ = ["hasty"]


async def test_who_has_been_idle_longest_makes_room(hasty: Service) -> None:
    async with wires(hasty, MAX_OF_ONE) as limiter:
        for wire in limiter:
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200
        first, second, *others = limiter
        await first.send(GET % LIVE)
        assert (await first.answer()).status == 200
        async with wires(hasty) as (late,):
            await late.send(GET % LIVE)
            assert (await late.answer()).status == 200
            assert await second.rest(timeout=IDLE_TIMEOUT / 2) == b"", "the one that was idle longest"
            for wire in (first, *others):
                await wire.send(GET % LIVE)
                assert (await wire.answer()).status == 200


async def test_what_is_owed_makes_room_and_complete_requests_do_not(hasty: Service) -> None:
    owing = [b"GET / HTTP/1.1\r\n", post(b"Content-Length: 8000"), post(b"Content-Length: 8000", path=SIGN_IN)]
    async with wires(hasty, MAX_OF_ONE - 2) as working:
        async with locked(hasty) as request:
            for wire in working:
                await wire.send(request)
            for half in owing:
                async with wires(hasty, 2) as halves:
                    for wire in halves:
                        await wire.send(half)
                    for _ in range(5):
                        assert [each.status for each in await ask(port_of(hasty), LAST)] == [200]
                    assert await halves[0].rest() == b""
        assert [(await wire.answer()).status for wire in working] == [200] * len(working)


async def test_half_bodies_of_many_addresses_keep_nobody_out(hasty: Service) -> None:
    for path in (INCIDENTS, SIGN_IN):
        half = post(b"Content-Length: 8000", path=path)
        async with wires(hasty, MAX_OF_ONE, "127.0.0.2") as some, wires(hasty, MAX_OF_ONE, "127.0.0.3") as others:
            for wire in some + others:
                await wire.send(half)
            for _ in range(5):
                assert [each.status for each in await ask(port_of(hasty), LAST, source="127.0.0.9")] == [200]


async def test_where_all_are_busy_who_comes_is_told_so_and_others_are_let_in(hasty: Service) -> None:
    working: list[Wire] = []
    async with locked(hasty) as request:

        async def full() -> bool:
            for _ in range(MAX_OF_ONE + 1):  # at once: none of them waits for the database for long
                working.append(await dial(port_of(hasty), "127.0.0.7"))
                await working[-1].send(request)
            try:
                if is_refusal(answers(await working[-1].rest(0.5))[0], 503):
                    return True
            except TimeoutError:
                pass
            for wire in working:
                wire.close()
            working.clear()
            return False

        await until(full, what="a refusal")
        assert [each.status for each in await ask(port_of(hasty), LAST)] == [200], "another address"
    working.pop().close()
    assert {(await wire.answer()).status for wire in working} <= {200, 503}
    assert len(working) == MAX_OF_ONE
    for wire in working:
        wire.close()


async def test_a_trusted_proxy_may_bring_more_than_any_other_address(hasty: Service) -> None:
    async with wires(hasty, MAX_OF_ONE + 5, PROXY) as many:
        for wire in many * 2:
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200


@pytest.fixture
async def small(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that may open few files at first, and not many at all."""
    service = service_on(database, tmp_path)
    service.api.command[:0] = [program("prlimit"), "--nofile=64:256"]
    service.api.start()
    try:
        service.api.wait_for_line("ready")
        yield service
    finally:
        service.stop()


OWING = {
    "nothing": b"",
    "a word": b"GET",
    "half a head": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "half a body": post(b"Content-Length: 5"),
    "much of a body": post(b"Content-Length: 9000", body=b" " * 8000),
    "half a body that the framework reads": post(b"Content-Length: 5", path=SIGN_IN, body=b"{"),
    "half a form": post(b"Content-Length: 100", FORM, path=b"/sign-in", body=b"email="),
    "half a chunk": post(b"Transfer-Encoding: chunked", path=SIGN_IN, body=b"5\r\n{"),
    "nothing of what it asks leave for": post(b"Content-Length: 5", b"Expect: 100-continue", path=SIGN_IN),
    "half a body behind its refusal": post(b"Content-Length: 300000"),
    "half a body behind a request": GET % b"/nowhere" + post(b"Content-Length: 5", path=SIGN_IN),
    "half a body behind an upgrade": post(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 5", path=SIGN_IN),
}


async def test_three_hundred_who_owe_us_something_keep_nobody_out_where_256_files_may_be_open(small: Service) -> None:
    assert resource.prlimit(psutil.Process(small.api.pid).pid, resource.RLIMIT_NOFILE) == (256, 256)
    process = psutil.Process(small.api.pid)
    for what, owed in OWING.items():
        async with wires(small, 1, "127.0.0.5") as (slow,), wires(small, 300) as limiter:
            await slow.send(post(b"Content-Length: 2", path=SIGN_IN, body=b"{"))
            for wire in limiter:
                await wire.send(owed)
            for _ in range(10):
                assert [each.status for each in await ask(port_of(small), LAST)] == [200], what
                assert [each.status for each in await ask(port_of(small), LAST, source="127.0.0.9")] == [200], what
            await slow.send(b"}")
            assert (await slow.answer()).status in (400, 401, 422), "one of few is not given up for many"
            assert process.num_fds() < 250
    assert small.api.said().count("\n") == 1, small.api.said()


async def test_two_hundred_who_do_not_read_their_answers_keep_nobody_out(small: Service) -> None:
    async def answered() -> bool:
        return [each.status for each in await ask(port_of(small), LAST, source="127.0.0.9")] == [200]

    began = time.monotonic()
    with ExitStack() as quiet:
        for _ in range(200):
            quiet.enter_context(deaf(small)).send(GET % b"/api/v1/openapi.json" * 50)
        await until(answered, what="an answer")
        for _ in range(5):
            assert await answered()
    assert time.monotonic() - began < 65, "before their time is up"


async def test_a_process_that_can_open_no_more_files_goes_on_when_it_can(small: Service) -> None:
    process = psutil.Process(small.api.pid)
    async with wires(small, 20) as limiter:
        for wire in limiter:
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.num_fds(), 256))
        async with wires(small, 50):
            before = sum(process.cpu_times()[:2])
            await asyncio.sleep(1)
            assert sum(process.cpu_times()[:2]) - before < 0.5, "it does not spin"
            await limiter[0].send(GET % LIVE)
            assert (await limiter[0].answer()).status == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))

        async def answered() -> bool:
            try:
                return [each.status for each in await ask(port_of(small), LAST)] == [200]
            except ConnectionError:
                return False

        await until(answered, what="a new connection to be answered")
