"""The pools that everything takes its transactions from, and what may happen to those."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol, TypeAlias

import asyncpg
import msgspec

from tocsin.domain.errors import Refused
from tocsin.storage.postgres.connecting import SESSION_SETTINGS
from tocsin.storage.postgres.primary import Primary, WaitsForStandby
from tocsin.storage.postgres.session import LOST, Session

Tx: TypeAlias = asyncpg.Connection
"""A connection inside a transaction that the caller began and ends."""

def folded(address: str) -> str:
    """SQL: the form in which the mail address in this expression is compared, as `domain.accounts.same_address`."""
    return f'lower({address} COLLATE "C")'


UNAVAILABLE: tuple[type[BaseException], ...] = (
    *LOST,
    asyncpg.InsufficientResourcesError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,  # it was the primary, until just now
    asyncpg.TransactionRollbackError,
)
"""Errors of a lost, stopped, starting or full database, and of a transaction that it ended in favour of another that
waited for it. Retry; never the caller's fault. `OutcomeUnknown` is one of them.
"""

WAIT, LEAST = 1.5, 0.1
"""Seconds that a request waits for sessions, all in all; and at least for each of them. What was not sent by then never
is.
"""
STATEMENT_TIMEOUT = 60.0
LATEST_ANSWER = 30.0
"""Seconds that a statement may take: for those that nobody waits for, and those with a caller."""


class Client(Protocol):
    """Who waits for the response to a request."""

    disconnected: bool


class Asking:
    """A request that is being answered, and the seconds that it has waited for the database by now."""

    __slots__ = ("client", "waited")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.waited = 0.0


ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)
"""The request that is being answered."""
GONE = 0.4
"""Seconds of waiting after which a request whose client has gone is not carried out any more. One that only sent it
and went is served all the same, while nothing has to wait.
"""


async def pool(
    where: str | Primary, *, size: int, name: str, settings: dict[str, str] | None = None, keep: float = 300.0
) -> Pool:
    """A pool of at most `size` sessions, opened as they are needed, and closed after `keep` seconds without use;
    `name` is for `pg_stat_activity`.

    `settings` are for every session of the pool, such as planner switches for one kind of query. Pools of one process
    share their `Primary`.
    """
    primary = Primary(where) if isinstance(where, str) else where
    made = Pool(
        primary,
        min_size=0,
        max_size=size,
        max_queries=50_000,
        max_inactive_connection_lifetime=keep,
        command_timeout=LATEST_ANSWER if primary.callers else STATEMENT_TIMEOUT,
        reset=_keep,
        server_settings={"application_name": f"tocsin {name}", **SESSION_SETTINGS, **(settings or {})},
    )
    await made
    return made


class Pool(asyncpg.Pool):  # type: ignore[misc]  # the driver has no types
    """Sessions with the primary, wherever that is. To take one fails after `WAIT` seconds, with what is wrong."""

    def __init__(self, primary: Primary, **options: Any) -> None:
        super().__init__(
            primary.url, connect=partial(primary.connect, prepare=prepare), loop=asyncio.get_running_loop(),
            connection_class=Session, record_class=asyncpg.Record, **options,
        )  # fmt: skip
        self.primary = primary
        self.loop = asyncio.get_running_loop()

    @property
    def ready(self) -> bool:
        """Whether nobody has to wait for a session."""
        free = self._queue._queue  # the driver's own: any other way to know takes longer than to take a session
        return bool(free) and free[-1].is_connected()

    def acquire(self, *, timeout: float | None = None) -> Any:  # as of the driver's, but for the time that it takes
        return _Taken(self, WAIT if timeout is None else timeout)


class _Taken:
    """A session that is in use."""

    __slots__ = ("_pool", "_session", "_wait")

    def __init__(self, pool: Pool, wait: float) -> None:
        self._pool = pool
        self._wait = wait

    async def __aenter__(self) -> Any:
        pool, primary = self._pool, self._pool.primary
        if primary.waits_for_standby:
            raise WaitsForStandby(primary.trouble)
        if pool.ready:
            self._session = session = await pool._acquire(None)
            primary.took(session)
            return session
        asking = ASKING.get()
        began = pool.loop.time()
        try:
            async with asyncio.timeout(self._wait if asking is None else max(self._wait - asking.waited, LEAST)):
                self._session = session = await asyncpg.Pool.acquire(pool)
        except TimeoutError:
            raise NotSent(f"the database {primary.trouble or 'has no session free'}") from None
        if asking is not None:
            waited = pool.loop.time() - began
            asking.waited += waited
            if waited > GONE and asking.client.disconnected:
                await pool.release(session)
                raise NotSent("the client has gone")
        primary.took(session)
        return session

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        session = self._session
        self._pool.primary.gave_back(session, error)
        if error is not None:
            try:
                closed = session.is_closed()
            except asyncpg.InterfaceError:  # and the pool knows it
                return
            if closed:  # it is about to be ended, which must not come between this and the pool
                session.terminate()
                return
        await self._pool.release(session)


class NotSent(ConnectionError):
    """Nobody took it in time, so nothing of it was done, nor will be."""


@contextlib.asynccontextmanager
async def transaction(pool: asyncpg.Pool) -> AsyncIterator[Tx]:
    """A transaction on a connection of the pool. A `Refused` with `keep` commits."""
    kept: Refused | None = None
    async with pool.acquire() as tx, tx.transaction():
        try:
            yield tx
        except Refused as refusal:
            if not refusal.keep:
                raise
            kept = refusal
    if kept is not None:
        raise kept


async def _keep(connection: asyncpg.Connection) -> None:
    """No reset between two users: session settings change inside transactions only (SET LOCAL)."""


async def prepare(connection: asyncpg.Connection) -> None:
    """Let a connection convert `jsonb` to and from Python values."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_json, decoder=_decode_json, format="binary"
    )


JSONB = b"\x01"
"""The version of the binary form, which is text otherwise (PostgreSQL, `jsonb_send`). As text, an array of them would
be text within text: escaped on one side, and parsed twice on the other."""


def _encode_json(value: Any) -> bytes:
    return JSONB + msgspec.json.encode(value)


def _decode_json(value: bytes) -> Any:
    return msgspec.json.decode(memoryview(value)[len(JSONB) :])


def unavailable(error: Exception) -> bool:
    """Whether nothing else can succeed at present, either."""
    return isinstance(error, UNAVAILABLE) and not isinstance(error, asyncpg.TransactionRollbackError)


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any] | None]:
    """Rows as the arrays of an `unnest`, which fills up with NULL: what is nothing else need not be sent."""
    return [
        None if column[0] is None and column.count(None) == len(rows) else list(column)
        for column in zip(*rows, strict=True)
    ]


def key(value: uuid.UUID) -> uuid.UUID:
    """A key as the standard library's type; the driver's own does not compare everywhere."""
    return value if type(value) is uuid.UUID else uuid.UUID(bytes=value.bytes)
