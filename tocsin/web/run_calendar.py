"""The last five weeks of a job, day by day: how many runs, how they ended, how long they took. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tocsin.domain.zones import instant
from tocsin.storage.monitoring.pings import Ran
from tocsin.web.render import lasting

WEEKS = 5


@dataclass(frozen=True, slots=True)
class RunDay:
    """One day: `kind` is `ok`, `bad` (some failed), or empty (none ran); its runs and durations in words."""

    date: date
    kind: str
    runs: str
    took: str
    today: bool


def start(zone: str, now: datetime) -> datetime:
    """When the first of the days begins: a Monday."""
    wall = ZoneInfo(zone)
    return instant(datetime.combine(_first(zone, now), time()), wall)


def days(runs: Sequence[Ran], zone: str, now: datetime) -> list[RunDay]:
    """The days until today, each with what ran on it."""
    wall = ZoneInfo(zone)
    today, first = now.astimezone(wall).date(), _first(zone, now)
    by_day: dict[date, list[Ran]] = {}
    for run in runs:
        by_day.setdefault(run.at.astimezone(wall).date(), []).append(run)
    return [
        _day(day, by_day.get(day, []), today)
        for day in (first + timedelta(days=number) for number in range((today - first).days + 1))
    ]


def _first(zone: str, now: datetime) -> date:
    today = now.astimezone(ZoneInfo(zone)).date()
    return today - timedelta(days=today.weekday() + 7 * (WEEKS - 1))


def _day(day: date, runs: Sequence[Ran], today: date) -> RunDay:
    failed = sum(not run.ok for run in runs)
    words = f"{len(runs):,} run{'' if len(runs) == 1 else 's'}" if runs else ""
    if failed:
        words = "failed" if failed == len(runs) == 1 else f"{words}, {failed:,} failed"
    took = sorted(run.duration_ms / 1_000 for run in runs if run.duration_ms is not None)
    longest = lasting(took[-1]) if took else ""
    if len(took) > 1 and lasting(took[0]) != longest:
        longest = f"{lasting(took[0])} to {longest}"
    return RunDay(day, "bad" if failed else "ok" if runs else "", words, longest, day == today)
