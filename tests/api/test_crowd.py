"""How long, how slowly and how many: nobody keeps others out by being connected."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from tests.api.test_heads import GET, INCIDENTS, LAST, LIVE, is_refusal, port_of, post
from tests.conftest import Postgres, Service, service_on, shared_service
from tests.needed import program
from tests.raw_http import Wire, answers, ask, dial
from tests.receivers import Mailbox
from tests.waiting import until
from tests.web.test_sign_in import account, sign_in
from tocsin import settings as configuration
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault

HEAD_TIMEOUT, IDLE_TIMEOUT, GRACE, RATE = 1.5, 4.0, 2.5, 2000
MOST, MOST_OF_ONE = 40, 25
PROXY = "127.0.0.100"
SIGN_IN = b"/api/v1/users/sign_in"
FORM = b"Content-Type: application/x-www-form-urlencoded"
LATE = 15.0
"""Seconds that anything may take longer than it should, on a busy machine."""


@pytest.fixture(scope="module")
def hasty(postgres: Postgres, _mail_server: Mailbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with little patience and little room."""
    with shared_service(
        postgres, tmp_path_factory.mktemp("hasty"), _mail_server,
        TOCSIN_HEAD_TIMEOUT=f"{HEAD_TIMEOUT}", TOCSIN_IDLE_TIMEOUT=f"{IDLE_TIMEOUT}",
        TOCSIN_TRANSFER_GRACE=f"{GRACE}", TOCSIN_TRANSFER_RATE=f"{RATE}",
        TOCSIN_MAX_CONNECTIONS=f"{MOST}", TOCSIN_MAX_CONNECTIONS_PER_ADDRESS=f"{MOST_OF_ONE}",
        TOCSIN_TRUSTED_PROXIES=f"{PROXY}/32",
    ) as service:  # fmt: skip
        yield service


@asynccontextmanager
async def wires(service: Service, number: int = 1, source: str | None = None) -> AsyncIterator[list[Wire]]:
    made: list[Wire] = []
    try:
        for _ in range(number):
            made.append(await dial(port_of(service), source))
        yield made
    finally:
        for wire in made:
            wire.close()


async def ended(service: Service, *parts: bytes, pause: float = 30.0) -> tuple[bytes, float]:
    """What comes until the end, where these parts are sent, and how many seconds passed since before the first."""
    began = time.monotonic()
    async with wires(service) as (wire,):
        sending = asyncio.create_task(wire.send(*parts, pause=pause))
        said = await wire.rest()
        seconds = time.monotonic() - began
        sending.cancel()
    return said, seconds


def deaf(service: Service) -> socket.socket:
    """Somebody who does not read what they are answered."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port_of(service)))
    made.setblocking(False)
    return made


@asynccontextmanager
async def locked(service: Service) -> AsyncIterator[bytes]:
    """A complete request that is not answered as long as this lasts."""
    token = (await service.new_project()).api_token.encode()
    connection = await asyncpg.connect(service.database)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE servers")
            yield b"GET /api/v1/servers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token
    finally:
        await connection.close()


def memory_of(service: Service) -> int:
    return psutil.Process(service.api.pid).memory_info().rss


# --------------------------------------------------------------------------------------------------------------- time


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
        async with wires(hasty, MOST_OF_ONE + 5), wires(hasty, MOST_OF_ONE + 5, "127.0.0.2"):
            with pytest.raises(TimeoutError):
                await wire.rest(timeout=IDLE_TIMEOUT + HEAD_TIMEOUT)


# ------------------------------------------------------------------------------------------------------------- number


async def test_who_has_been_idle_longest_makes_room(hasty: Service) -> None:
    async with wires(hasty, MOST_OF_ONE) as crowd:
        for wire in crowd:
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200
        first, second, *others = crowd
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
    async with wires(hasty, MOST_OF_ONE - 2) as working:
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
        async with wires(hasty, MOST_OF_ONE, "127.0.0.2") as some, wires(hasty, MOST_OF_ONE, "127.0.0.3") as others:
            for wire in some + others:
                await wire.send(half)
            for _ in range(5):
                assert [each.status for each in await ask(port_of(hasty), LAST, source="127.0.0.9")] == [200]


async def test_where_all_are_busy_who_comes_is_told_so_and_others_are_let_in(hasty: Service) -> None:
    working: list[Wire] = []
    async with locked(hasty) as request:

        async def full() -> bool:
            wire = await dial(port_of(hasty), "127.0.0.7")
            working.append(wire)
            await wire.send(request)
            try:
                return is_refusal(answers(await wire.rest(0.1))[0], 503)
            except TimeoutError:
                return False

        await until(full, what="a refusal")
        assert len(working) > MOST_OF_ONE
        assert [each.status for each in await ask(port_of(hasty), LAST)] == [200], "another address"
    working.pop().close()
    assert [(await wire.answer()).status for wire in working] == [200] * MOST_OF_ONE
    for wire in working:
        wire.close()


async def test_a_trusted_proxy_may_bring_more_than_any_other_address(hasty: Service) -> None:
    async with wires(hasty, MOST_OF_ONE + 5, PROXY) as many:
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
        async with wires(small, 1, "127.0.0.5") as (slow,), wires(small, 300) as crowd:
            await slow.send(post(b"Content-Length: 2", path=SIGN_IN, body=b"{"))
            for wire in crowd:
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
    async with wires(small, 20) as crowd:
        for wire in crowd:
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.num_fds(), 256))
        async with wires(small, 50):
            before = sum(process.cpu_times()[:2])
            await asyncio.sleep(1)
            assert sum(process.cpu_times()[:2]) - before < 0.5, "it does not spin"
            await crowd[0].send(GET % LIVE)
            assert (await crowd[0].answer()).status == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))

        async def answered() -> bool:
            try:
                return [each.status for each in await ask(port_of(small), LAST)] == [200]
            except ConnectionError:
                return False

        await until(answered, what="a new connection to be answered")


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


# ----------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CONNECTIONS", "0"), ("MAX_CONNECTIONS", "many"), ("MAX_CONNECTIONS_PER_ADDRESS", "0"),
        ("MAX_HEAD_BYTES", "100"), ("MAX_HEAD_BYTES", "9" * 5000), ("MAX_HEADERS", "3"), ("HEAD_TIMEOUT", "0"),
        ("HEAD_TIMEOUT", "nan"), ("IDLE_TIMEOUT", "-1"), ("TRANSFER_GRACE", "inf"), ("TRANSFER_RATE", "0"),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_kept_is_named(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=f"^TOCSIN_{name}: ") as refused:
        configuration.load(tmp_path, {f"TOCSIN_{name}": value})
    assert "\n" not in str(refused.value)
