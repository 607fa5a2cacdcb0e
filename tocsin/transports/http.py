"""Outgoing HTTP on behalf of projects: posts over keep-alive connections, guarded, bounded, with plain error messages.

The client is small because posting is most of what an engine does: measured in an engine, a fifth of what a general
client costs. It speaks HTTP/1.1 (RFC 9112) as far as one request and its response need. Once a response's
status has been read, it counts as answered: whatever follows, or fails to, it is no failure.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from collections.abc import Coroutine, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import msgspec

from tocsin.domain.deliveries import ATTEMPT_TIMEOUT, RESPONSE_LIMIT
from tocsin.transports.dial import Dialer
from tocsin.transports.endpoint import Endpoint, endpoint
from tocsin.transports.guard import Blocked, Guard
from tocsin.transports.resolver import Resolve, Unresolved
from tocsin.transports.response import HEAD_LIMIT, Response, Unreadable

KEEP_IDLE = 4.5
"""Seconds that an idle connection is kept: less than the 5 after which common servers close one."""
MAX_IDLE = 4096
"""Idle connections that are kept: as many as an engine has concurrent attempts."""
PATIENCE = 1.0
"""Seconds that any server keeps an idle connection: one that breaks sooner was not closed for idleness."""
LOOK = 0.1
"""Seconds between two scans of waiting and idle connections. One scan of all costs less than a timer for each."""
REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""Statuses that lead to the address in `Location`. This client does not follow them."""
BODY_PATIENCE = 1.0
"""Seconds to wait for the rest of a response once its status is known."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A destination's response: header names in lower case, `text` the start of its body, without NUL.

    `complete` is whether that is the whole body.
    """

    status: int
    headers: Mapping[str, str]
    text: str
    complete: bool = True


class Unreachable(Exception):
    """There was no response; the text says why in one line and shows no more of the URL than host and port.

    `refused` means that the address may not be reached at all, so that a retry is useless.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header, which holds seconds or a date (RFC 9110, 10.2.3), or None."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


class Http:
    """Connections to many hosts, for one event loop. No cookies, no redirects, no proxy variables.

    `keep` is how many bytes of a response's body are read, `patience` how many seconds it may take after the status,
    `within` how many the whole may take, and `most_idle` how many idle connections are kept.
    """

    def __init__(
        self, guard: Guard, *, tls: ssl.SSLContext | None = None, resolve: Resolve | None = None,
        keep: int = RESPONSE_LIMIT, patience: float = BODY_PATIENCE, most_idle: int = MAX_IDLE,
        within: float = ATTEMPT_TIMEOUT,
    ) -> None:
        self._connection = partial(Connection, keep, patience)
        self._dialer = Dialer(guard, tls, resolve)
        self._idle: dict[Endpoint, list[Connection]] = {}
        self._idle_count, self._most_idle, self._within = 0, most_idle, within
        self._asked: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Coroutine[Any, Any, Answer]:
        """As `request`, by POST."""
        return self.request("POST", url, body, headers)

    async def request(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send `body` with exactly `headers` (and what HTTP needs). Returns in time, whatever the status.

        Raises `Unreachable`. A GET has no body.
        """
        try:
            there = endpoint(url, method)
        except ValueError as error:
            raise Unreachable(f"The address cannot be used: {error}", refused=True) from error
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if lines.count("\r") + lines.count("\n") != 2 * len(headers):
            raise Unreachable("A header holds a line break", refused=True)
        if method == "GET":  # RFC 9110, 8.6: no Content-Length where nothing is sent
            request = b"%b%b\r\n" % (there.start, lines.encode("latin-1"))
        else:
            request = b"%b%bContent-Length: %d\r\n\r\n%b" % (there.start, lines.encode("latin-1"), len(body), body)
        try:
            return await self._exchange(there, request, time.monotonic() + self._within)
        except (OSError, Unresolved, Unreadable) as error:
            raise _unreachable(there, error) from error

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connections in self._idle.values():
            for connection in connections:
                connection.transport.close()
        self._idle.clear()
        self._idle_count = 0

    async def _exchange(self, there: Endpoint, request: bytes, deadline: float) -> Answer:
        idle = self._idle.get(there)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.transport.is_closing():
                continue
            connection.idle = time.monotonic() - connection.idle_since
            try:
                return await self._ask(there, connection, request, deadline)
            except ConnectionError:
                # Closed by the server as idle, at the moment of the request: the server itself may be fine.
                if connection.answered or connection.idle < PATIENCE:
                    raise
        async with asyncio.timeout(deadline - time.monotonic()):
            _, connection = await self._dialer.connect(self._connection, there.host, there.port, tls=there.tls)
        return await self._ask(there, connection, request, deadline)

    async def _ask(self, there: Endpoint, connection: Connection, request: bytes, deadline: float) -> Answer:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
        self._asked.add(connection)
        try:
            answer = await connection.ask(request, deadline)
        except BaseException:
            connection.transport.abort()
            raise
        finally:
            self._asked.discard(connection)
        if connection.reusable:
            self._keep(there, connection)
        return answer

    def _keep(self, there: Endpoint, connection: Connection) -> None:
        if self._idle_count >= self._most_idle:
            connection.transport.close()
            return
        self._idle_count += 1
        connection.idle_since = time.monotonic()
        self._idle.setdefault(there, []).append(connection)

    def _look(self) -> None:
        """Time out requests, and close idle connections."""
        now = time.monotonic()
        for connection in list(self._asked):
            if connection.deadline < now + LOOK:
                connection.expire()
        for there, connections in list(self._idle.items()):
            while connections and connections[0].idle_since < now - KEEP_IDLE:
                connections.pop(0).transport.close()
                self._idle_count -= 1
            if not connections:
                del self._idle[there]
        busy = self._asked or self._idle
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look) if busy else None


class Connection(asyncio.Protocol):
    """One connection, with one request at a time.

    `deadline` is when the response must have arrived.
    """

    transport: asyncio.Transport

    def __init__(self, keep: int = RESPONSE_LIMIT, patience: float = BODY_PATIENCE) -> None:
        self._keep = keep
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self.idle_since = self.idle = self.deadline = 0.0
        self.answered = self.reusable = False
        self._done: asyncio.Future[Answer] | None = None
        self._response = Response(keep)
        self._early = b""
        self._lost: Exception | None = None

    async def ask(self, request: bytes, deadline: float) -> Answer:
        """Raises `ConnectionError` if it ends before a response, `Unreadable` for what is not HTTP, and
        `TimeoutError` where `expire` is called first.
        """
        self.answered = self.reusable = False
        self.deadline = deadline
        self._response = Response(self._keep)
        self._done = self._loop.create_future()
        if self._lost is None:
            self.transport.write(request)
        early, self._early = self._early, b""
        if early:
            self.data_received(early)
        if self._lost is not None:
            self._end(self._lost)
        return await self._done

    def expire(self) -> None:
        """Time out."""
        self._end(TimeoutError())

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        if self._done is None and len(self._early) + len(data) <= HEAD_LIMIT:
            self._early += data  # some servers respond before the request
            return
        if self._done is None or self._done.done():
            self.transport.abort()  # unsolicited
            return
        self.answered = True
        response = self._response
        try:
            response.feed(data)
        except Unreadable as error:
            self._end(error)
            return
        if response.complete or response.full:
            self._finish()
        elif response.begun:
            self.deadline = min(self.deadline, time.monotonic() + self._patience)

    def connection_lost(self, error: Exception | None) -> None:
        if error is None:
            self._response.end()
        self._lost = error or ConnectionResetError()
        self._end(self._lost)

    def _end(self, error: Exception) -> None:
        """Stop reading the response. That is a failure only if its status is not known."""
        if self._done is None or self._done.done():
            return
        if self._response.begun or (isinstance(error, TimeoutError) and self._response.give_up()):
            self._finish()
        else:
            self._done.set_exception(error)

    def _finish(self) -> None:
        assert self._done is not None
        response = self._response
        if response.complete:
            self.reusable = response.reusable
            if not self.reusable:
                self.transport.close()
        else:
            self.transport.abort()
        headers: dict[str, str] = {}
        for name, value in response.headers:
            headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        text = response.body.decode("utf-8", "replace").replace("\x00", "")
        self._done.set_result(Answer(response.begun, headers, text, response.complete))


def _unreachable(there: Endpoint, error: Exception) -> Unreachable:
    match error:
        case TimeoutError():
            return Unreachable(f"No answer within {ATTEMPT_TIMEOUT:g} seconds")
        case Unresolved():
            return Unreachable(str(error))
        case Blocked():
            return Unreachable(str(error), refused=True)
        case ssl.SSLCertVerificationError():
            return Unreachable(f"TLS: {error.verify_message or 'the certificate does not fit the name'}")
        case ssl.SSLError():
            return Unreachable(f"TLS: {(error.reason or '').replace('_', ' ').lower() or 'the handshake failed'}")
        case Unreadable():
            return Unreachable(str(error))
        case ConnectionRefusedError():
            return Unreachable(f"Connection refused by {there.name}")
        case ConnectionError():
            return Unreachable("Connection was closed before an answer")
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
            return Unreachable(f"No route to {there.name}")
    reason = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
    return Unreachable(f"No connection to {there.name} ({reason})")
