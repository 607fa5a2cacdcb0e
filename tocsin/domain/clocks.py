"""Clocks of machines. A constant offset means that the clock is wrong, not that the report is late.

An agent that could not send sends its backlog as soon as it can, so that its newest sample is about now. Where the
newest sample is far from now and keeps its distance while time passes, the machine's clock is wrong: everything that
it reports is then dated by when it arrives. The same holds where the newest sample stays the same while reports go
on: a report that is sent again after a response was lost repeats it only twice, or for seconds. Samples from the
future need no second report: no backlog can explain those.

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
"""Seconds by which two equal offsets may differ: the network delay of reports varies."""
JITTER = 1.0
STILL_REPORTS, STILL_FOR = 3, 30.0
"""Reports with the same newest sample, and seconds from the first to the last, that show that a clock has stopped."""
ONGOING_EVENTS = 600.0
"""Seconds for which a clock must have been wrong before people are notified."""
MINUTE, HOUR, DAY = 60, 3_600, 86_400
CONSEQUENCE = "What the server reports is dated by when it arrives."


class Clock(TypedDict):
    """A clock that is, or may be, wrong; for one that is right nothing is stored.

    `skew` is the number of seconds it is known to be ahead, 0 until that is known. `newest` is the newest sample of the
    latest report by the machine's own clock, `arrived` when that came first, in so far `reports` reports (1 where
    absent); `since` when the first one with this offset came.
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
        skew = known  # older samples, from a backlog
    else:
        skew = 0.0
    since = clock["since"] if skew and (known or steady) else arrived
    return {"skew": skew, "newest": newest, "arrived": arrived, "since": since}


def _again(clock: Clock, arrived: float) -> Clock:
    """The same newest sample once more: a report that was sent again, or a stopped clock."""
    reports = min(clock.get("reports", 1) + 1, STILL_REPORTS)
    counted: Clock = {**clock, "reports": reports}
    if reports < STILL_REPORTS or arrived - clock["arrived"] < STILL_FOR:
        return counted
    return {**counted, "skew": round(clock["newest"] - arrived)}


def judge(clock: Clock | None, lasting: bool, arrived: float, name: str) -> tuple[Clock | None, list[Verdict]]:
    """Whether to notify people that the clock of `name` is wrong, or right again; `lasting`: an incident is ongoing.

    While that lasts the time is not counted, so that counting starts over after it was resolved by hand.
    """
    if clock is None:
        over = [Verdict(CLOCK, "recovered", f"The clock of {name} is correct again")] if lasting else []
        return None, over
    if lasting:
        return {**clock, "since": arrived}, []
    if clock["skew"] == 0 or arrived - clock["since"] < ONGOING_EVENTS:
        return clock, []
    message = f"Warning: the clock of {name} is {describe(clock['skew'])}. {CONSEQUENCE}"
    return clock, [Verdict(CLOCK, "over", message, "warning")]


def describe(skew: float) -> str:
    """By how much a clock is wrong, as exactly as it is known: "5 h behind", "40 days ahead"."""
    off = abs(skew)
    if off > 2 * DAY:
        amount = f"{round(off / DAY)} days"
    else:
        unit = HOUR if off >= DAY else MINUTE
        amount = format_duration(round(off / unit) * unit)
    return f"{amount} {'ahead' if skew > 0 else 'behind'}"
