"""Time zones: names of the IANA database, and wall-clock times in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tocsin.domain.errors import invalid_field

MAX_LENGTH = 64
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9][A-Za-z0-9_+-]*){0,3}", re.ASCII)
_NO_ZONES = re.compile(r"(?:posix|right)/|localtime$|posixrules$|Factory$", re.IGNORECASE)
"""What lies beside the zones in the folders of the database: other counts of seconds, and this machine's own zone."""


def checked(name: str, field: str) -> str:
    """The name of a zone that exists. Raises `Refused` (422) naming `field`."""
    if len(name) <= MAX_LENGTH and _NAME.fullmatch(name) and not _NO_ZONES.match(name):
        try:
            return ZoneInfo(name).key
        except (KeyError, ValueError, OSError):  # not found; no zone; a folder
            pass
    raise invalid_field(field, "must be a time zone such as Europe/Vienna or UTC")


def instant(wall_clock: datetime, zone: ZoneInfo) -> datetime:
    """The UTC time of a wall-clock time in a zone (RFC 5545, 3.3.5).

    One that does not exist is read with the offset before the gap: where clocks go from 02:00 to 03:00, 02:30 is 03:30
    of the new time. One that exists twice is the first.
    """
    return wall_clock.replace(tzinfo=zone, fold=0).astimezone(UTC)


def wall_clock(at: datetime, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows at that time, without zone."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)
