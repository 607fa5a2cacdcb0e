"""Keeping long-lived processes small."""

from __future__ import annotations

import sys

UNWANTED = ("rich", "pydantic")
"""Packages that structlog and Litestar load for the sole reason that they are installed: 3 and 6 MB a process."""


def leave_out() -> None:
    """Make the unwanted look as if they were not installed. To be called before anything loads them."""
    for name in UNWANTED:
        if name not in sys.modules:
            sys.modules[name] = None  # type: ignore[assignment] # the import system's word for "not to be had"
