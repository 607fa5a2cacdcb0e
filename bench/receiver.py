"""Where notifications arrive: a lean HTTP receiver in a process of its own, which also serves the site that is checked.

It must cost little, so that what is measured is the sender. An arrival is known by its key, the first `bench_…` in the
body, which every sender puts there in its own way; times are the system-wide monotonic clock, so that they compare
with those of the load generator.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httptools
import uvloop

KEY = re.compile(rb"bench_\w+")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
FOREVER = 10**12
PATIENCE = 120
"""Seconds after which the receiver itself must be at fault; longer than any wait for arrivals."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What has arrived since the last `reset`: key → monotonic time of the first, and how many came more than once."""

    opened: dict[str, float]
    resolved: dict[str, float]
    repeated: int


class Receiver:
    """The parent's side. `port` answers at once (or holds, see `hold`); `dead_port` accepts and never answers."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid
        self.port, self.dead_port = self._pipe.recv()

    def reset(self) -> None:
        """Forget what has arrived, and answer everything again, what was held first."""
        self._ask("reset")

    def hold(self, after: int) -> None:
        """Answer `after` more notifications, then accept and record but do not answer."""
        self._ask("hold", after)

    def wait(self, count: int, timeout: float) -> Arrivals:
        """Wait until `count` different notifications have arrived, `timeout` seconds at most."""
        return self._ask("wait", count, timeout)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._process.terminate()
        self._process.join()

    def _ask(self, *command: Any) -> Any:
        self._pipe.send(command)
        if not self._pipe.poll(PATIENCE):
            raise RuntimeError("the receiver does not answer")
        return self._pipe.recv()


class _State:
    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.waiting: tuple[int, asyncio.TimerHandle] | None = None
        self.held: list[asyncio.Transport] = []
        self.left = FOREVER
        self.forget()

    def forget(self) -> None:
        self.first: dict[bytes, float] = {}
        self.seen: Counter[bytes] = Counter()

    def arrived(self, body: bytes, transport: asyncio.Transport) -> None:
        now = time.monotonic()
        found = KEY.search(body)
        if found is not None:
            key = found[0] + b"!" if b'"resolved"' in body else found[0]
            if key not in self.first:
                self.first[key] = now
            self.seen[key] += 1
        if self.left > 0:
            self.left -= 1
            transport.write(OK)
        else:
            self.held.append(transport)
        if self.waiting is not None and len(self.first) >= self.waiting[0]:
            self.answer()

    def command(self) -> None:
        try:
            name, *values = self.pipe.recv()
        except EOFError:
            asyncio.get_running_loop().stop()
            return
        if name == "reset":
            self.left = FOREVER
            for transport in self.held:
                if not transport.is_closing():
                    transport.write(OK)
            self.held.clear()
            self.forget()
        elif name == "hold":
            self.left = values[0]
        else:
            count, timeout = values
            self.waiting = count, asyncio.get_running_loop().call_later(timeout, self.answer)
            if len(self.first) >= count:
                self.answer()
            return
        self.pipe.send(None)

    def answer(self) -> None:
        assert self.waiting is not None
        self.waiting[1].cancel()
        self.waiting = None
        opened = {key.decode(): at for key, at in self.first.items() if key[-1:] != b"!"}
        resolved = {key[:-1].decode(): at for key, at in self.first.items() if key[-1:] == b"!"}
        self.pipe.send(Arrivals(opened, resolved, sum(count - 1 for count in self.seen.values())))


class _Answering(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self.state = state
        self.body = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.body:
            self.state.arrived(self.body, self.transport)
            self.body = b""
        else:
            self.transport.write(OK)
            if not self.parser.should_keep_alive():
                self.transport.close()


def _main(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    state = _State(pipe)
    answering = await loop.create_server(lambda: _Answering(state), "127.0.0.1", 0, backlog=4096)
    dead = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=4096)
    pipe.send(tuple(server.sockets[0].getsockname()[1] for server in (answering, dead)))
    loop.add_reader(pipe.fileno(), state.command)
    os.set_blocking(pipe.fileno(), True)  # which the loop has changed: a long answer goes out whole
    await asyncio.gather(answering.serve_forever(), dead.serve_forever())
