"""Where in a trace something is: as a `traceparent` says it (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
SPAN_BITS = 64


class Position(NamedTuple):
    """A span of a trace, and whether the trace is taken at all."""

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def read(traceparent: str) -> Position | None:
    """The position that a `traceparent` names, or None if it names none. A later version may say more behind it."""
    found = _FORM.fullmatch(traceparent)
    if found is None or (found[1] == "00" and found[5]):
        return None
    position = Position(int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & 1))
    return position if position.trace_id and position.span_id else None


def nanoseconds(at: datetime) -> int:
    """A moment as traces count time: since 1970, exact to the microsecond that is known of it."""
    return round(at.timestamp() * 1_000_000) * 1_000
