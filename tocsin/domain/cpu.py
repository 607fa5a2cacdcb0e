"""How busy processors are: percent of all of them, or units of 1,024 for each, as the public agent sends them."""

from __future__ import annotations

from typing import Literal

CORE = 1024.0
"""Units of one core that does nothing else."""
OVER = 101.0
"""Percent from which on a value is no longer 100 % and rounding."""
MAX_UNITS = 1.25 * CORE
"""Units of one core up to which a value is 100 % and what an agent's two clocks differ by."""

Unit = Literal["percent", "units"]

TOO_MUCH = "value must not be over 100 percent"
NO_CORES = "value is in units of 1,024 a core, and attributes.cpu_cores is not known"


def in_units(value: float, cores: int | None) -> bool:
    """Whether a value without a declared unit can only be in units: too much for percent, and not for that many."""
    return value >= OVER and not isinstance(percent(value, "units", cores), str)


def percent(value: float, unit: Unit, cores: int | None) -> float | str:
    """A value in percent, or what is wrong with it."""
    if unit == "units":
        if not cores:
            return NO_CORES
        return min(100.0 * value / (CORE * cores), 100.0) if value <= MAX_UNITS * cores else TOO_MUCH
    return min(value, 100.0) if value < OVER else TOO_MUCH
