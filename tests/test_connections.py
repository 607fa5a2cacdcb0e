"""How long, how slowly and how many: nobody keeps others out by being connected."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import Postgres, Service, service_on, shared_service
from tests.needed import program
from tests.raw_http import Wire, answers, ask, dial
from tests.receivers import Mailbox
from tests.test_console_sign_in import account, sign_in
from tests.test_heads import GET, INCIDENTS, LAST, LIVE, is_refusal, port_of, post
from tests.waiting import until
from tocsin import settings as configuration
from tocsin.api.crowd import of_one_customer
from tocsin.settings import Unusable
from tocsin.storage import database as storage
from tocsin.storage.secrets import Vault

HEAD_TIMEOUT, IDLE_TIMEOUT, GRACE, RATE = 1.0, 2.0, 1.0, 2000
MOST, MOST_OF_ONE = 40, 25
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


async def ended(wire: Wire) -> tuple[bytes, float]:
    """What came until its end, and how many seconds that took."""
    began = time.monotonic()
    return await wire.rest(), time.monotonic() - began


def memory_of(service: Service) -> int:
    return psutil.Process(service.api.pid).memory_info().rss


# --------------------------------------------------------------------------------------------------------------- time


async def test_who_says_nothing_is_not_waited_for(hasty: Service) -> None:
    async with wires(hasty, 3) as silent:
        for said, seconds in await asyncio.gather(*map(ended, silent)):
            assert said == b""
            assert HEAD_TIMEOUT * 0.9 <= seconds + 0.5 <= HEAD_TIMEOUT + LATE


@pytest.mark.parametrize("pause", [30.0, 0.1], ids=["at once", "in drops"])
async def test_half_a_head_is_refused_when_its_time_is_up(hasty: Service, pause: float) -> None:
    async with wires(hasty) as (wire,):
        parts = [b"GET /health/live HTTP/1.1\r\n", *[b"X: y\r\n"] * 300]
        sending = asyncio.create_task(wire.send(*parts, pause=pause))
        said, seconds = await ended(wire)
        sending.cancel()
    assert HEAD_TIMEOUT * 0.9 <= seconds + 0.5 <= HEAD_TIMEOUT + LATE
    assert is_refusal(answers(said)[0], 408)


async def test_a_kept_connection_has_the_idle_time_and_then_the_time_of_a_head(hasty: Service) -> None:
    async with wires(hasty, 2) as (idle, half):
        for wire in (idle, half):
            await wire.send(GET % LIVE)
            assert (await wire.answer()).status == 200
        await asyncio.sleep(HEAD_TIMEOUT)
        await half.send(b"GET /")
        (last, seconds), (said, _) = await asyncio.gather(ended(idle), ended(half))
    assert last == b""
    assert IDLE_TIMEOUT - HEAD_TIMEOUT - 0.5 <= seconds <= IDLE_TIMEOUT + LATE
    assert is_refusal(answers(said)[0], 408)


@pytest.mark.parametrize("path", [INCIDENTS, b"/api/v1/users/sign_in", b"/sign-in"])
async def test_a_body_that_comes_too_slowly_is_refused(hasty: Service, path: bytes) -> None:
    for pause in (0.2, 30.0):
        async with wires(hasty) as (wire,):
            head = post(b"Content-Length: 5000", b"Authorization: Bearer none", path=path)
            sending = asyncio.create_task(wire.send(head, *[b" " * 10] * 500, pause=pause))
            said, seconds = await ended(wire)
            sending.cancel()
        answered = answers(said)
        assert len(answered) == 1
        assert GRACE * 0.9 <= seconds + 0.5 <= GRACE * 2 + LATE
        assert is_refusal(answered[0], 408)


async def test_what_came_fast_of_a_body_is_no_credit_for_silence(hasty: Service) -> None:
    head = post(b"Content-Length: 8000", path=b"/api/v1/users/sign_in")
    async with wires(hasty) as (wire,):
        await wire.send(head, *[b" " * 2_500] * 3, pause=0.05)
        said, seconds = await ended(wire)
    assert is_refusal(answers(said)[0], 408)
    assert seconds <= GRACE * 2 + LATE


async def test_a_body_that_comes_fast_enough_may_take_its_time(hasty: Service) -> None:
    for path in (INCIDENTS, b"/api/v1/users/sign_in"):
        async with wires(hasty) as (wire,):
            head = post(b"Content-Length: 8000", b"Connection: close", path=path)
            sending = asyncio.create_task(wire.send(head, *[b" " * 400] * 20, pause=0.15))
            said, seconds = await ended(wire)
            await sending
        assert seconds > GRACE
        assert answers(said)[0].status in (400, 401)


async def test_the_body_of_a_request_that_is_answered_is_not_waited_for_either(hasty: Service) -> None:
    async with wires(hasty) as (wire,):
        head = post(b"Content-Length: 300000", b"Authorization: Bearer none")
        sending = asyncio.create_task(wire.send(head, *[b" " * 10] * 500, pause=0.2))
        said, seconds = await ended(wire)
        sending.cancel()
    assert [each.status for each in answers(said)] == [401]
    assert seconds <= GRACE + LATE


async def test_who_does_not_read_the_answers_is_left(hasty: Service) -> None:
    description = GET % b"/api/v1/openapi.json"
    assert len((await ask(port_of(hasty), description[:-2] + b"Connection: close\r\n\r\n"))[0].body) > 100_000
    quiet = socket.socket()
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    quiet.connect(("127.0.0.1", port_of(hasty)))
    ours = quiet.getsockname()[1]
    quiet.setblocking(False)
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
                await wire.rest(timeout=IDLE_TIMEOUT + 2 * HEAD_TIMEOUT)


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


async def test_half_heads_make_room_and_requests_under_way_do_not(hasty: Service) -> None:
    busy = post(b"Content-Length: 8000", path=b"/api/v1/users/sign_in")
    async with wires(hasty, MOST_OF_ONE - 2) as working:
        for wire in working:
            await wire.send(busy)
        async with wires(hasty, 30) as halves:
            for wire in halves:
                await wire.send(b"GET / HTTP/1.1\r\n")
            assert [each.status for each in await ask(port_of(hasty), LAST)] == [200]
        ends = [answers(await wire.rest()) for wire in working]
    assert [[each.status for each in end] for end in ends] == [[408]] * len(working)


async def test_where_all_are_busy_who_comes_is_told_so_and_others_are_let_in(hasty: Service) -> None:
    busy = post(b"Content-Length: 8000", path=b"/api/v1/users/sign_in")
    async with wires(hasty, MOST_OF_ONE, "127.0.0.7") as working:
        for wire in working:
            await wire.send(busy, b" " * 10)

        async def full() -> bool:
            async with wires(hasty, 1, "127.0.0.7") as (wire,):
                said = await wire.rest()
                return said != b"" and is_refusal(answers(said)[0], 503)

        await until(full, what="a refusal")
        assert [each.status for each in await ask(port_of(hasty), LAST)] == [200], "another address"


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


async def test_three_hundred_silent_callers_keep_nobody_out_where_256_files_may_be_open(small: Service) -> None:
    assert resource.prlimit(psutil.Process(small.api.pid).pid, resource.RLIMIT_NOFILE) == (256, 256)
    process = psutil.Process(small.api.pid)
    async with wires(small, 300) as silent:
        for number, wire in enumerate(silent):
            await wire.send([b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n", post(b"Content-Length: 5")][number % 4])
        for _ in range(10):
            assert [each.status for each in await ask(port_of(small), LAST)] == [200]
        assert process.num_fds() < 250
    assert small.api.said().count("\n") == 1, small.api.said()


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


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::1", "::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)  # fmt: skip
def test_an_ipv6_address_counts_by_its_network(address: str, counts_as: str) -> None:
    assert of_one_customer(address) == counts_as


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
