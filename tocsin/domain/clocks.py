"""Clocks of machines: what is off by the same amount each time is a clock that is wrong, and not a late report.

An agent that could not send sends what it kept as soon as it can, so that its newest sample is about now. Where the
newest sample is far from now and keeps its distance while time passes, the machine's clock is wrong: everything that
it says is then taken by when it arrives. So it is where the newest sample stays the same while reports go on: a report
that is sent again after an answer was lost does so twice, or for seconds. Samples from the future need no second
report: nobody can keep those.

Pure: all times are given, in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from tocsin.domain.incidents import CLOCK, format_duration
from tocsin.domain.servers import Verdict

TOLERANCE = 120.0
"""Seconds by which a clock may be off and still be right."""
FUTURE = 300.0
"""Seconds in the future, by the machine's clock as far as it is known, up to which a sample is one."""
SAME = 30.0
"""Seconds between two distances that are the same: what reports take on their way differs."""
JITTER = 1.0
STILL_REPORTS, STILL_FOR = 3, 30.0
"""Reports with the same newest sample, and seconds from the first to the last of them, of a clock that stands still."""
ONGOING_EVENTS = 600.0
"""Seconds for which a clock must have been wrong before people are told."""
MINUTE, HOUR, DAY = 60, 3_600, 86_400
CONSEQUENCE = "What the server reports is taken by when it arrives."


class Clock(TypedDict):
    """A clock that is, or may be, wrong; of one that is right nothing is kept.

    `skew` is by how much it is known to be ahead, 0 until that is known. `newest` is the newest sample of the latest
    report by the machine's own clock, `arrived` when that came first, in so far `reports` reports (1 where that is not
    said); `since` when the first came that was off like this.
    """

    skew: float
    newest: float
    arrived: float
    since: float
    reports: NotRequired[int]


def follow(clock: Clock | None, times: Sequence[float], arrived: float) -> Clock | None:
    """What a report says about its machine's clock. `times` are those of its samples, oldest first."""
    if not times:
        return clock
    known = clock["skew"] if clock else 0.0
    latest = arrived + max(known, 0.0) + FUTURE
    possible = next((each for each in reversed(times) if each <= latest), None)
    newest = times[-1] if possible is None else possible
    off = newest - arrived
    if clock is not None and newest == clock["newest"]:
        return _again(clock, arrived)
    if abs(off) <= TOLERANCE:
        return None
    if clock is None:
        return {"skew": round(off) if possible is None else 0.0, "newest": newest, "arrived": arrived, "since": arrived}
    passed = arrived - clock["arrived"]
    steady = abs(newest - clock["newest"] - passed) <= min(SAME, max(JITTER, passed / 2))
    if known and abs(off - known) <= SAME:
        skew = known
    elif steady or possible is None:
        skew = round(off)
    elif known and off < known:
        skew = known  # older samples, which were kept
    else:
        skew = 0.0
    since = clock["since"] if skew and (known or steady) else arrived
    return {"skew": skew, "newest": newest, "arrived": arrived, "since": since}


def _again(clock: Clock, arrived: float) -> Clock:
    """The same newest sample once more: a report that was sent again, or a clock that stands still."""
    reports = min(clock.get("reports", 1) + 1, STILL_REPORTS)
    counted: Clock = {**clock, "reports": reports}
    if reports < STILL_REPORTS or arrived - clock["arrived"] < STILL_FOR:
        return counted
    return {**counted, "skew": round(clock["newest"] - arrived)}


def judge(clock: Clock | None, lasting: bool, arrived: float, name: str) -> tuple[Clock | None, list[Verdict]]:
    """Whether people are to be told that the clock of `name` is wrong, or right again; `lasting`: they were told so.

    While that lasts the time is not counted, so that it starts anew after it was resolved by hand.
    """
    if clock is None:
        over = [Verdict(CLOCK, "recovered", f"The clock of {name} is right again")] if lasting else []
        return None, over
    if lasting:
        return {**clock, "since": arrived}, []
    if clock["skew"] == 0 or arrived - clock["since"] < ONGOING_EVENTS:
        return clock, []
    return clock, [Verdict(CLOCK, "over", f"Warning: the clock of {name} is {describe(clock['skew'])}. {CONSEQUENCE}")]


def describe(skew: float) -> str:
    """By how much a clock is wrong, in words that are as exact as it is known: "5 h behind", "40 days ahead"."""
    off = abs(skew)
    if off > 2 * DAY:
        amount = f"{round(off / DAY)} days"
    else:
        unit = HOUR if off >= DAY else MINUTE
        amount = format_duration(round(off / unit) * unit)
    return f"{amount} {'ahead' if skew > 0 else 'behind'}"
