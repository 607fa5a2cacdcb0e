"""Group commit: calls that arrive during a commit share the next one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeAlias, TypeVar

from tocsin.storage.postgres.database import ASKING, Asking, NotSent, Pool, Tx, unavailable
from tocsin.storage.postgres.session import LOST, OutcomeUnknown

Item = TypeVar("Item")
Result = TypeVar("Result")

GROUP_LIMIT = 500
"""Rows in one commit. Measured with batches: 200 are 5 % slower, 1,000 are 10 %."""

QUIET_TURNS, MAX_TURNS = 3, 50
"""Turns of the event loop without a new call after which the next commit begins, and after which it begins anyway.
Answering a call, reading the caller's next request, and calling again take three turns.
"""

TICK = 0.2
"""Seconds in which patience is counted: if this process itself stood still, no commit is blamed for it."""
GONE_TICKS = 2
"""Ticks of waiting after which a call whose client has gone is not carried out any more."""


_Call: TypeAlias = tuple[Item, "asyncio.Future[Result]", int, Asking | None]
"""An item, its result, when it was given, and whose request it is of. A tuple, for there are thousands a second."""


class _Commit(Generic[Item, Result]):
    """A commit under way."""

    __slots__ = ("calls", "sent", "tick")

    def __init__(self, calls: Sequence[_Call[Item, Result]], tick: int) -> None:
        self.calls = calls
        self.tick = tick
        self.sent = False


class GroupCommit(Generic[Item, Result]):
    """Lets calls that arrive during a commit, and callers that call again after it, share the next one.

    `run(tx, items)` does the work for all items in one transaction and returns one result each, in order. If it
    fails for several, each is run again alone, so that one bad item fails only its own caller. A call returns when its
    work is committed. With `begin=False` no transaction is begun: for a `run` that is a single statement, which saves
    two of three round trips. Items share a commit up to `limit`, by number or by their total `weigh`; one that
    is heavier is committed alone. `pause` is for work that nobody waits for: while it keeps coming, commits are so many
    seconds apart, and larger.

    With `patience`, nobody waits for longer than so many seconds in which nothing moves: what was not sent by then
    never is (`NotSent`), what was sent has an `OutcomeUnknown`, and others no longer wait behind it. What waited for
    its turn, and whose client has gone meanwhile, is not carried out.

    `run` has a context of its own, for it works for many: what it is to know of a caller stands in the items.
    """

    def __init__(
        self,
        pool: Pool,
        run: Callable[[Tx, Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        limit: int = GROUP_LIMIT,
        begin: bool = True,
        pause: float = 0.0,
        weigh: Callable[[Item], int] = lambda _: 1,
        patience: float | None = None,
    ) -> None:
        self._pool = pool
        self._run = run
        self._limit = limit
        self._begin = begin
        self._pause = pause
        self._weigh = weigh
        self._patience = None if patience is None else round(patience / TICK)
        self._waiting: list[_Call[Item, Result]] = []
        self._weight = 0  # of what waits
        self._alone: list[_Call[Item, Result]] = []  # those that failed together, before all others
        self._worker: asyncio.Task[None] | None = None
        self._under_way: _Commit[Item, Result] | None = None
        self._tick = self._moved = 0  # the last one in which a commit ended
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, item: Item) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        asking = ASKING.get()
        tick = self._tick if asking is None or asking.waited < TICK else self._tick - round(asking.waited / TICK)
        self._waiting.append((item, future, tick, asking))
        self._weight += self._weigh(item)
        if self._worker is None:
            self._worker = asyncio.create_task(self._commit_all(), context=Context())
        if self._timer is None and self._patience is not None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._look)
        return await future

    async def _commit_all(self) -> None:
        own = asyncio.current_task()
        try:
            while (self._alone or self._waiting) and self._worker is own:
                self._under_way = under_way = _Commit(self._take(), self._tick)
                moved = await self._commit(under_way)
                if self._worker is own:
                    self._under_way = None
                    self._moved = self._tick if moved else self._moved
                    if not self._alone:
                        await self._gather()
        finally:
            if self._worker is own:
                self._worker = self._under_way = None

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

    def _take(self) -> list[_Call[Item, Result]]:
        """The calls of the next commit."""
        if self._alone:
            return [self._alone.pop(0)]
        count = weight = 0
        for call in self._waiting:
            heavier = weight + self._weigh(call[0])
            if count and heavier > self._limit:
                break
            count, weight = count + 1, heavier
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._weight -= weight
        return group

    def _needless(self, call: _Call[Item, Result]) -> bool:
        """Whether nobody waits for it any more."""
        _, future, tick, asking = call
        if future.done():
            return True
        if asking is None or not asking.client.disconnected or self._tick < tick + GONE_TICKS:
            return False  # one that only sent its request and went is served all the same, if it had not to wait
        future.set_exception(NotSent("the client has gone"))
        return True

    # ------------------------------------------------------------------------------------------------------- patience

    def _look(self) -> None:
        """Answer whoever has waited for long enough."""
        assert self._patience is not None
        self._timer = None
        if not self._alone and not self._waiting and self._under_way is None:
            return
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look)
        self._tick += 1
        latest = self._tick - self._patience
        under_way = self._under_way
        if under_way is not None and (under_way.tick <= latest or self._moved <= latest):
            for call in under_way.calls:
                if call[2] <= latest or under_way.tick <= latest:
                    _fail(call, self._out_of_patience(under_way.sent))
            if all(future.done() for _, future, _, _ in under_way.calls):
                self._worker = self._under_way = None  # it may end by itself; others do not wait for that
        for call in self._alone:
            if call[2] <= latest:
                _fail(call, self._out_of_patience(sent=False))
        self._alone = [call for call in self._alone if not call[1].done()]
        if self._moved <= latest:
            for call in self._waiting:
                if call[2] <= latest:
                    _fail(call, self._out_of_patience(sent=False))
                    self._weight -= self._weigh(call[0])
            self._waiting = [call for call in self._waiting if call[2] > latest]
        if (self._alone or self._waiting) and self._worker is None:
            self._worker = asyncio.create_task(self._commit_all(), context=Context())

    def _out_of_patience(self, sent: bool) -> ConnectionError:
        trouble = self._pool.primary.trouble
        if sent:
            return OutcomeUnknown(f"the database {trouble or 'has not answered in time'}")
        return NotSent(f"the database {trouble or 'is busy with something else'}")

    # ----------------------------------------------------------------------------------------------------- one commit

    async def _commit(self, commit: _Commit[Item, Result]) -> bool:
        """Carry it out, and tell each caller. Returns whether the database did anything about it."""
        group = commit.calls
        try:
            async with self._pool.acquire() as tx, tx.transaction() if self._begin else contextlib.nullcontext():
                if group[0][2] != self._tick:  # they had to wait
                    group = [call for call in group if not self._needless(call)]
                    if not group:
                        return True
                commit.sent = True
                results = await self._run(tx, [call[0] for call in group])
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception) and not unavailable(error):
                self._alone += [call for call in group if not call[1].done()]
                return True
            if commit.sent and not self._begin and isinstance(error, LOST):  # which is a transaction by itself
                unknown = OutcomeUnknown("the session was lost before it answered")
                unknown.__cause__ = error
                error = unknown
            for call in group:
                _fail(call, error)
            if not isinstance(error, Exception):
                raise
            return not unavailable(error)
        for (_, future, _, _), result in zip(group, results, strict=True):
            if not future.done():
                future.set_result(result)
        return True


def _fail(call: _Call[Item, Result], error: BaseException) -> None:
    future = call[1]
    if not future.done():
        future.set_exception(error)
