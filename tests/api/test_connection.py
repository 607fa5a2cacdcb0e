"""How long and how slowly: nobody keeps others out by being connected."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.hasty import GRACE, HEAD_TIMEOUT, IDLE_TIMEOUT, LATE, MAX_OF_ONE, RATE, SIGN_IN, deaf, ended, hasty, wires
from tests.people import account, sign_in
from tests.raw_http import GET, INCIDENTS, LAST, LIVE, answers, ask, is_refusal, port_of, post
from tests.service import Service, service_on
from tests.waiting import until
from tocsin import settings as configuration
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault

__all__ = ["hasty"]


def memory_of(service: Service) -> int:
    return psutil.Process(service.api.pid).memory_info().rss


async def test_who_says_nothing_is_not_waited_for(hasty: Service) -> None:
    for said, seconds in await asyncio.gather(*(ended(hasty) for _ in range(3))):
        assert said == b""
        assert HEAD_TIMEOUT <= seconds <= HEAD_TIMEOUT + LATE


async def test_half_a_head_is_refused_when_its_time_is_up(hasty: Service) -> None:
    parts = [b"GET /health/live HTTP/1.1\r\n", *[b"X: y\r\n"] * 300]
    for said, seconds in await asyncio.gather(*(ended(hasty, *parts, pause=pause) for pause in (30.0, 0.1))):
        assert HEAD_TIMEOUT <= seconds <= HEAD_TIMEOUT + LATE
        assert is_refusal(answers(said)[0], 408)


async def test_a_kept_connection_has_the_idle_time_and_then_the_time_of_a_head(hasty: Service) -> None:
    async def rest_of(*parts: bytes, after: float = 0.0) -> tuple[bytes, float]:
        async with wires(hasty) as (wire,):
            began = time.monotonic()
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200
            await asyncio.sleep(after)
            if parts:
                began = time.monotonic()
                await wire.send(*parts)
            return await wire.rest(), time.monotonic() - began

    half = rest_of(b"GET /", after=HEAD_TIMEOUT)
    (last, idle), (said, seconds) = await asyncio.gather(rest_of(), half)
    assert last == b""
    assert IDLE_TIMEOUT <= idle <= IDLE_TIMEOUT + LATE
    assert HEAD_TIMEOUT <= seconds <= HEAD_TIMEOUT + LATE
    assert is_refusal(answers(said)[0], 408)


async def test_a_body_that_comes_too_slowly_is_refused(hasty: Service) -> None:
    heads = [
        post(b"Content-Length: 5000", b"Authorization: Bearer none", path=path)
        for path in (INCIDENTS, b"/api/v1/users/sign_in", b"/sign-in")
    ]
    slowly = [ended(hasty, head, *[b" " * 10] * 500, pause=pause) for head in heads for pause in (0.2, 30.0)]
    for said, seconds in await asyncio.gather(*slowly):
        answered = answers(said)
        assert len(answered) == 1
        assert GRACE <= seconds <= GRACE * 2 + LATE
        assert is_refusal(answered[0], 408)
        assert answered[0].json["message"] == (
            "The request came too slowly: "
            "no part of its body came for 2.5 s, or it came at less than 2,000 bytes a second"
        )


async def test_what_came_fast_of_a_body_is_no_credit_for_silence(hasty: Service) -> None:
    fast = 60_000
    said, seconds = await ended(hasty, post(b"Content-Length: 64000"), *[b" " * (fast // 3)] * 3, pause=0.05)
    assert is_refusal(answers(said)[0], 408)
    assert GRACE <= seconds <= GRACE + LATE < fast / RATE


async def test_a_body_that_comes_fast_enough_may_take_its_time(hasty: Service) -> None:
    heads = [post(b"Content-Length: 8000", b"Connection: close", path=path) for path in (INCIDENTS, SIGN_IN)]
    for said, seconds in await asyncio.gather(*(ended(hasty, head, *[b" " * 400] * 20, pause=0.15) for head in heads)):
        assert seconds > GRACE
        assert answers(said)[0].status in (400, 401)


async def test_the_body_of_a_request_that_is_answered_is_not_waited_for_either(hasty: Service) -> None:
    head = post(b"Content-Length: 300000", b"Authorization: Bearer none")
    said, seconds = await ended(hasty, head, *[b" " * 10] * 500, pause=0.2)
    assert [each.status for each in answers(said)] == [401]
    assert GRACE <= seconds <= GRACE + LATE


async def test_who_does_not_read_the_answers_is_left(hasty: Service) -> None:
    description = GET % b"/api/v1/openapi.json"
    assert len((await ask(port_of(hasty), description[:-2] + b"Connection: close\r\n\r\n"))[0].body) > 100_000
    quiet = deaf(hasty)
    ours = quiet.getsockname()[1]
    before = memory_of(hasty)
    for _ in range(20):
        try:
            quiet.send(description * 50)
        except BlockingIOError:
            break

    async def left() -> bool:
        held = psutil.Process(hasty.api.pid).net_connections("tcp")
        return not any(each.raddr and each.raddr.port == ours for each in held)

    await until(left, timeout=IDLE_TIMEOUT * 3 + 2 * LATE, what="the connection to be ended")
    quiet.close()
    assert memory_of(hasty) - before < 30 << 20


async def test_a_live_page_outlives_all_of_these_times(hasty: Service) -> None:
    keys = configuration.load(environ=hasty.environ).secret_keys
    pool = await storage.pool(hasty.database, size=1, name="tests")
    await account(pool, Vault(keys))
    await pool.close()
    async with httpx.AsyncClient(base_url=hasty.url, timeout=30) as client:
        cookie = (await sign_in(client)).headers["set-cookie"].partition(";")[0]
    async with wires(hasty) as (wire,):
        await wire.send(b"GET /live HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % cookie.encode())
        assert b"text/event-stream" in await wire.reader.readuntil(b"\r\n\r\n")
        assert b"retry: 2000" in await wire.reader.readuntil(b"\n\n")
        # others come and go, and take all the room that there is
        async with wires(hasty, MAX_OF_ONE + 5), wires(hasty, MAX_OF_ONE + 5, "127.0.0.2"):
            with pytest.raises(TimeoutError):
                await wire.rest(timeout=IDLE_TIMEOUT + HEAD_TIMEOUT)


async def test_over_ipv6_it_is_answered_too(database: str, tmp_path: Path) -> None:
    service = service_on(database, tmp_path)
    service.api.command += ["--host", "::1"]
    service.api.start()
    try:
        service.api.wait_for_line("ready")
        reader, writer = await asyncio.open_connection("::1", port_of(service))
        writer.write(LAST)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    finally:
        service.stop()
