"""What `make cluster` and its demo say, and how they end where this machine lacks something."""

from __future__ import annotations

import logging
import sys
import textwrap
import time
from collections.abc import Callable

import pytest
import structlog
from rich.console import Console

WIDTH = 80


class Teller:
    """Says what happens, each with the seconds since the beginning; what our own code logs of it is not shown."""

    def __init__(self) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        self._console = Console()
        self._began = time.monotonic()

    def __call__(self, words: str, style: str = "") -> None:
        stamp = f"{time.monotonic() - self._began:5.1f} s  "
        self.plain(textwrap.fill(words, WIDTH, initial_indent=stamp, subsequent_indent=" " * len(stamp)), style)

    def plain(self, words: str, style: str = "") -> None:
        self._console.print(words, style=style or None, highlight=False, markup=False, soft_wrap=True)


def ended(run: Callable[[], int]) -> int:
    """The exit status of a command; one line and 2 where something that it needs is not installed."""
    try:
        return run()
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        print(error.msg, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
