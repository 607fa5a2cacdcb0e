"""Small charts for lists and headings: sparklines, bars by day, meters. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from tocsin.web.charts import Words, element
from tocsin.web.formatting import milliseconds, percent

WARNING = 10.0
"""A meter warns from this many percentage points below its limit."""
MOSTLY_UP = 95.0
MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class Day:
    """One day: percent of the checks that succeeded, None if there were none."""

    day: date
    uptime: float | None


def sparkline(
    title: str, values: Sequence[tuple[float | None, bool]], words: Words = milliseconds, *, places: int = 2
) -> Markup:
    """The last few values as a line, oldest first; a failed check is a mark instead.

    If there are fewer than `places`, they are aligned to the right.
    """
    if not values:
        return element("span", "not checked yet", class_="quiet small")
    first = max(places - len(values), 0)
    good = [(place, value) for place, (value, fine) in enumerate(values, first) if fine and value is not None]
    bad = [place for place, (_, fine) in enumerate(values, first) if not fine]
    times = [value for _, value in good]
    message = f"{title}: between {words(min(times))} and {words(max(times))}" if good else f"{title}: no response"
    if bad:
        message += f"; {len(bad)} of {len(values)} checks failed"
    scale, apart = max(times, default=0.0) or 1.0, 120 / max(first + len(values) - 1, 1)
    path = " ".join(f"{place * apart:.0f} {25 - 20 * value / scale:.0f}" for place, value in good)
    marks = [element("path", class_="trouble", d=f"M{place * apart:.0f} 3V25") for place in bad]
    line = [element("path", class_="line", d=f"M{path}")] if len(good) > 1 else []
    return element(
        "svg", element("title", message), *marks, *line, class_="chart spark", viewBox="-2 0 124 28",
        preserveAspectRatio="none", role="img",
    )  # fmt: skip


def day_bars(title: str, days: Sequence[Day]) -> Markup:
    """One bar per day, oldest first: up, some failures, mostly down, or not checked."""
    bars = [
        element("rect", element("title", _of_day(day)), class_=_kind(day.uptime), x=place * 10 + 1, width=8, height=40)
        for place, day in enumerate(days)
    ]
    return element(
        "svg", *bars, class_="chart days", viewBox=f"0 0 {len(days) * 10} 40", preserveAspectRatio="none", role="img",
        aria_label=f"{title}: {days_in_words(days)}",
    )  # fmt: skip


def days_in_words(days: Sequence[Day]) -> str:
    """`no failures on 28 of 30 days; 22 Nov 99.5 %; 23 Nov 40 %`"""
    seen = [(each.day, each.uptime) for each in days if each.uptime is not None]
    if not seen:
        return "no checks yet"
    trouble = [(day, uptime) for day, uptime in seen if uptime < 100]
    start = f"no failures on {len(seen) - len(trouble)} of {len(seen)} day{'s' if len(seen) > 1 else ''}"
    return "; ".join([start, *(f"{day:%d %b} {percent(uptime)}" for day, uptime in trouble[-MAX_NAMED:])])


def _of_day(each: Day) -> str:
    return f"{each.day:%a %d %b}: {'not checked' if each.uptime is None else percent(each.uptime)}"


def _kind(uptime: float | None) -> str:
    return "none" if uptime is None else "up" if uptime >= 100 else "some" if uptime >= MOSTLY_UP else "down"


def meter(share: float, limit: float | None = None) -> Markup:
    """A percent bar to show next to the number: bad at or above its limit, warning a little below it."""
    kind = "fine" if limit is None or share < limit - WARNING else "warn" if share < limit else "bad"
    return element(
        "svg", element("rect", class_="track", width=100, height=6),
        element("rect", class_=kind, width=round(min(max(share, 0.0), 100.0)), height=6),
        class_="meter", viewBox="0 0 100 6", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip
