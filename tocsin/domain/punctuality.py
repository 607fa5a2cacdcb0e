"""The objective for how soon deliveries are first tried, and whether it is met. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tocsin.domain.incidents import format_duration
from tocsin.domain.settings import Unusable

INCIDENT_TYPE = "slo"
LEAST_TRIES = 10
"""Fewer first tries than this are no measure: one that is late at night is no breach."""
PARTS = 30
"""A window is counted in so many parts, of at least a second."""
UNITS = {"s": 1, "m": 60, "h": 3600}
SHAPE = re.compile(r"(\d{1,2}(?:\.\d{1,4})?)%\s+(\d{1,5}(?:\.\d{1,3})?)([smh])\s+(\d{1,5})([smh])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Objective:
    """Such a share of first tries, 0 to 1, begins within so many seconds, over a window of so many seconds."""

    share: float
    within: float
    window: float

    @property
    def part(self) -> float:
        return max(1.0, self.window / PARTS)

    def breached(self, tries: int, late: int) -> bool:
        return tries >= LEAST_TRIES and late > tries * (1 - self.share) + 1e-9

    def message(self, tries: int, late: int) -> str:
        """What an incident says of a breach."""
        return (
            f"{late} of {tries} deliveries of the last {format_duration(self.window)} were first tried later than "
            f"{self.within:g} s after they were due. The objective is that {self.share * 100:.6g} % are in time."
        )


def objective(value: str) -> Objective | None:
    """From `99% 5s 30m`; None for `off`."""
    if value.lower() == "off":
        return None
    found = SHAPE.fullmatch(value)
    if found is not None:
        share, within, unit, window, of = found.groups()
        made = Objective(float(share) / 100, float(within) * UNITS[unit], float(window) * UNITS[of])
        if made.share > 0 and made.within > 0 and 10 <= made.window <= 86_400 and made.within < made.window:
            return made
    problem = "must be a share, a time and a window (10 s to 24 h, longer than the time) such as 99% 5s 30m, or off"
    raise Unusable("TOCSIN_SLO", f"is {value!r}, but {problem}")
