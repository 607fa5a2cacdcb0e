"""Keeps long-lived processes small and fast."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNWANTED = ("rich", "pydantic", "attr", "greenlet")
"""Packages that structlog and Litestar import only because they are installed: 3, 6, 1 and 1 MB per process."""


TRACES = "opentelemetry"
"""Litestar imports it, too, if it is installed."""


def block_imports(*, traces: bool) -> None:
    """Make these packages look as if they were not installed, and what traces are taken with unless they are. Call it
    before anything imports them.
    """
    for name in UNWANTED if traces else (*UNWANTED, TRACES):
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment] # makes the import fail


@contextmanager
def without_rich() -> Iterator[None]:
    """What is imported in here does not find it. `structlog` would only colour tracebacks with it, and to load it takes
    longer than most of a short command.
    """
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # makes the import fail
    try:
        yield
    finally:
        del sys.modules["rich"]


def freeze_gc() -> None:
    """Call it when everything is loaded: these objects stay, and most new ones are not in reference cycles.

    By default, Python looks for cycles after every 700 new objects, which a burst of requests creates in a millisecond;
    that took an eighth of an engine's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
