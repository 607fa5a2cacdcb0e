"""Sessions whose asker has left before they were there: they are made all the same, for the next one who asks.

To make one takes some ten round trips, and nobody waits for it for long: on a slow way nobody would ever have one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from tocsin.storage.postgres.connecting import NotPrimary
from tocsin.storage.postgres.session import Session

KEPT = 5.0
"""Seconds from when its asker left until a session is given up, made or not."""

Making = asyncio.Task[Session]


class Unclaimed:
    """Those of one primary, by what they are for."""

    def __init__(self) -> None:
        self._left: dict[str, list[Making]] = {}

    async def claim(self, what_for: str, make: Callable[[], Coroutine[Any, Any, Session]]) -> Session:
        """One that was begun for somebody else, or one that `make` makes, in its own context. Raises what it raises."""
        making = self._begun(what_for) or asyncio.create_task(make(), context=Context())
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            if making.cancelled():
                raise NotPrimary("is not needed any more") from None
            self._left.setdefault(what_for, []).append(making)
            making.add_done_callback(failure)
            making.get_loop().call_later(KEPT, self._forget, what_for, making)
            raise

    def close(self) -> None:
        """Give all of them up."""
        for what_for, left in self._left.items():
            for making in list(left):
                self._forget(what_for, making)

    def _begun(self, what_for: str) -> Making | None:
        left = self._left.get(what_for, [])
        while left:
            making = left.pop(0)
            if not making.done() or (failure(making) is None and not making.result().is_closed()):
                return making
        return None

    def _forget(self, what_for: str, making: Making) -> None:
        left = self._left[what_for]
        if making not in left:
            return
        left.remove(making)
        if not making.done():
            making.cancel()
        elif failure(making) is None:
            making.result().terminate()


def failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Why a task that is done came to nothing, if it did. Asyncio complains about errors that nobody asked for."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()
