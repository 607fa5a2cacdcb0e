"""Turns for a few workers, so that one slow service delays nobody else.

Each lane (an integration) has few slots, and lanes that were slow last share a part of all: the rest is always for
those that answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLOTS = 16
OF_A_LANE = 3
OF_SLOW_LANES = 6
MAX_REMEMBERED = 4096
"""Slow lanes that are remembered."""
MAX_WAITING = 4096


class Busy(Exception):
    """No slot was free in time; nothing was attempted."""


class Slots:
    """For one event loop."""

    def __init__(self, slots: int = SLOTS, of_a_lane: int = OF_A_LANE, of_slow_lanes: int = OF_SLOW_LANES) -> None:
        self._slots, self._of_a_lane, self._of_slow_lanes = slots, of_a_lane, of_slow_lanes
        self._used: Counter[object] = Counter()
        self._slow: OrderedDict[object, None] = OrderedDict()
        self._slow_used = 0
        self._waiting: OrderedDict[asyncio.Future[bool], object] = OrderedDict()

    @asynccontextmanager
    async def take(self, lane: object, patience: float) -> AsyncIterator[None]:
        """A slot, for as long as the block lasts. Raises `Busy` after `patience` seconds without one.

        A block that ends with `TimeoutError` makes its lane a slow one; one that ends otherwise, one that answers.
        """
        was_slow = await self._turn(lane, patience)
        timed_out = False
        try:
            yield
        except TimeoutError:
            timed_out = True
            raise
        finally:
            self._leave(lane, was_slow)
            self._slow.pop(lane, None)
            if timed_out:
                self._slow[lane] = None
                if len(self._slow) > MAX_REMEMBERED:
                    self._slow.popitem(last=False)
            self._next()

    async def _turn(self, lane: object, patience: float) -> bool:
        """Wait for a slot and take it; whether it is one of those of slow lanes."""
        if self._fits(lane):
            return self._enter(lane)
        if len(self._waiting) >= MAX_WAITING:
            raise Busy
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = lane
        try:
            async with asyncio.timeout(patience):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave(lane, turn.result())
                self._next()
            if isinstance(error, TimeoutError):
                raise Busy from None
            raise
        finally:
            self._waiting.pop(turn, None)

    def _fits(self, lane: object) -> bool:
        free = self._used.total() < self._slots and self._used[lane] < self._of_a_lane
        return free and not (lane in self._slow and self._slow_used >= self._of_slow_lanes)

    def _enter(self, lane: object) -> bool:
        slow = lane in self._slow
        self._used[lane] += 1
        self._slow_used += slow
        return slow

    def _leave(self, lane: object, was_slow: bool) -> None:
        self._slow_used -= was_slow
        self._used[lane] -= 1
        if not self._used[lane]:
            del self._used[lane]

    def _next(self) -> None:
        """Give what is free to those who wait, in their order."""
        for turn, lane in list(self._waiting.items()):
            if self._used.total() >= self._slots:
                return
            if not turn.done() and self._fits(lane):
                del self._waiting[turn]
                turn.set_result(self._enter(lane))
