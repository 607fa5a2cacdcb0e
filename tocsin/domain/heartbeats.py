"""Heartbeats: jobs that must report, when the next success is due, until when it may come. Pure: times are given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from tocsin.domain import cron
from tocsin.domain.errors import Detail
from tocsin.domain.incidents import format_duration

MISSED, FAILED, OVERRUN = "missed", "failed", "overrun"
TYPES = frozenset((MISSED, FAILED, OVERRUN))
"""The types of incidents that heartbeats open. Pings resolve no others."""

DEFAULT_PERIOD, DEFAULT_GRACE = 86_400.0, 3_600.0
MIN_PERIOD, MIN_PERIOD_IN_DEVELOPMENT = 10.0, 1.0
MIN_GRACE = 1.0
LONGEST = 366 * 86_400.0

MAX_HEARTBEATS = 10_000
"""Heartbeats of a project after which pings create no more."""
MAX_SLUG_LENGTH = 100
SLUG = re.compile(r"[a-z0-9_-]+", re.ASCII)
_NO_SLUG = re.compile(r"[^a-z0-9_]+", re.ASCII)

KEY_FIELD = "ping_key"
"""What the vault calls the secrets in ping addresses."""

TOLERANCE = 0.25
"""The share of the time between two slots by which a success may come early."""
LISTENING = timedelta(seconds=60)
"""Time that everybody gets to report after Tocsin itself was away, if their grace is not shorter."""

Methods = Literal["", "POST"]
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a success is expected: every `period` seconds, or at the slots of `cron`; `grace` is seconds."""

    period: float | None = DEFAULT_PERIOD
    cron: str | None = None
    timezone: str = "UTC"
    grace: float = DEFAULT_GRACE

    @property
    def grace_time(self) -> timedelta:
        return timedelta(seconds=self.grace)


@dataclass(frozen=True, slots=True)
class HeartbeatConfig:
    """What an owner configured. With `methods` of `POST`, other requests change nothing (link previews)."""

    name: str
    slug: str | None
    schedule: Schedule = Schedule()
    methods: Methods = ""
    paused: bool = False


def check_numbers(schedule: Schedule, least_period: float) -> list[Detail]:
    """What is wrong with a schedule's numbers; empty where nothing is."""
    bounds = [("grace", schedule.grace, MIN_GRACE)]
    if schedule.period is not None:
        bounds.append(("period", schedule.period, least_period))
    return [
        Detail(name, f"must be from {least:g} to {LONGEST:.0f} seconds")
        for name, value, least in bounds
        if not least <= value <= LONGEST
    ]


def slug_of(name: str) -> str | None:
    """The slug that a name suggests: `Database Backup` is `database-backup`. None where nothing is left of it."""
    return _NO_SLUG.sub("-", name.lower())[:MAX_SLUG_LENGTH].strip("-") or None


def next_due(schedule: Schedule, at: datetime, awaited: datetime | None) -> datetime:
    """When the next success is due after one at that time. `awaited` is the slot that was waited for.

    One that comes early, by the smaller of grace and a quarter of the gap, counts for the slot ahead, unless it is what
    the slot before has been waiting for.
    """
    if schedule.cron is None:
        assert schedule.period is not None
        return at + timedelta(seconds=schedule.period)
    slots = cron.around(schedule.cron, schedule.timezone, at)
    tolerance = min(schedule.grace_time, (slots.next - slots.last) * TOLERANCE)
    early = slots.next - at <= tolerance and awaited != slots.last
    return slots.following if early else slots.next


def following(schedule: Schedule, due: datetime, now: datetime) -> datetime:
    """The first slot after `now`, where `due` was one."""
    if schedule.cron is not None:
        return cron.around(schedule.cron, schedule.timezone, now).next
    assert schedule.period is not None
    period = timedelta(seconds=schedule.period)
    return due + period * max(1, (now - due) // period + 1)


def due_after_change(schedule: Schedule, last_success: datetime | None, now: datetime) -> datetime | None:
    """When the next success is due under a new schedule: never a time that was not announced before it had passed."""
    if last_success is None:
        return None
    due = next_due(schedule, last_success, None)
    return due if due > now else following(schedule, now, now)


def deadline(since: datetime, grace: timedelta, credited: Iterable[Span]) -> datetime:
    """Until when something may take that has gone on since then; time in the credited spans does not count."""
    at, left = since, grace
    for start, end in sorted(credited):
        if end <= at:
            continue
        start = max(start, at)
        if start - at >= left:
            break
        left -= start - at
        at = end
    return at + left


def status(
    *, paused: bool, incidents: bool, running: bool, due_at: datetime | None, pinged: bool, now: datetime
) -> str:
    """A heartbeat as one status: `paused`, `down` (ongoing incident), `running`, `late` (due, in its grace), `new`
    (no ping yet) or `up`.
    """
    if paused:
        return "paused"
    if incidents:
        return "down"
    if running:
        return "running"
    if due_at is not None and due_at <= now:
        return "late"
    return "up" if pinged else "new"


def missed_message(schedule: Schedule, due: datetime, last_success: datetime | None) -> str:
    last = f"the last success was at {_time(last_success, schedule)}" if last_success else "it has not succeeded yet"
    return (
        f"It has not reported: it was due at {_time(due, schedule)}, with {format_duration(schedule.grace)} of grace, "
        f"and {last}. See whether the job still runs, and whether its machine reaches Tocsin."
    )


def overrun_message(schedule: Schedule, started: datetime, rid: str) -> str:
    run = f"Its run {rid[:8]}" if rid else "Its run"
    return (
        f"{run} has not ended: it began at {_time(started, schedule)}, and more than "
        f"{format_duration(schedule.grace)} have passed. See whether it hangs."
    )


def failed_message(exit_status: int | None, last_line: str) -> str:
    what = "It reported a failure" if exit_status is None else f"It ended with exit status {exit_status}"
    return f"{what}. Its last line: {last_line}" if last_line else f"{what}."


def described(schedule: Schedule) -> str:
    """The schedule in words: `every 1 d`, `0 3 * * * (Europe/Vienna)`."""
    if schedule.cron is not None:
        return f"{schedule.cron} ({schedule.timezone})"
    assert schedule.period is not None
    return f"every {format_duration(schedule.period)}"


def _time(at: datetime, schedule: Schedule) -> str:
    zone = schedule.timezone if schedule.cron is not None else "UTC"
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}"


def earliest(times: Sequence[datetime | None]) -> datetime | None:
    """The first of those that are known."""
    known = [each for each in times if each is not None]
    return min(known).astimezone(UTC) if known else None
