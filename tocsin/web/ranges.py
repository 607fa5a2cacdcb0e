"""How far back the pages of a server and of a monitor look."""

from __future__ import annotations

from datetime import timedelta

RANGES = {
    "1h": ("1 h", timedelta(hours=1), 15), "24h": ("24 h", timedelta(days=1), 360),
    "7d": ("7 d", timedelta(days=7), 3_600), "30d": ("30 d", timedelta(days=30), 10_800),
}  # fmt: skip
"""By its name in the address: what a range is called, how long it is, and the seconds of one point."""
DEFAULT_RANGE = "24h"
MAX_INCIDENTS = 10
"""Of those that are listed beside the charts."""


def mean_of(resolution: int) -> str:
    """How long points are means of, in words; empty where each is a reading, since agents report once a minute."""
    if resolution < 60:
        return ""
    return f"{resolution // 3_600} h" if resolution >= 3_600 else f"{resolution // 60} min"
