"""Workers, from our side: a fork server that runs while it is needed, and a worker of it for each request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from tocsin.domain.deliveries import ATTEMPT_TIMEOUT
from tocsin.transports.apprise import messages
from tocsin.transports.apprise.slots import Busy, Slots
from tocsin.transports.apprise.way_out import Refusal, WayOut
from tocsin.transports.dial import Dialer

log = structlog.get_logger(__name__)

IDLE = 60.0
"""Seconds after its last request that a fork server ends."""
START_PATIENCE = 60.0
"""Seconds that a start may take on a machine that is busy."""
PAUSE_AFTER_FAILURE = 5.0
SLOT_PATIENCE = 5.0
LEAST = 2.0
"""Seconds that must be left of an attempt for a worker to begin it."""

_START = (
    "import sys; sys.path.append(sys.argv[3]); from tocsin.transports.apprise import fork_server; fork_server.main()"
)


class Unavailable(Exception):
    """Apprise cannot be asked; the text says why. It says nothing about the service."""


class Ended(Exception):
    """A worker ended without an answer; the text says how."""


class Answered:
    """A worker's answer, and why it got no connection where it asked for one."""

    def __init__(self, value: Mapping[str, Any], refusals: Sequence[Refusal]) -> None:
        self.value = value
        self.refusals = refusals


class Workers:
    """Workers of one process, for one event loop. Costs nothing before the first request.

    `dialer` opens their connections; without one they get none. `roots` is the file of the certificates that they
    trust, by default the system's.
    """

    def __init__(
        self, dialer: Dialer | None, *, roots: str | None = None, slots: Slots | None = None, idle: float = IDLE
    ) -> None:
        self._dialer = dialer
        self._roots = roots if roots is not None else _system_roots()
        self._slots = slots or Slots()
        self._idle = idle
        self._server: ForkServer | None = None
        self._starting = asyncio.Lock()
        self._failed: tuple[float, str] | None = None
        self._busy = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """Whether the fork server runs."""
        return self._server is not None and self._server.alive

    async def ask(
        self, request: Mapping[str, Any], *, lane: object = None, timeout: float = ATTEMPT_TIMEOUT
    ) -> Answered:
        """One worker's answer, within `timeout` seconds.

        Raises `Unavailable` or `Busy` if nothing was attempted, `Ended`, and `TimeoutError` once it was killed for
        that; whatever happens, no worker is left.
        """
        until = time.monotonic() + timeout
        self._busy += 1
        try:
            async with self._slots.take(lane, min(SLOT_PATIENCE, timeout)):
                server = await self._started(until)
                if until - time.monotonic() < min(LEAST, timeout / 2):
                    raise Busy
                return await self._ask(server, request, until)
        finally:
            self._busy -= 1
            if not self._busy:
                self._end_later()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        server, self._server = self._server, None
        if server is not None:
            await server.close()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _ask(self, server: ForkServer, request: Mapping[str, Any], until: float) -> Answered:
        left = until - time.monotonic()
        data = messages.encoded({**request, "seconds": round(left, 2), "roots": self._roots})
        if len(data) > messages.MAX_REQUEST:
            raise Unavailable("The request is too long for a worker")
        way_out = WayOut(self._dialer) if self._dialer else None
        worker = server.fork()
        try:
            async with asyncio.timeout(left):
                value = await _conversation(worker, data, way_out)
        finally:
            worker.close()
            if way_out is not None:
                way_out.close()
        if value is None:
            raise Ended(f"The process that ran Apprise ended without an answer ({await worker.end()})")
        return Answered(value, way_out.refusals if way_out is not None else ())

    async def _started(self, until: float) -> ForkServer:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()), self._starting:
                if self._failed is not None and time.monotonic() < self._failed[0] + PAUSE_AFTER_FAILURE:
                    raise Unavailable(self._failed[1])
                if self._server is None or not self._server.alive:
                    if self._server is not None:
                        await self._server.close()
                    self._server = await ForkServer.start()
                server = self._server
        except TimeoutError:
            raise Busy from None
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - time.monotonic()):
                await asyncio.shield(server.ready)
        except TimeoutError:
            raise Busy from None
        except Unavailable as error:
            self._failed = (time.monotonic(), str(error))
            raise
        self._failed = None
        return server

    def _end_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle, self._end)

    def _end(self) -> None:
        self._timer = None
        server, self._server = self._server, None
        if server is not None:
            task = asyncio.get_running_loop().create_task(server.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


class ForkServer:
    """The process that forks workers. `ready` is done when it can, or raises `Unavailable`."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, folder: str) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.alive = True
        self._process, self._control, self._folder = process, control, folder
        self._number = 0
        self._ends: dict[str, asyncio.Future[int]] = {}
        self._late = loop.call_later(START_PATIENCE, self._ended, "Apprise took too long to start")
        loop.add_reader(control, self._heard)

    @classmethod
    async def start(cls) -> ForkServer:
        """Start it; it is ready when `ready` is done."""
        folder = tempfile.mkdtemp(prefix="tocsin-apprise-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        package = Path(__file__).parents[3]
        descriptor = theirs.fileno()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-X", "utf8", "-c", _START, str(descriptor), str(os.getpid()), str(package),
                env={}, cwd=folder, pass_fds=[descriptor], start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except BaseException as error:
            ours.close()
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise Unavailable(f"Apprise cannot be started: {error.strerror or error}") from error
            raise
        finally:
            theirs.close()
        return cls(process, ours, folder)

    def fork(self) -> Worker:
        """A new worker. Raises `Unavailable`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._number += 1
        number = str(self._number)
        try:
            with theirs:
                socket.send_fds(self._control, [number.encode()], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise Unavailable(f"Apprise cannot be asked: {error.strerror or error}") from error
        self._ends[number] = asyncio.get_running_loop().create_future()
        return Worker(self, number, ours, self._ends[number])

    def kill(self, number: str) -> None:
        """End that worker, if it still runs."""
        with contextlib.suppress(OSError):
            self._control.send(f"-{number}".encode())

    async def close(self) -> None:
        """End it and its workers."""
        self._ended("Apprise was ended")
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)  # left only if it never was ready

    def _heard(self) -> None:
        try:
            said = self._control.recv(1000).decode("utf-8", "replace")
        except BlockingIOError:
            return
        except OSError:
            said = ""
        if said == messages.READY:
            self._late.cancel()
            if not self.ready.done():
                self.ready.set_result(None)
        elif self.ready.done() and said:
            number, _, status = said.partition(" ")
            end = self._ends.pop(number, None)
            if end is not None and not end.done():
                end.set_result(int(status))
        else:
            self._ended(f"Apprise cannot be loaded: {said}" if said else "Apprise ended")

    def _ended(self, why: str) -> None:
        if not self.alive:
            return
        self.alive = False
        self._late.cancel()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        for end in self._ends.values():
            if not end.done():
                end.set_result(-9)
        self._ends.clear()
        if not self.ready.done():
            self.ready.set_exception(Unavailable(why))
            self.ready.exception()  # nobody may be waiting for it
            log.warning("Apprise could not be started", why=why)


class Worker:
    """One worker: what it says, in messages, until it ends."""

    def __init__(self, server: ForkServer, number: str, channel: socket.socket, end: asyncio.Future[int]) -> None:
        self._server, self._number, self._channel, self._end = server, number, channel, end
        self._heard: asyncio.Queue[tuple[bytes, list[int]]] = asyncio.Queue()
        self._open = True
        asyncio.get_running_loop().add_reader(channel, self._read)

    def say(self, data: bytes) -> None:
        """Raises `OSError` if it has ended."""
        self._channel.send(data)

    async def hear(self) -> tuple[bytes, list[int]]:
        """Its next message, and the descriptors that came with it; nothing if it has ended."""
        return await self._heard.get()

    async def end(self) -> str:
        """How it ended."""
        try:
            async with asyncio.timeout(1.0):
                status = await asyncio.shield(self._end)
        except TimeoutError:
            return "in an unknown way"
        return f"exit {status}" if status >= 0 else f"signal {-status}"

    def close(self) -> None:
        """Kill it, unless it has ended, and forget what it said."""
        self._stop_reading()
        while not self._heard.empty():
            for descriptor in self._heard.get_nowait()[1]:
                os.close(descriptor)
        self._channel.close()
        if not self._end.done():
            self._server.kill(self._number)

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, messages.PIECE + 1, 4)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._heard.put_nowait((data, descriptors))
        if not data:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._channel)


async def _conversation(worker: Worker, request: bytes, way_out: WayOut | None) -> Any:
    """Its answer, or None if it ended without one. Connects what it asks for, one at a time."""
    answer = b""
    try:
        worker.say(request)
        while True:
            said, descriptors = await worker.hear()
            kind, rest = said[:1], said[1:]
            if kind == messages.CONNECT and len(descriptors) == 1:
                refusal: str | None = "There is no way out"
                ours = socket.socket(fileno=descriptors[0])
                try:
                    host, port = messages.decoded(rest)
                    if way_out is not None:
                        refusal = await way_out.connect(ours, host, port)
                finally:
                    if refusal is not None:
                        ours.close()
                worker.say(messages.encoded(refusal))
                continue
            for descriptor in descriptors:
                os.close(descriptor)
            if kind not in (messages.MORE, messages.LAST):
                return None
            answer += rest
            if len(answer) > messages.MAX_ANSWER:
                return None
            if kind == messages.LAST:
                return messages.decoded(answer)
    except (OSError, ValueError):
        return None


def _system_roots() -> str:
    """The file of the certificates that everything else here trusts; empty for the ones that come with Python."""
    return ssl.get_default_verify_paths().cafile or ""
