"""Waiting for something to become true: with a deadline, and words for what did not happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

PAUSE = 0.02
PATIENCE = 60.0
"""Seconds that a test waits for what takes a fraction of one: a machine that is busy with other things is no fault."""


def poll(look: Callable[[], Found | None], *, timeout: float = PATIENCE, what: Callable[[], str] | str = "it") -> Found:
    """What `look` finds, once it is neither None nor False; an AssertionError that says `what` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what if isinstance(what, str) else what()}")
        time.sleep(PAUSE)


async def until(
    look: Callable[[], Awaitable[Found | None]], *, timeout: float = PATIENCE, what: Callable[[], str] | str = "it"
) -> Found:
    """`poll` for an async look."""
    deadline = time.monotonic() + timeout
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what if isinstance(what, str) else what()}")
        await asyncio.sleep(PAUSE)
