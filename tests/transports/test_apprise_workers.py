"""Workers: their one way out, their limits, and what happens when they are killed."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from tests.apprise_services import LOOPBACK, to
from tests.receivers import Answer, Receiver
from tocsin.transports.apprise.slots import Busy, Slots
from tocsin.transports.apprise.workers import Answered, Ended, Workers
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

PATIENCE = 30.0
NOWHERE = Guard([])


def send(host: str, port: int, **fields: str) -> dict[str, Any]:
    return {
        "do": "send", "service": "gotify", "fields": {"host": host, "port": str(port), "token": "t0ken", **fields},
        "title": "Title", "body": "Body", "kind": "failure",
    }  # fmt: skip


Make = Callable[..., Workers]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Workers] = []

    def new(guard: Guard = LOOPBACK, resolve: Any = None, **options: Any) -> Workers:
        made.append(Workers(Dialer(guard, resolve=resolve), **options))
        return made[-1]

    yield new
    for each in made:
        await each.close()


async def ask(workers: Workers, request: dict[str, Any], **options: Any) -> Answered:
    return await workers.ask(request, **{"timeout": PATIENCE, **options})


_others: set[int] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Children of this process that are of other tests."""
    _others.clear()
    _others.update(each.pid for each in psutil.Process().children(recursive=True))


def processes() -> list[psutil.Process]:
    """The fork server and its workers: those that run."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            of_ours = each.pid not in _others and each.parent() is not None
            if of_ours and each.status() != psutil.STATUS_ZOMBIE and "fork_server" in " ".join(each.cmdline()):
                found.append(each)
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_nothing_runs_before_it_is_needed_or_after_it_was_idle(make: Make) -> None:
    workers = make(idle=0.2)
    assert not processes()
    assert (await ask(workers, {"do": "services"})).value["services"]
    assert workers.running
    await until(lambda: not processes())
    assert not workers.running
    assert (await ask(workers, {"do": "services"})).value["services"]


async def test_a_worker_sees_nothing_of_our_environment_and_is_in_an_empty_folder(make: Make) -> None:
    workers = make()
    await ask(workers, {"do": "services"})
    await until(lambda: len(processes()) == 1)
    (server,) = processes()
    assert server.environ().keys() <= {"LC_CTYPE"}, "which Python sets itself (PEP 538)"
    folder = server.cwd().removesuffix(" (deleted)")
    assert folder != os.getcwd()
    assert not Path(folder).exists(), "it is empty for good"
    await workers.close()
    assert not psutil.pid_exists(server.pid)


async def test_an_address_that_the_guard_refuses_is_not_reached(make: Make, receiver: Receiver) -> None:
    answered = await ask(make(NOWHERE), send("127.0.0.1", receiver.port))
    assert not answered.value["done"]
    assert [each.blocked for each in answered.refusals] == [True]
    for host in ("localhost", "2130706433", "0x7f.1", "[::1]", "metadata.internal"):
        resolve = to("169.254.169.254")
        answered = await ask(make(NOWHERE, resolve), send(host.strip("[]"), receiver.port))
        assert not answered.value.get("done"), host
    assert not receiver.requests


async def test_a_redirect_is_not_followed_wherever_it_leads(make: Make, new_receiver: Callable[[], Receiver]) -> None:
    front, behind = new_receiver(), new_receiver()
    workers = make()
    for status in (301, 302, 303, 307, 308):
        front.otherwise = Answer(status, {"Location": behind.url("/secret")})
        answered = await ask(workers, send("127.0.0.1", front.port))
        assert not answered.value["done"]
        assert answered.value["noted"][-1]["status"] == status
    assert not behind.requests


async def test_a_name_that_changes_its_address_gains_nothing(make: Make, receiver: Receiver) -> None:
    """The address that was checked is the one that is connected to; a second look-up is checked like the first."""
    guard = Guard([ipaddress.ip_network("127.0.0.2/32")])
    workers = make(guard, to("127.0.0.1", "127.0.0.1"))
    for _ in range(2):
        answered = await ask(workers, send("rebinding.example.com", receiver.port))
        assert [each.blocked for each in answered.refusals] == [True]
    rebound = make(guard, to("127.0.0.2", "127.0.0.1"))
    answered = await ask(rebound, send("rebinding.example.com", receiver.port))
    assert not answered.value["done"]
    assert not receiver.requests


async def test_a_service_that_sleeps_for_minutes_is_ended_in_time_and_delays_no_other(
    make: Make, new_receiver: Callable[[], Receiver]
) -> None:
    slow, quick = new_receiver(), new_receiver()
    slow.otherwise, quick.otherwise = Answer(how="hang"), Answer(200, body=b"{}")
    workers = make()
    await ask(workers, {"do": "services"})
    hanging = [
        asyncio.create_task(ask(workers, send("127.0.0.1", slow.port), lane="slow", timeout=4.0)) for _ in range(8)
    ]
    await slow.arrivals(1)
    began = time.monotonic()
    answered = await ask(workers, send("127.0.0.1", quick.port), lane="quick")
    assert answered.value["done"]
    assert not all(each.done() for each in hanging) or time.monotonic() - began > 4.0
    ends = await asyncio.gather(*hanging, return_exceptions=True)
    assert {type(each) for each in ends} <= {TimeoutError, Busy}
    await until(lambda: len(processes()) == 1)


async def test_a_service_that_answers_without_end_fills_no_memory(make: Make) -> None:
    """It is cut off by what passes, long before a worker has no memory left."""
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except OSError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    before = psutil.Process().memory_info().rss
    workers = make()
    answered = await ask(workers, send("127.0.0.1", server.sockets[0].getsockname()[1]))
    assert len(answered.value["noted"][-1].get("text", "")) <= 2048
    assert psutil.Process().memory_info().rss - before < 50 * 1024 * 1024
    server.close()
    await workers.close()


async def test_a_small_answer_that_unpacks_to_much_fills_no_memory(make: Make, receiver: Receiver) -> None:
    import gzip

    receiver.otherwise = Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(b"\0" * 2**30, 9))
    answered = await ask(make(), send("127.0.0.1", receiver.port))
    assert "error" not in answered.value or "memory" in answered.value["error"]
    assert len(repr(answered.value)) < 50_000


async def test_a_worker_that_is_killed_ends_its_own_attempt_and_no_other(make: Make, receiver: Receiver) -> None:
    receiver.otherwise = Answer(how="hang")
    workers = make()
    attempt = asyncio.create_task(ask(workers, send("127.0.0.1", receiver.port), lane=1))
    await receiver.arrivals(1)
    server = next(each for each in processes() if each.ppid() == os.getpid())
    (worker,) = server.children()
    worker.send_signal(signal.SIGKILL)
    with pytest.raises(Ended, match="signal 9"):
        await attempt
    receiver.otherwise = Answer(200, body=b"{}")
    assert (await ask(workers, send("127.0.0.1", receiver.port), lane=2)).value["done"]


async def test_a_fork_server_that_is_killed_is_started_again(make: Make, receiver: Receiver) -> None:
    receiver.otherwise = Answer(how="hang")
    workers = make()
    attempt = asyncio.create_task(ask(workers, send("127.0.0.1", receiver.port)))
    await receiver.arrivals(1)
    server = next(each for each in processes() if each.ppid() == os.getpid())
    server.send_signal(signal.SIGKILL)
    with pytest.raises(Ended):
        await attempt
    receiver.otherwise = Answer(200, body=b"{}")
    assert (await ask(workers, send("127.0.0.1", receiver.port))).value["done"]


async def test_whoever_gives_up_leaves_no_worker_behind(make: Make, receiver: Receiver) -> None:
    receiver.otherwise = Answer(how="hang")
    workers = make()
    attempt = asyncio.create_task(ask(workers, send("127.0.0.1", receiver.port)))
    await receiver.arrivals(1)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await until(lambda: len(processes()) == 1)


async def test_without_a_way_out_nothing_is_reached(receiver: Receiver) -> None:
    workers = Workers(None)
    try:
        answered = await ask(workers, send("127.0.0.1", receiver.port))
    finally:
        await workers.close()
    assert not answered.value["done"]
    assert not receiver.requests


async def test_slow_lanes_share_a_part_of_the_slots_and_no_lane_has_them_all() -> None:
    slots = Slots(slots=4, of_a_lane=2, of_slow_lanes=1)
    inside: list[object] = []
    leave = asyncio.Event()

    async def use(lane: object, patience: float = PATIENCE) -> None:
        async with slots.take(lane, patience):
            inside.append(lane)
            await leave.wait()
            if lane in ("slow", "slower"):
                raise TimeoutError

    first = [asyncio.create_task(use(lane)) for lane in ("slow", "slow", "slow", "slower", "quick")]
    await until(lambda: len(inside) == 4)
    assert sorted(map(str, inside)) == ["quick", "slow", "slow", "slower"]
    leave.set()
    await asyncio.gather(*first, return_exceptions=True)
    inside.clear()
    leave.clear()
    second = [asyncio.create_task(use(lane)) for lane in ("slow", "slower", "slow", "quick", "new")]
    await until(lambda: len(inside) == 3)
    assert sorted(map(str, inside)) == ["new", "quick", "slow"], "slow ones have one slot between them"
    with pytest.raises(Busy):
        await use("slower", patience=0.05)
    leave.set()
    await asyncio.gather(*second, return_exceptions=True)


def test_the_sockets_that_workers_use_keep_the_bounds_of_messages() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b"one")
        ours.send(b"two")
        assert theirs.recv(100) == b"one"
