"""Times in forms: what a browser's field for date and time says, in the viewer's time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def given(text: str, zone: str) -> datetime | None:
    """The time that a field says; None if it says none.

    Source: https://html.spec.whatwg.org/multipage/common-microsyntaxes.html#local-dates-and-times
    """
    try:
        moment = datetime.fromisoformat(text[:32])
        if moment.tzinfo is not None:
            return None
        moment = moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if EARLIEST < moment < LATEST else None


def value(moment: datetime | None, zone: str) -> str:
    """What the field shows for that time; empty for None."""
    return "" if moment is None else moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M")
