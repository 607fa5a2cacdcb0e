"""HTTP outwards on behalf of projects: posts over kept connections, guarded, bounded, and told in plain words.

The client is small because posting is most of what an engine does: measured in an engine, a fifth of what a general
client costs. It speaks HTTP/1.1 (RFC 9112) as far as one POST and its answer need.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Mapping
from functools import partial

import httptools
import msgspec

from tocsin.domain.deliveries import RESPONSE_LIMIT, TRY_TIMEOUT
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Blocked, Guard
from tocsin.transports.place import Place, place
from tocsin.transports.resolver import Resolve, Unresolved

KEEP_IDLE = 4.5
"""Seconds that an unused connection is kept: less than the 5 after which common servers drop one."""
PATIENCE = 1.0
"""Seconds that any server keeps an idle connection: one that breaks sooner was not closed for being idle."""
LOOK = 0.1
"""Seconds between two looks at what waits for an answer or is idle. One for all costs less than a timer for each."""
HEADERS_LIMIT = 64 << 10


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a destination answered: header names in lower case, `text` the start of its body, without NUL."""

    status: int
    headers: Mapping[str, str]
    text: str


class Unreachable(Exception):
    """There was no answer; the text says why in one line and names no more of the URL than host and port.

    `refused` means that the address may not be reached at all, so that trying again helps nobody.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Http:
    """Connections to many places, for one event loop. No cookies, no redirects, no proxy variables.

    `keep` is how many bytes of an answer's body are read.
    """

    def __init__(
        self, guard: Guard, *, tls: ssl.SSLContext | None = None, resolve: Resolve | None = None,
        keep: int = RESPONSE_LIMIT,
    ) -> None:
        self._connection = partial(Connection, keep)
        self._dialer = Dialer(guard, tls, resolve)
        self._idle: dict[Place, list[Connection]] = {}
        self._asked: dict[Connection, float] = {}  # with the moment by which they must have answered
        self._timer: asyncio.TimerHandle | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post `body` with exactly `headers` (and what HTTP needs); the answer within 10 seconds, whatever its status.

        Raises `Unreachable`.
        """
        try:
            there = place(url)
        except ValueError as error:
            raise Unreachable(f"The address cannot be used: {error}", refused=True) from error
        said = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (there.start, said.encode("latin-1"), len(body), body)
        try:
            return await self._exchange(there, request, time.monotonic() + TRY_TIMEOUT)
        except (OSError, Unresolved, httptools.HttpParserError) as error:
            raise _unreachable(there, error) from error

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connections in self._idle.values():
            for connection in connections:
                connection.transport.close()
        self._idle.clear()

    async def _exchange(self, there: Place, request: bytes, deadline: float) -> Answer:
        idle = self._idle.get(there)
        while idle:
            connection = idle.pop()
            if connection.transport.is_closing():
                continue
            connection.idle = time.monotonic() - connection.idle_since
            try:
                return await self._ask(there, connection, request, deadline)
            except ConnectionError:
                # Closed by the other side for having been idle, at the moment of asking: the place itself may be well.
                if connection.answered or connection.idle < PATIENCE:
                    raise
        async with asyncio.timeout(deadline - time.monotonic()):
            _, connection = await self._dialer.connect(self._connection, there.host, there.port, tls=there.tls)
        return await self._ask(there, connection, request, deadline)

    async def _ask(self, there: Place, connection: Connection, request: bytes, deadline: float) -> Answer:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
        self._asked[connection] = deadline
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.transport.abort()
            raise
        finally:
            del self._asked[connection]
        if connection.reusable:
            connection.idle_since = time.monotonic()
            self._idle.setdefault(there, []).append(connection)
        else:
            connection.transport.close()
        return answer

    def _look(self) -> None:
        """Give up what has not been answered in time, and close what nobody has used."""
        now = time.monotonic()
        for connection, deadline in self._asked.items():
            if deadline < now + LOOK:
                connection.expire()
        for there, connections in list(self._idle.items()):
            while connections and connections[0].idle_since < now - KEEP_IDLE:
                connections.pop(0).transport.close()
            if not connections:
                del self._idle[there]
        busy = self._asked or self._idle
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look) if busy else None


class Connection(asyncio.Protocol):
    """One connection, asked one thing at a time."""

    transport: asyncio.Transport

    def __init__(self, keep: int = RESPONSE_LIMIT) -> None:
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self.idle_since = self.idle = 0.0
        self.reusable = False
        self._done: asyncio.Future[Answer] | None = None
        self._begin()

    def _begin(self) -> None:
        self.answered = False
        self._parser = httptools.HttpResponseParser(self)  # what came too much after the answer before ends with it
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._status = 0
        self._body = b""

    async def ask(self, request: bytes) -> Answer:
        """Raises `ConnectionError` where it ends before an answer, `HttpParserError` for what is no HTTP, and
        `TimeoutError` where `expire` is called first.
        """
        self._begin()
        self._done = self._loop.create_future()
        self.transport.write(request)
        return await self._done

    def expire(self) -> None:
        """Its time is over."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(TimeoutError())

    # What the connection says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.transport.abort()  # nobody asked
            return
        self.answered = True
        if not self._status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
            if self._head_size > HEADERS_LIMIT and not self._status:
                raise httptools.HttpParserError("the headers do not end")
        except httptools.HttpParserUpgrade:
            self._finish(reusable=False)
            self.reusable = False
        except httptools.HttpParserError as error:
            self.reusable = False
            if not self._done.done():
                self._done.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if self._status:
            self._finish(reusable=False)
        else:
            self._done.set_exception(error or ConnectionResetError())

    # What the parser says.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:  # only a foreword; the answer comes after it
            self._headers.clear()
        else:
            self._status = status

    def on_body(self, part: bytes) -> None:
        if len(self._body) <= self._keep:
            self._body += part[: self._keep + 1 - len(self._body)]
            if len(self._body) > self._keep:
                self._finish(reusable=False)

    def on_message_complete(self) -> None:
        if self._status:
            self._finish(reusable=self._parser.should_keep_alive())

    def _finish(self, *, reusable: bool) -> None:
        if self._done is None or self._done.done():
            return
        self.reusable = reusable
        text = self._body[: self._keep].decode("utf-8", "replace").replace("\x00", "")
        self._done.set_result(Answer(self._status, self._headers, text))


def _unreachable(there: Place, error: Exception) -> Unreachable:
    match error:
        case TimeoutError():
            return Unreachable(f"No answer within {TRY_TIMEOUT:g} seconds")
        case Unresolved():
            return Unreachable(str(error))
        case Blocked():
            return Unreachable(str(error), refused=True)
        case ssl.SSLCertVerificationError():
            return Unreachable(f"TLS: {error.verify_message or 'the certificate does not fit the name'}")
        case ssl.SSLError():
            return Unreachable(f"TLS: {(error.reason or '').replace('_', ' ').lower() or 'the handshake failed'}")
        case httptools.HttpParserError():
            return Unreachable("The answer is not HTTP")
        case ConnectionRefusedError():
            return Unreachable(f"Connection refused by {there.name}")
        case ConnectionError():
            return Unreachable("Connection was closed before an answer")
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
            return Unreachable(f"No route to {there.name}")
    reason = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
    return Unreachable(f"No connection to {there.name} ({reason})")
