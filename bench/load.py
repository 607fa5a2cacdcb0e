"""Where requests come from: a lean HTTP load generator in a process of its own, the same one for every peer."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import httptools
import uvloop

PATIENCE = 120


@dataclass(frozen=True, slots=True)
class Sent:
    """One entry a request, in the order given: monotonic time of sending (of the plan, where a rate was asked for),
    of the whole answer, and the status; 0 for none."""

    sent: list[float]
    answered: list[float]
    statuses: list[int]

    @property
    def took(self) -> float:
        return max(self.answered) - min(self.sent)

    def must_be(self, *allowed: int) -> Sent:
        """Itself, where every status is allowed; a figure from refused requests would be a lie."""
        other = Counter(status for status in self.statuses if status not in allowed)
        if other:
            raise RuntimeError(f"answers that were not expected, status → count: {dict(other)}")
        return self


class Load:
    """The parent's side."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid

    def send(self, port: int, requests: Sequence[bytes], *, connections: int = 32, rate: float | None = None) -> Sent:
        """Send whole HTTP requests as fast as `connections` go, or at `rate` a second with a jitter of ±50 %."""
        self._pipe.send((port, requests, connections, rate))
        if not self._pipe.poll(PATIENCE + (len(requests) / rate if rate else 0)):
            raise RuntimeError(f"not all of {len(requests)} requests were answered within {PATIENCE} s")
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP/1.1 request. Header names are given with underscores."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Run:
    def __init__(self, requests: Sequence[bytes], done: asyncio.Future[None]) -> None:
        self.requests = requests
        self.done = done
        self.sent = [0.0] * len(requests)
        self.answered = [0.0] * len(requests)
        self.statuses = [0] * len(requests)
        self.due: deque[int] = deque()
        self.idle: deque[_Connection] = deque()  # in turns, so that none is idle for so long that it is closed
        self.left = len(requests)

    def put(self, index: int) -> None:
        if self.idle:
            self.idle.popleft().send(index)
        else:
            self.due.append(index)

    def finished(self, connection: _Connection, status: int) -> None:
        self.answered[connection.index] = time.monotonic()
        self.statuses[connection.index] = status
        connection.index = -1
        self.left -= 1
        if self.left == 0:
            self.done.set_result(None)
        elif self.due:
            connection.send(self.due.popleft())
        else:
            self.idle.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self.run = run
        self.index = -1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def send(self, index: int) -> None:
        self.index = index
        if not self.run.sent[index]:
            self.run.sent[index] = time.monotonic()
        self.transport.write(self.run.requests[index])

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.run.finished(self, self.parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.run.done.done():
            self.run.done.set_exception(ConnectionError(f"the connection was closed by the server: {error}"))


def _main(pipe: Connection) -> None:
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(uvloop.run(_send(*job)))
        except Exception as error:
            pipe.send(error)


async def _send(port: int, requests: Sequence[bytes], connections: int, rate: float | None) -> Sent:
    loop = asyncio.get_running_loop()
    run = _Run(requests, loop.create_future())
    opened = [
        (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port))[1]
        for _ in range(min(connections, len(requests)))
    ]
    if rate is None:
        run.due.extend(range(len(opened), len(requests)))
        for index, connection in enumerate(opened):
            connection.send(index)
    else:
        run.idle.extend(opened)
        await _paced(run, rate)
    await run.done
    for connection in opened:
        connection.transport.close()
    return Sent(run.sent, run.answered, run.statuses)


async def _paced(run: _Run, rate: float) -> None:
    chance = random.Random(1)
    start = time.monotonic()
    for index in range(len(run.requests)):
        at = start + (index + chance.uniform(-0.5, 0.5)) / rate
        await asyncio.sleep(at - time.monotonic())
        # What is late is late by the plan: a stalled server must not slow the clock it is measured by.
        run.sent[index] = time.monotonic() if run.idle else at
        run.put(index)
