"""SIGTERM as Ctrl-C: what a command has begun is taken back, and it says that it was interrupted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def listen() -> None:
    """From now on, SIGTERM raises KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run`, cancelled by either signal, by each of them again; raises KeyboardInterrupt then.

    An exception that is raised in the midst of a loop may be swallowed there, or leave it in pieces; and a handler
    that is not the loop's own is not run before something else wakes the loop, if the signal came just before it slept.
    """
    try:
        return asyncio.run(_cancelled_by_signals(main))
    finally:
        listen()


async def _cancelled_by_signals(main: Coroutine[Any, Any, Result]) -> Result:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as shells have it for what is in the background
            loop.add_signal_handler(number, task.cancel)
    try:
        return await main
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
