"""Cron expressions: when a job is to run. Five fields, as cron(5) has them, in a time zone.

Changes to and from summer time are treated as Debian's cron does: a job whose hour is left out runs right after the
gap, and one whose hour comes twice runs once. Source: https://manpages.debian.org/bookworm/cron/cron.8.en.html
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from tocsin.domain.errors import invalid_field

MAX_LENGTH = 100
FIELDS = 5
WITHIN = timedelta(days=10 * 366)
"""How soon an expression must have two slots: 29 February, every time, is the rarest that is of use."""
REMEMBERED = 4_096


class Slots(NamedTuple):
    """The last slot until a time, the first after it, and the one after that. UTC."""

    last: datetime
    next: datetime
    following: datetime


_known: OrderedDict[tuple[str, str], Slots] = OrderedDict()
"""By expression and zone: the slots around the last time that was asked for. Most ask for the same ones again."""


def checked(field: str, expression: str) -> str:
    """The expression with single blanks. Raises `Refused` (422) naming `field`."""
    parts = expression.split()
    if len(expression) > MAX_LENGTH or len(parts) != FIELDS:
        raise invalid_field(field, "must have five fields, such as 0 3 * * * for every day at 03:00")
    text = " ".join(parts)
    now = datetime.now(UTC)
    try:
        coming = CronSim(text, now)
        next(coming)
        soon = next(coming) - now <= WITHIN
    except (CronSimError, StopIteration) as error:
        raise invalid_field(field, f"is no cron expression: {error or 'it never happens'}") from None
    if not soon:
        raise invalid_field(field, "must happen at least twice in ten years")
    return text


def around(expression: str, timezone: str, at: datetime) -> Slots:
    """The slots around a time. `expression` is one that was checked."""
    asked = expression, timezone
    found = _known.get(asked)
    if found is None or not found.last <= at < found.next:
        wall = at.astimezone(ZoneInfo(timezone))
        coming = CronSim(expression, wall)
        # Backwards, it begins before the time that it is given.
        last = next(CronSim(expression, wall + timedelta(microseconds=1), reverse=True))
        found = Slots(*(each.astimezone(UTC) for each in (last, next(coming), next(coming))))
        _known[asked] = found
        if len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return found
