"""A connection of the server, with limits for unauthenticated clients: in bytes, in time and in number.

uvicorn's protocol with limits. A request that cannot be read, or comes too slowly, gets an error like any other and
ends the connection: nothing after it is parsed as a request. It is answered in its turn, and once.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, ClassVar

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tocsin.api import errors, request_head
from tocsin.api.connection_limits import ConnectionLimiter, Group
from tocsin.api.whole_response import given_id, id_of, whole
from tocsin.domain import requests
from tocsin.domain.errors import Refused
from tocsin.settings import Limits

SLICE = 8 << 10
"""Bytes that are parsed at once: what is pipelined after them waits, unread, until there is a response."""
LINGER = 5.0
"""Seconds to go on reading (and discarding) after an error response, so that the client can read it (RFC 9112, 9.6)."""
FRAMING = 8
"""Bytes allowed for each byte of a chunked body, besides as many as a head may have."""

BETWEEN, HEAD, BODY = range(3)
"""The parser's state: no request, or one of its parts."""


class Flow(FlowControl):
    """Reading may be paused whatever the application wants."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class Outlet:
    """The transport for the framework's responses: it does not close while the client is still sending."""

    def __init__(self, connection: Connection) -> None:
        self.close = connection.end
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing


class Connection(HttpToolsProtocol):
    """One connection. Its deadline is when the client times out."""

    limiter: ClassVar[ConnectionLimiter]
    limits: Limits
    group: Group
    flow: Flow

    _deadline = math.inf
    _part = BETWEEN
    _ended = False
    """Whether a request has ended in what is being parsed."""
    _head = 0
    """Bytes of an unfinished head."""
    _body = _raw = 0
    """Bytes of a body, and of all that came for it after the first slice, counted from `_since`."""
    _since: float | None = None
    _held: memoryview | None = None
    _running: Any = None
    """The cycle that is being answered, or was last; `cycle` is the one that arrived last."""
    _final_refusal: bytes | None = None
    """The error response that ends the connection, once all requests before it are answered."""
    _discarding = False
    """Input is discarded."""
    _stalled: tuple[float, int] | None = None
    """Since when the client reads no more of our responses, and how much was buffered then."""

    version = "1.1"

    def begin_exchange(self) -> None:
        """A valid head has arrived."""
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # the scope, which only the framework needs
        self.url, self.headers, self.expect_100_continue = url, headers, expected
        self.scope["headers"] = headers
        super().on_headers_complete()
        self.cycle.transport = Outlet(self)  # type: ignore[assignment]  # the part of it that is used

    # ------------------------------------------------------------------------------------------------------- reading

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.limits = self.limiter.limits
        self.flow = Flow(transport)
        if self.limiter.join(self, self.client[0] if self.client else ""):
            self._deadline = self.loop.time() + self.limits.head_timeout
        else:
            self._discarding = True
            transport.write(self._refusal(request_head.no_room()))
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        if len(data) <= SLICE and self._held is None and not self.pipeline:
            self._feed(data)
            return
        self._held = memoryview(data if self._held is None else bytes(self._held) + data)
        self._go_on()

    def _go_on(self) -> None:
        """Parse what is held back, as far as its turn has come; resume reading when nothing is left."""
        while self._held is not None and not self.pipeline:
            part, rest = self._held[:SLICE], self._held[SLICE:]
            self._held = rest if rest else None
            self._feed(part)
        if self._held is not None:
            self.flow.held = True
            self.flow.pause_reading()
        elif self.flow.held:
            self.flow.held = False
            self.flow.resume_reading()

    def _feed(self, data: bytes | memoryview) -> None:
        self._ended = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_upgrade(bytes(data[upgrade.args[0] :]))
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Refused):
                self._refuse(cause)
            elif not self._discarding:
                self._refuse(request_head.malformed())
        if self._discarding:
            return
        if self._part == HEAD:
            self._head = 0 if self._ended else self._head + len(data)
            if self._head > self.limits.head_bytes or len(self.headers) > self.limits.headers:
                self._refuse(request_head.too_long())
            elif not self._answering:
                self._await_head()
        elif self._part == BODY:
            self._await_body(len(data))
        elif not self._ended and not self._answering:
            self._await_head()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _take_place(self) -> None:
        """Set the state: busy with a complete request, waiting for its rest, or for the client to read a response."""
        running = self._running
        answered = running is None or running.response_complete
        if answered or (running is self.cycle and self._part == BODY) or self.flow.write_paused:
            self.limiter.waiting(self)
        else:
            self.limiter.busy(self)

    def _await_head(self) -> None:
        if self not in self.group.waiting:
            self.limiter.waiting(self)
            self._deadline = self.loop.time() + self.limits.head_timeout

    def _await_body(self, came: int) -> None:
        limits = self.limits
        now = self.loop.time()
        if self._since is None:
            self._since, self._raw = now, 0
        else:
            self._raw += came
            if self._raw > limits.head_bytes + FRAMING * self._body:
                self._refuse(request_head.unreadable("there is more around its chunks than in them"))
                return
        if self._answering:
            # Fast data earns no credit for a later pause.
            self._deadline = limits.transfer_grace + min(self._since + self._raw / limits.transfer_rate, now)
        self._take_place()

    def _pass_over_upgrade(self, rest: bytes) -> None:
        try:
            method, version = self.parser.get_method(), self.parser.get_http_version()
            head = request_head.without_upgrade(method, self.url, version, self.headers)
        except Refused as refusal:
            self._refuse(refusal)
            return
        self.parser = httptools.HttpRequestParser(self)
        self._part = BETWEEN
        self._feed(head)
        if rest and not self._discarding:
            self._feed(rest)

    # ------------------------------------------------------------------------------------------------ what is parsed

    def on_message_begin(self) -> None:
        self._part, self.url, self.headers, self.expect_100_continue = HEAD, b"", [], False

    def on_headers_complete(self) -> None:
        parser, headers, limits = self.parser, self.headers, self.limits
        if parser.should_upgrade():
            return
        if self.cycle is not None and not self.cycle.keep_alive:  # announced as the last
            self._discarding, self._held = True, None
            return
        if len(headers) > limits.headers or (
            self._head and request_head.size(parser.get_method(), self.url, headers) > limits.head_bytes
        ):
            raise request_head.too_long()
        self.version = parser.get_http_version()
        request_head.check(self.version, headers)
        if not self.url.startswith(b"/"):
            self.url = request_head.origin_form(parser.get_method(), self.url, headers)
        self.begin_exchange()
        self._part, self._head, self._body, self._since, self._deadline = BODY, 0, 0, None, math.inf
        self.headers = []  # for trailers, which are ignored

    def on_body(self, body: bytes) -> None:
        if self._discarding:
            return
        self._body += len(body)
        if self.cycle.response_complete:
            return
        self.cycle.body += body
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._part != BODY:  # the head of an upgrade, which is parsed again
            return
        self._part, self._ended = BETWEEN, True
        if self.cycle.response_complete:
            self._rest()
        else:
            self.cycle.more_body = False
            self._deadline = math.inf
            self.cycle.message_event.set()
            self._take_place()

    # ----------------------------------------------------------------------------------------------------- answering

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        origin = requests.ORIGIN.set(id_of(cycle))
        try:
            super()._start_asgi_task(cycle, app)
        finally:
            requests.ORIGIN.reset(origin)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self._take_place()
            if not self.pipeline:
                self._go_on()
                self.flow.resume_reading()
        elif self._final_refusal is not None:
            self._send_final_refusal()
        else:
            if self._held is not None:
                self._go_on()
            if not self._discarding and not self._answering:
                self._rest()

    def _rest(self) -> None:
        """All is answered: set the deadline for the next request."""
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._part == BETWEEN:
            self.limiter.idle(self)
            self._deadline = self.loop.time() + self.limits.idle_timeout
        elif self._part == BODY:
            self._deadline = self.loop.time() + self.limits.transfer_grace
        else:
            self.limiter.idle(self)
            self._await_head()

    def _refusal(self, refusal: Refused) -> bytes:
        content = msgspec.json.encode(errors.body(refusal))
        response = whole(
            refusal.status, content, refusal.headers, self._refused_id(),
            defaults=self.server_state.default_headers, close=True,
        )  # fmt: skip
        to_head = self._part != BETWEEN and self.url and self.parser.get_method() == b"HEAD"
        return response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if to_head else response

    def _refused_id(self) -> str:
        """Of the request that is being read: its own if its head is known, even if it cannot be accepted."""
        if self._part == BODY and self.cycle is not None:
            return id_of(self.cycle)
        return requests.id_from(given_id(self.headers) if self._part == HEAD else None)

    def _refuse(self, refusal: Refused) -> None:
        """Set the error response to the request that is being read."""
        self._discarding, self._held, self._final_refusal = True, None, self._refusal(refusal)
        if self._part == BODY:
            cycle = self.cycle
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            else:
                if cycle.response_complete or getattr(cycle, "response_started", False):
                    self._final_refusal = b""
                cycle.disconnected, cycle.waiting_for_100_continue = True, False
                cycle.message_event.set()
                self._send_final_refusal()
                return
        if self._running is None or self._running.response_complete:
            self._send_final_refusal()

    def end(self) -> None:
        """The last response is sent. A client that is still sending a body gets time to read it."""
        if self._part == BODY:
            self._discarding, self._held = True, None
            self._send_final_refusal()
        else:
            self.limiter.waiting(self)
            self.transport.close()

    def _send_final_refusal(self) -> None:
        if self.transport.is_closing():
            return
        if self._final_refusal:
            self.transport.write(self._final_refusal)
        self.transport.write_eof()
        self.flow.held = False
        self.flow.resume_reading()
        self._deadline = self.loop.time() + LINGER
        self.limiter.idle(self)

    # -------------------------------------------------------------------------------------------------------- ending

    def look(self, now: float) -> None:
        if now >= self._deadline:
            self._time_out(now)
        if self.flow.write_paused or self.transport.is_closing():
            left = self.transport.get_write_buffer_size()
            since, once = self._stalled = self._stalled or (now, left)
            if now >= since + self.limits.idle_timeout + (once - left) / self.limits.transfer_rate:
                self.transport.abort()
        else:
            self._stalled = None

    def _time_out(self, now: float) -> None:
        limits = self.limits
        if self._discarding:
            self.transport.abort()
        elif self._part == HEAD:
            self._refuse(_timed_out(f"its head was not complete after {limits.head_timeout:g} s"))
        elif self._part == BODY and self._answering:
            if self.flow.read_paused or getattr(self.cycle, "waiting_for_100_continue", False):
                self._deadline = now + limits.transfer_grace  # we paused reading it
            else:
                grace, rate = limits.transfer_grace, limits.transfer_rate
                why = f"no part of its body came for {grace:g} s, or it came at less than {rate:,} bytes a second"
                self._refuse(_timed_out(why))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._take_place()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled = None
        if self._running is not None and not self._running.response_complete:
            self._take_place()

    def give_up(self) -> None:
        self._discarding = True
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.limiter.leave(self)
        self._discarding, self._held = True, None
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        self.cycle = self._running = None  # type: ignore[assignment]  # reference cycle


def _timed_out(why: str) -> Refused:
    return Refused(408, "request_timeout", f"The request came too slowly: {why}")
