"""A check that failed is tried again at once over a new connection before it counts."""

from __future__ import annotations

from collections.abc import Callable

from tocsin.checks.base import CheckContext, run_check
from tocsin.domain.monitors import Result, Target

MAX_SECOND_TRIES = 50
"""Maximum second tries at once. Where more fail together, it is no hiccup of one connection: they count as they are."""


class SecondTries:
    """Of one process, wherever it checks from."""

    def __init__(self) -> None:
        self._running = 0

    async def check(self, target: Target, context: CheckContext, worthwhile: Callable[[], bool]) -> Result:
        """What the check found, or its second try: if it failed, and that is `worthwhile` then."""
        result = await run_check(target, context)
        if result.ok or not worthwhile() or self._running >= MAX_SECOND_TRIES:
            return result
        self._running += 1
        try:
            return await run_check(target, context)
        finally:
            self._running -= 1
