"""Places: where checks are made from, what each sees, and what a majority of them says. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.domain.errors import invalid_field

HERE = "here"
"""The place of the installation's own engines."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
MAX_LOCATIONS = 20
LIVING = 3
"""Intervals after which a vote is too old: its place no longer lives, or it comes too late to count."""

Locations = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vote:
    """What a place saw last of a monitor, and how often in a row; `heard_at` by the service's clock."""

    place: str
    heard_at: datetime
    failures: int
    successes: int
    problem: str | None = None
    message: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None


@dataclass(frozen=True, slots=True)
class Rules:
    """Of a monitor with so many `places`. `interval` and `timeout` are seconds."""

    places: int
    interval: float
    timeout: float
    confirmations: int
    recoveries: int


@dataclass(frozen=True, slots=True)
class Majority:
    """More than half of the living places agree: `voices` are theirs, out of so many `living`.

    `in_a_row` is the sum of their checks in a row.
    """

    voices: Sequence[Vote]
    living: int
    places: int

    @property
    def in_a_row(self) -> int:
        return sum(each.failures or each.successes for each in self.voices)

    @property
    def seen_from(self) -> str:
        """`From 3 of 4 places (wien, graz, here)`; `From wien` where only that one is asked."""
        names = ", ".join(each.place for each in self.voices)
        return f"From {names}" if self.places == 1 else f"From {len(self.voices)} of {self.living} places ({names})"


@dataclass(frozen=True, slots=True)
class Down(Majority):
    """`speaker` is the first of those who see the most frequent problem."""

    @property
    def speaker(self) -> Vote:
        problems = [each.problem for each in self.voices]
        most = max(map(problems.count, problems))
        return next(each for each in self.voices if problems.count(each.problem) == most)

    @property
    def message(self) -> str:
        said = self.speaker.message or ""
        alone = self.places == 1 and self.speaker.place == HERE
        return said if alone else f"{self.seen_from}: {said}"


@dataclass(frozen=True, slots=True)
class Up(Majority):
    """They see it well."""


def majority(votes: Sequence[Vote], rules: Rules, now: datetime) -> Down | Up | None:
    """What more than half of the living places see, in the order of `votes`.

    None where they do not agree, and where only one of several places lives: a partition must not make it a majority.
    """
    alive = living(votes, rules, now)
    if len(alive) < min(2, rules.places):
        return None
    bad = [each for each in alive if not each.ok]
    good = [each for each in alive if each.ok]
    if 2 * len(bad) > len(alive):
        return Down(bad, len(alive), rules.places)
    return Up(good, len(alive), rules.places) if 2 * len(good) > len(alive) else None


def verdict(votes: Sequence[Vote], rules: Rules, now: datetime) -> Down | Up | None:
    """What follows: a majority, once it has seen as much in a row as the monitor waits for. None: nothing changes."""
    found = majority(votes, rules, now)
    if found is None:
        return None
    return found if found.in_a_row >= enough(found, rules) else None


def enough(found: Down | Up, rules: Rules) -> int:
    """How many checks in a row something follows from."""
    return rules.confirmations if isinstance(found, Down) else rules.recoveries


def living(votes: Sequence[Vote], rules: Rules, now: datetime) -> list[Vote]:
    """Whose votes are of now: neither too old, nor of before the clock was put back."""
    oldest = now - timedelta(seconds=LIVING * rules.interval + rules.timeout)
    return [each for each in votes if oldest <= each.heard_at <= now]


def is_late(at: datetime, interval: float, now: datetime) -> bool:
    """Whether a check that began then says nothing about now any more."""
    return now - at > timedelta(seconds=LIVING * interval)


def round_at(at: datetime, interval: float) -> int:
    """The number of the round in which a check begins that begins then."""
    return int(at.timestamp() // interval)


def checked(given: Sequence[str], known: Collection[str]) -> Locations:
    """The locations as they are stored. Raises `Refused` (422), with the names that there are."""
    there = ", ".join([HERE, *sorted(known)])
    if not 1 <= len(given) <= MAX_LOCATIONS:
        raise invalid_field("locations", f"must be null or 1 to {MAX_LOCATIONS} places; there are: {there}")
    for position, name in enumerate(given):
        if name != HERE and name not in known:
            shown = name if NAME.fullmatch(name) else "this one"
            raise invalid_field("locations", f"no place {shown}; there are: {there}")
        if name in given[:position]:
            raise invalid_field("locations", f"must name {name} only once")
    return tuple(given)


def checked_name(name: str) -> str:
    """The name of a place, in lower case. Raises `Refused` (422)."""
    lower = name.lower()
    if not NAME.fullmatch(lower) or lower == HERE:
        raise invalid_field("name", f"must be 1 to 50 of a-z, 0-9, '.', '_' and '-', begin with a letter or digit, "
                                    f"and not be {HERE}")  # fmt: skip
    return lower
