"""Line charts over time, rendered as SVG on the server. Pure functions.

Each chart also says in words what it shows. It contains only classes and geometry, so that the style sheet decides on
light and dark. The inner SVG is stretched to the width of the page; text is outside it and keeps its size. No text
covers a line: labels are beside the lines or below them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from zoneinfo import ZoneInfo

from markupsafe import Markup

from tocsin.web.formatting import count_in_words, percent

WIDE, HIGH = 1_000, 200
"""The units that a line is drawn in; the page scales them."""
ABOVE, PLOT, BELOW = 18, 126, 24
"""Pixels above, of and below the lines; a chart is as high as their sum."""
GAP = 3.0
"""A line is broken after this many times the usual distance without a point."""
MARKS = (
    (timedelta(hours=1), timedelta(minutes=10)), (timedelta(days=1), timedelta(hours=4)),
    (timedelta(days=7), timedelta(days=1)), (timedelta(days=366), timedelta(days=5)),
)  # fmt: skip
"""Distance between the time labels, for ranges up to a length."""

Point = tuple[datetime, float]
Span = tuple[datetime, datetime]
Words = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, and its points, oldest first."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart for a page: its title, the latest value, what it shows in words, and the SVG."""

    title: str
    now: str
    words: str
    svg: Markup


def line_chart(
    key: str,
    title: str,
    lines: Sequence[Line],
    *,
    start: datetime,
    end: datetime,
    over: str,
    zone: str = "UTC",
    words: Words = percent,
    top: float | None = None,
    threshold: float | None = None,
    shaded: Sequence[Span] = (),
    alarms: int = 0,
    means: str = "",
    latest: Point | None = None,
) -> Chart:
    """Lines over time. `key` makes the ids in the page unique; `over` is the range in words ("24 h").

    The scale ends at `top`, or at the next round number above all values. Where points are missing the line is broken.
    The first line is filled down to zero; `shaded` are periods of incidents, `alarms` of which exceeded `threshold`.
    `means` is the period that each point is the mean of, in words, or empty if points are values; `latest` is the
    latest value of the first line if points are means.
    """
    lines = [Line(each.name, [point for point in each.points if start <= point[0] <= end]) for each in lines]
    latest = latest if latest and latest[0] >= start else None
    highest = max([value for each in lines for _, value in each.points] + [threshold or 0.0])
    scale = top or round_top(highest)
    message = describe(
        title, lines, over=over, words=words, threshold=threshold, incidents=len(shaded), alarms=alarms, means=means,
        latest=latest, end=end,
    )  # fmt: skip
    inside = [_shade(span, start, end) for span in shaded]
    inside += [element("path", class_="gridline", d=f"M0 {at}H{WIDE}") for at in (0, HIGH // 2, HIGH)]
    for number, each in enumerate(lines):
        inside += _drawn(each.points, start, end, scale, number)
    seen = any(each.points for each in lines)
    outside = [_left(words(scale), ABOVE - 4), _left(words(scale / 2), ABOVE + PLOT // 2 - 4)] if seen else []
    legend = []
    if threshold is not None and threshold <= scale:
        inside.append(element("path", class_="threshold", d=f"M0 {_y(threshold, scale)}H{WIDE}"))
        legend.append(element("tspan", f"limit {words(threshold)}", class_="limit"))
    if len(lines) > 1:
        keys = ("key", *["key second"] * (len(lines) - 1))
        legend += [element("tspan", f" {each.name}", class_=kind) for kind, each in zip(keys, lines, strict=True)]
    if legend:
        outside.append(element("text", *legend, x="100%", y=ABOVE - 4, text_anchor="end"))
    outside += _times(start, end, zone)
    if not seen:
        outside.append(element("text", "no readings", x="50%", y=ABOVE + PLOT // 2 + 16, text_anchor="middle"))
    plot = element(
        "svg", *inside, x=0, y=ABOVE, width="100%", height=PLOT, viewBox=f"0 0 {WIDE} {HIGH}",
        preserveAspectRatio="none",
    )
    named = element("title", f"{title} over {over}", id=f"{key}-t"), element("desc", message, id=f"{key}-d")
    svg = element(
        "svg", *named, *outside, plot, class_="chart plot", role="img", aria_labelledby=f"{key}-t {key}-d"
    )
    last = latest or (lines[0].points[-1] if lines and lines[0].points else None)
    return Chart(title, "–" if last is None else words(last[1]), message, svg)


def describe(
    title: str,
    lines: Sequence[Line],
    *,
    over: str,
    words: Words,
    threshold: float | None = None,
    incidents: int = 0,
    alarms: int = 0,
    means: str = "",
    latest: Point | None = None,
    end: datetime | None = None,
) -> str:
    """What a chart shows: "CPU over 24 h: between 3 % and 97 %, now 12 %; over its threshold of 90 % twice".

    Where points are missing before `end`, the latest value is not called current. How often the threshold was exceeded
    is the number of incidents, `alarms`: means hide short peaks, and short peaks are not incidents.
    """
    parts = []
    for number, each in enumerate(lines):
        if each.points:
            message = _spread(each.points, words, means, latest if number == 0 else None, end)
            parts.append(f"{each.name}{':' if means else ''} {message}" if len(lines) > 1 else message)
    if not parts:
        return f"{title} over {over}: no readings"
    if threshold is not None:
        limit = f"its threshold of {words(threshold)}"
        highest = max(value for _, value in [*lines[0].points, *([latest] if latest else [])])
        if alarms:
            parts.append(f"over {limit} {count_in_words(alarms)}")
        elif highest >= threshold:
            parts.append(f"at times over {limit}, without an incident")
        elif not (incidents or means):
            parts.append(f"never over {limit}")
    if incidents:
        parts.append(f"{incidents} incident{'s' if incidents > 1 else ''}")
    return f"{title} over {over}: {'; '.join(parts)}"


def _spread(points: Sequence[Point], words: Words, means: str, latest: Point | None, end: datetime | None) -> str:
    """The range of a line's values or means, and its last value."""
    values = [value for _, value in points]
    low, high = words(min(values)), words(max(values))
    if means:
        range_ = f"means of {means} {f'all {low}' if low == high else f'between {low} and {high}'}"
        if latest is None:
            return range_ if low == high else f"{range_}, the last one {words(values[-1])}"
    elif low == high:
        return f"always {low}"
    else:
        range_ = f"between {low} and {high}"
    at, value = latest or points[-1]
    now = end is None or is_current([*points, (at, value)], end)
    return f"{range_}, {'now' if now else 'at last'} {words(value)}"


def is_current(points: Sequence[Point], end: datetime) -> bool:
    """Whether the line reaches `end`."""
    return bool(points) and (end - points[-1][0]).total_seconds() <= GAP * _usual(points)


def per_second(points: Sequence[Point]) -> list[Point]:
    """A counter's rate per second, from each point to the next. Where the counter was reset there is no rate."""
    return [
        (at, (value - before) / seconds)
        for (since, before), (at, value) in pairwise(points)
        if value >= before and (seconds := (at - since).total_seconds()) > 0
    ]


def unbroken(points: Sequence[Point]) -> list[list[Point]]:
    """The points in runs: a new run begins after `GAP` times the usual distance without a point."""
    if len(points) < 2:
        return [list(points)] if points else []
    usual = _usual(points)
    parts = [[points[0]]]
    for point in points[1:]:
        if (point[0] - parts[-1][-1][0]).total_seconds() > GAP * usual:
            parts.append([])
        parts[-1].append(point)
    return parts


def _usual(points: Sequence[Point]) -> float:
    return median([(later - at).total_seconds() for (at, _), (later, _) in pairwise(points)] or [math.inf])


def round_top(highest: float) -> float:
    """The smallest of 1, 2, 4, 5, 10, 20 … that is at least the value."""
    if highest <= 0:
        return 1.0
    ten = 10.0 ** math.floor(math.log10(highest))
    return next((ten * step for step in (1, 2, 4, 5) if ten * step >= highest), ten * 10)


# --------------------------------------------------------------------------------------------------------- elements


def element(name: str, *inside: str, **attributes: object) -> Markup:
    """An SVG element. Plain text is escaped; `class_` and `text_anchor` are `class` and `text-anchor`."""
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    content = Markup("").join(inside)
    return Markup("<{0}{1}>{2}</{0}>").format(name, given, content) if inside else Markup("<{}{}/>").format(name, given)


def _drawn(points: Sequence[Point], start: datetime, end: datetime, scale: float, number: int) -> list[Markup]:
    lines, areas = [], []
    for part in unbroken(points):
        dots = [(_x(at, start, end), _y(value, scale)) for at, value in part]
        if len(dots) == 1:
            dots.append((dots[0][0] + 2, dots[0][1]))
        path = _path(dots)
        lines.append(path)
        areas.append(f"{path}V{HIGH}H{dots[0][0]}Z")
    if not lines:
        return []
    line = element("path", class_="line second" if number else "line", d="".join(lines))
    return [line] if number else [element("path", class_="area", d="".join(areas)), line]


def _path(dots: Sequence[tuple[int, int]]) -> str:
    """A path in integer, relative steps, which takes a third of the bytes."""
    steps = " ".join(
        f"{right - x} {down - y}" for (x, y), (right, down) in pairwise(dots) if (x, y) != (right, down)
    )
    return f"M{dots[0][0]} {dots[0][1]}" + f"l{steps}".replace(" -", "-")


def _shade(span: Span, start: datetime, end: datetime) -> Markup:
    left, right = _x(max(span[0], start), start, end), _x(min(span[1], end), start, end)
    return element("rect", class_="incident", x=left, width=max(right - left, 3), height=HIGH)


def _left(text: str, y: int) -> Markup:
    return element("text", text, x=0, y=y)


def _times(start: datetime, end: datetime, zone: str) -> Iterator[Markup]:
    """Time labels below, on round hours or days of the viewer's time zone."""
    apart = next((step for longest, step in MARKS if end - start <= longest), MARKS[-1][1])
    form = "%H:%M" if apart < timedelta(days=1) else "%a" if apart < timedelta(days=5) else "%d %b"
    at = start.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    while at <= end:
        share = (at - start) / (end - start)
        if 0.04 <= share <= 0.96:
            yield element(
                "text", at.strftime(form), x=f"{share * 100:.1f}%", y=ABOVE + PLOT + BELOW - 8, text_anchor="middle"
            )
        at += apart  # wall-clock arithmetic, since the datetime is in a zone


def _x(at: datetime, start: datetime, end: datetime) -> int:
    return round(WIDE * ((at - start) / (end - start)))


def _y(value: float, scale: float) -> int:
    return round(HIGH * (1 - min(max(value / scale, 0.0), 1.0)))
