"""Flapping: a monitor that goes down so often that one notification says so, and then nothing until it is steady. Pure.

The incident that makes it so often is told with that; its end is told when the monitor has been steady for `STEADY`,
with the count. Incidents in between go on record, and are told only if they last that long: so the last state is told.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from tocsin.domain.incidents import truncated_message

OFTEN = 5
WITHIN = timedelta(hours=1)
"""Going down more than `OFTEN` times within this is flapping."""
STEADY = timedelta(minutes=30)

REASON = "flapping: until it has been steady for 30 min"
"""What notifications wait for meanwhile."""


class Flapping(msgspec.Struct, frozen=True, gc=False):
    """How a monitor flaps, or did the last time: `incident_id`, which began at `began_at`, said so.

    It went down `times` times since `since`; `changed_at` is when it last went down or came back.
    """

    incident_id: UUID
    began_at: datetime
    since: datetime
    times: int
    changed_at: datetime

    @property
    def steady_at(self) -> datetime:
        return self.changed_at + STEADY

    @property
    def summary(self) -> str:
        """What is said when it is steady."""
        return f"was flapping: down {self.times} times from {_moment(self.since)} to {_moment(self.changed_at)}"


def announced(message: str, times: int) -> str:
    """The message of the incident that says so."""
    now = f"It is flapping: down {times} times within an hour. More is said when it has been steady for 30 min"
    return truncated_message(f"{message}. {now}")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
