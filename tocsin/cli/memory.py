"""Keeping long-lived processes small and quick."""

from __future__ import annotations

import gc
import sys

UNWANTED = ("rich", "pydantic", "greenlet")
"""Packages that structlog and Litestar load for the sole reason that they are installed: 3, 6 and 1 MB a process."""


def block_imports() -> None:
    """Make the unwanted look as if they were not installed. To be called before anything loads them."""
    for name in UNWANTED:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment] # the import system's word for "not to be had"


def freeze_gc() -> None:
    """To be called when everything is loaded: what is there by now is for good, and most of what comes is not garbage.

    Python's default looks for cycles at every 700 new objects, which a burst of requests makes in a millisecond; that
    took an eighth of an engine's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
