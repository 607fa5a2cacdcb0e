"""Amounts in words, for charts and tables: percent, bytes, rates, milliseconds."""

from __future__ import annotations

import math


def percent(value: float) -> str:
    """`3.1 %`, `12 %`, `99.95 %`: as many digits as are meaningful. Less than all is never rounded to 100 %."""
    if value >= 99:
        return f"{math.floor(value * 100) / 100:g} %"
    return f"{round(value)} %" if value >= 10 else f"{round(value, 1):g} %"


def size(value: float) -> str:
    """`950 B`, `3.2 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"
        value /= 1_000
    raise AssertionError


def rate(value: float) -> str:
    """Bytes per second: `1.2 MB/s`."""
    return f"{size(value)}/s"


def milliseconds(value: float) -> str:
    """`0.4 ms`, `85 ms`, `1.4 s`."""
    if 0 < value < 1:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 999.5 else f"{value / 1_000:.1f} s"


def count_in_words(times: int) -> str:
    return "once" if times == 1 else "twice" if times == 2 else f"{times} times"
