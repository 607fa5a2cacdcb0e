"""Time ranges of the pages of a server and of a monitor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Range:
    """One range: its name in the URL, its label, its length, and `resolution`, the seconds per point."""

    name: str
    label: str
    span: timedelta
    resolution: int

    @property
    def mean_of(self) -> str:
        """The period that each point is the mean of, in words; empty if each is a reading (agents report once a
        minute).
        """
        if self.resolution < 60:
            return ""
        return f"{self.resolution // 3_600} h" if self.resolution >= 3_600 else f"{self.resolution // 60} min"

    def context(self) -> dict[str, Any]:
        """What the templates need for the choice of a range; short ranges are kept live."""
        return {
            "over": self.name, "ranges": {each.name: each.label for each in RANGES.values()},
            "live": self.span <= timedelta(days=1),
        }  # fmt: skip


RANGES = {
    each.name: each
    for each in (
        Range("1h", "1 h", timedelta(hours=1), 15), Range("24h", "24 h", timedelta(days=1), 360),
        Range("7d", "7 d", timedelta(days=7), 3_600), Range("30d", "30 d", timedelta(days=30), 10_800),
    )
}  # fmt: skip
DEFAULT_RANGE = "24h"
MAX_INCIDENTS = 10
"""Listed below the charts."""


def chosen(name: str) -> Range:
    """The range of that name, or the default."""
    return RANGES.get(name, RANGES[DEFAULT_RANGE])
