"""One session with PostgreSQL. What is given up ends the session: nothing is ever cancelled on the server.

A cancel request would end the wait of a commit for its synchronous standby: it would then be visible on this server and
exist on no other. A session that ended leaves the commit waiting, and its outcome unknown.
"""

from __future__ import annotations

import socket
from typing import Any

import asyncpg
from asyncpg.transaction import Transaction

from tocsin.domain.database_hosts import Host

UNACKNOWLEDGED = 10_000
"""Milliseconds for which the other side may leave what was sent unacknowledged (TCP_USER_TIMEOUT)."""
IDLE, INTERVAL, PROBES = 5, 2, 3
"""Seconds of silence until TCP asks whether the other side lives, between two questions, and how many it asks."""

LOST: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was lost between two messages
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)
"""Errors of a session that ended, or is of no use any more."""

LET_IN_NOBODY = (*LOST, asyncpg.PostgresError)
"""Errors of a session that is not there yet. Whatever a server answers then, be it that the password is wrong or that
the database is being renamed, it is away for everybody; unless it says that it is full, of sessions that are ours too.
"""


class OutcomeUnknown(ConnectionError):
    """It was sent, and nothing said whether it was done. Never to be repeated without looking."""


class Session(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    """A session that is ended, never cancelled. `host` is where it is, `ended` why it was given up; `timeline` is the
    server's, where somebody asked for it. `asked` is since when an answer is waited for, by the loop's time; None while
    none is.
    """

    __slots__ = ("asked", "ended", "host", "timeline")

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.host: Host | None = None
        self.ended: str | None = None
        self.asked: float | None = None
        self.timeline = 0
        _watch_over(transport.get_extra_info("socket"))

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        """As the driver's, but it says when an outcome is unknown."""
        self._check_open()
        return _Transaction(self, isolation, readonly, deferrable)

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        self.asked = self._loop.time()
        try:
            return await super().execute(*arguments, **options)
        finally:
            self.asked = None

    async def _execute(self, *arguments: Any, **options: Any) -> Any:
        """Of the driver: what all statements that have results come to."""
        self.asked = self._loop.time()
        try:
            return await super()._execute(*arguments, **options)
        finally:
            self.asked = None

    def end(self, why: str) -> None:
        """End it at once, whatever is under way: `why` is for whoever waits for that."""
        self.ended = why
        self.terminate()

    def _cancel_current_command(self, *waiters: Any) -> None:
        """The driver's way to give up a statement, at a deadline or when its caller was cancelled."""
        # Closed for everybody from now on, but the driver still uses it for the rest of this turn.
        self._aborted = True  # type: ignore[misc]
        self._loop.call_soon(self._give_up, waiters)

    def _give_up(self, waiters: tuple[Any, ...]) -> None:
        self._aborted = False  # type: ignore[misc]
        self.terminate()
        for waiter in waiters:
            if waiter is not None and not waiter.done():
                waiter.set_result(None)


class _Transaction(Transaction):  # type: ignore[misc]
    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None and self._connection.is_closed():
            return  # the error says more than that there is no session to roll back
        try:
            await super().__aexit__(kind, error, trace)
        except LOST as lost:
            if error is not None:
                return  # what is not committed is rolled back
            if self._nested:
                raise
            raise OutcomeUnknown(self._connection.ended or "the session was lost in the middle of a commit") from lost


def _watch_over(wire: socket.socket | None) -> None:
    """Let TCP find out that the other side is gone, however little is said."""
    if wire is None or wire.family == socket.AF_UNIX:
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE), ("TCP_KEEPINTVL", INTERVAL), ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED),
    ):  # fmt: skip
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
