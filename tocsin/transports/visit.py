"""One request to a site over a connection of its own, and its response, read no further than its caller needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from tocsin.domain.monitors import Problem
from tocsin.transports.response import Response, Unreadable

BODY_LIMIT = 1 << 20
"""Bytes of the body that are read."""
STREAM_PATIENCE = 1.0
"""Seconds after which a body of undeclared length counts as a stream, which never ends and is fine."""
KEPT_HEADERS, KEPT_VALUE = 50, 500


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a response is read: to the end if its status `is_good`, else only its head.

    `is_enough` is asked of a stream, again and again, whether what has arrived will do.
    """

    is_good: Callable[[int], bool]
    is_enough: Callable[[Response], bool]
    bodiless: bool = False


class Visit(asyncio.Protocol):
    """One request and its response. `ended` is done when enough of it has arrived, or no more will.

    `problem` is why it could not be read; `answered_at` is when its status was known, by `perf_counter`; `chain` are
    the certificates that the site served, where the caller has set them.
    """

    def __init__(self, request: bytes, reading: Reading, loop: asyncio.AbstractEventLoop) -> None:
        self.problem: tuple[Problem, str] | None = None
        self.response = Response(BODY_LIMIT, bodiless=reading.bodiless)
        self.answered_at = 0.0
        self.ended: asyncio.Future[None] = loop.create_future()
        self.chain: Sequence[bytes] = ()
        self._request = request
        self._reading = reading
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    @property
    def status_line(self) -> str | None:
        response = self.response
        return f"{response.status} {_text(response.reason)}".rstrip() if response.status else None

    @property
    def headers_kept(self) -> dict[str, str] | None:
        if not self.response.status:
            return None
        return {_text(name): _text(value)[:KEPT_VALUE] for name, value in self.response.headers[:KEPT_HEADERS]}

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]  # uvloop's is no asyncio.WriteTransport

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        response = self.response
        unreadable = None
        try:
            response.feed(data)
        except Unreadable as error:
            unreadable = str(error)
        if response.status and not self.answered_at:
            self.answered_at = perf_counter()
            if not self._reading.is_good(response.status):  # the rest cannot improve it
                self._end()
                return
        if unreadable is not None:
            self._end("connection_error", unreadable)
        elif response.complete or response.full:
            self._end()
        elif response.status and not response.measured and self._timer is None:
            self._timer = self._loop.call_later(STREAM_PATIENCE, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is not None:
            self.ended.set_exception(error)
        elif self.response.end():
            self._end()
        else:
            self._end("connection_error", "Connection closed before the answer was complete")

    def _look(self) -> None:
        if self._reading.is_enough(self.response):
            self._end()
        else:
            self._timer = self._loop.call_later(STREAM_PATIENCE, self._look)

    def _end(self, problem: Problem | None = None, message: str = "") -> None:
        if not self.ended.done():
            if problem is not None:
                self.problem = problem, message
            self.ended.set_result(None)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("\x00", "�")
