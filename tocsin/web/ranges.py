"""Time ranges of the pages of a server and of a monitor."""

from __future__ import annotations

from datetime import timedelta

RANGES = {
    "1h": ("1 h", timedelta(hours=1), 15), "24h": ("24 h", timedelta(days=1), 360),
    "7d": ("7 d", timedelta(days=7), 3_600), "30d": ("30 d", timedelta(days=30), 10_800),
}  # fmt: skip
"""By name in the URL: label, length, and seconds per point."""
DEFAULT_RANGE = "24h"
MAX_INCIDENTS = 10
"""Listed below the charts."""


def mean_of(resolution: int) -> str:
    """The period that each point is the mean of, in words; empty if each is a reading (agents report once a minute)."""
    if resolution < 60:
        return ""
    return f"{resolution // 3_600} h" if resolution >= 3_600 else f"{resolution // 60} min"
