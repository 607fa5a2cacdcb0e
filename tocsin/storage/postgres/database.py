"""PostgreSQL connections: pools, session settings for good plans, and group commit."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import asyncpg
import msgspec

from tocsin.domain.errors import Refused

Tx: TypeAlias = asyncpg.Connection
"""A connection inside a transaction that the caller began and ends."""

def folded(address: str) -> str:
    """SQL: the form in which the mail address in this expression is compared, as `domain.accounts.same_address`."""
    return f'lower({address} COLLATE "C")'


Item = TypeVar("Item")
Result = TypeVar("Result")

GROUP_LIMIT = 500
"""Rows in one commit. Measured with batches: 200 are 5 % slower, 1,000 are 10 %."""

QUIET_TURNS, MAX_TURNS = 3, 50
"""Turns of the event loop without a new call after which the next commit begins, and after which it begins anyway.
Answering a call, reading the caller's next request, and calling again take three turns.
"""

UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was lost between two messages
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.CannotConnectNowError,
    asyncpg.TransactionRollbackError,
)
"""Errors of a lost, stopped, starting or full database, and of a transaction that it ended in favour of another that
waited for it. Retry; never the caller's fault.
"""


SESSION = {"timezone": "UTC", "jit": "off", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
"""Settings of every session. Statements are planned once, not for the values of each call: planning took longer than
running them. A queue is empty most of the time, and a plan that was made then (read all of nothing) stays while
thousands come in: so index scans are forced. tests/storage/delivery/test_plans.py checks the hot
statements for that.
"""


async def pool(
    dsn: str, *, size: int, name: str, settings: dict[str, str] | None = None, keep: float = 300.0
) -> asyncpg.Pool:
    """A pool of at most `size` connections, opened as they are needed, and closed after `keep` seconds without use;
    `name` is for `pg_stat_activity`.

    `settings` are for every session of the pool, such as planner switches for one kind of query.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=keep,
        timeout=10,
        command_timeout=60,
        init=prepare,
        reset=_keep,
        server_settings={"application_name": f"tocsin {name}", **SESSION, **(settings or {})},
    )


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
        "jsonb", schema="pg_catalog", encoder=_encode_json, decoder=msgspec.json.decode, format="text"
    )


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _away(error: Exception) -> bool:
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


class GroupCommit(Generic[Item, Result]):
    """Lets calls that arrive during a commit, and callers that call again after it, share the next one.

    `run(tx, items)` does the work for all items in one transaction and returns one result each, in order. If it
    fails for several, each is run again alone, so that one bad item fails only its own caller. A call returns when its
    work is committed. With `begin=False` no transaction is begun: for a `run` that is a single statement, which saves
    two of three round trips. Items share a commit up to `limit`, by number or by their total `weigh`; one that
    is heavier is committed alone. `pause` is for work that nobody waits for: while it keeps coming, commits are so many
    seconds apart, and larger.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        run: Callable[[Tx, Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int = GROUP_LIMIT,
        begin: bool = True,
        pause: float = 0.0,
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._pool = pool
        self._run = run
        self._limit = limit
        self._begin = begin
        self._pause = pause
        self._weigh = weigh
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._weight = 0  # of what waits
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._weight += self._weigh(item)
        if self._worker is None:
            self._worker = asyncio.create_task(self._commit_all())
        return await future

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._take())
                await self._gather()
        finally:
            self._worker = None

    async def _gather(self) -> None:
        """Wait for the callers that were just answered: then they share the next commit, not alternate with it."""
        if self._pause and 0 < self._weight < self._limit:
            await asyncio.sleep(self._pause)
        quiet = 0
        for _ in range(MAX_TURNS):
            if quiet == QUIET_TURNS or self._weight >= self._limit:
                return
            before = self._weight
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._weight == before else 0

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The items of the next commit."""
        count = weight = 0
        for item, _ in self._waiting:
            heavier = weight + self._weigh(item)
            if count and heavier > self._limit:
                break
            count, weight = count + 1, heavier
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._weight -= weight
        return group

    async def _commit(self, group: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            async with self._pool.acquire() as tx, tx.transaction() if self._begin else contextlib.nullcontext():
                results = await self._run(tx, [item for item, _ in group])
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception) and not _away(error):
                for member in group:
                    await self._commit([member])
                return
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
