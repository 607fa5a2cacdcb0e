"""Replays: what is sent again to a receiver that missed it, and at what rate. Pure: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from tocsin.domain.errors import invalid_field

Status = Literal["dead", "suppressed", "delivered"]
"""Which deliveries are sent again: by default those that could not be delivered."""

State = Literal["running", "finished", "stopped"]

MAX_DELIVERIES = 100_000
"""Deliveries of one replay."""

MAX_RANGE = timedelta(days=3_660)
"""Ten years: longer than finished deliveries are kept."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

MAX_AT_ONCE = 6
"""Redeliveries of one replay that are outstanding at most: fewer than an engine attempts at once to a destination that
it does not know yet, so that a new incident's delivery always finds a free place.
"""

TICK, IDLE, WAIT = 0.05, 0.25, 2.0
"""Seconds until the next step: while redeliveries finish, while none has, and while there is nobody to send to."""
MAX_PAUSE = 60.0
"""Seconds of the longest pause after redeliveries that ended dead."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which deliveries a replay sends again: created at or after `start` and before `end`, with that status."""

    start: datetime
    end: datetime
    status: Status = "dead"


def selection(start: datetime, end: datetime | None, status: Status, now: datetime) -> Selection:
    """A selection until `end` (at most until `now`). Raises `Refused` (422) for a range that cannot be one."""
    last = min(end or now, now)
    if start < EARLIEST:
        raise invalid_field("from", f"must not be before {EARLIEST:%Y}")
    if start >= now:
        raise invalid_field("from", "must be in the past")
    if end is not None and start >= end:
        raise invalid_field("from", "must be before `to`")
    if last - start > MAX_RANGE:
        raise invalid_field("from", f"must be at most {MAX_RANGE.days} days before `to`")
    return Selection(start, last, status)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a replay goes on: `at_once` may be outstanding, `take` more are queued now, and it is looked at again in
    `pause` seconds. `dead_in_row` counts redeliveries that ended dead since the last one that was delivered.
    """

    at_once: int
    take: int
    dead_in_row: int
    pause: float


def pace(
    at_once: int, dead_in_row: int, *, outstanding: int, delivered: int, dead: int, failing: bool
) -> Pace:
    """The next step, after so many were `delivered` or ended `dead` since the last one.

    The number at once grows by one with each success, as long as the receiver takes everything; while it is `failing`
    it is one at a time, with longer and longer pauses if even those end dead.
    """
    dead_in_row = 0 if delivered else dead_in_row + dead
    if failing or dead:
        if outstanding:
            return Pace(1, 0, dead_in_row, IDLE)
        if dead:
            return Pace(1, 0, dead_in_row, min(2.0 ** min(dead_in_row - 1, 9), MAX_PAUSE) if dead_in_row else TICK)
        return Pace(1, 1, dead_in_row, TICK)
    at_once = min(MAX_AT_ONCE, at_once + delivered)
    return Pace(at_once, max(0, at_once - outstanding), dead_in_row, TICK if outstanding < at_once else IDLE)
