"""Destinations as an engine sees them: a cap on concurrent attempts, so that a dead one takes few slots."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from tocsin.domain.deliveries import Delivered, Failed, Outcome
from tocsin.integrations.base import UNSAFE
from tocsin.storage.delivery.queue import Job

FIRST_CAP, MIN_CAP, MAX_CAP = 8, 2, 64
"""Concurrent attempts to one destination: at first, after a failure, and at best."""
DEFAULT_ROOM = 4 * FIRST_CAP
"""How many to claim for a destination that is not known yet."""


@dataclass(slots=True)
class Destination:
    """What this engine knows about one destination. `waiting` holds jobs with the moment they must start by."""

    id: UUID
    type: str = "unknown"
    cap: int = FIRST_CAP
    under_way: int = 0
    waiting: deque[tuple[float, Job]] = field(default_factory=deque)
    more: bool = False
    """Whether the last claim left something due in the queue, as far as is known: if so, claim again."""
    failures: int = 0
    """Failures in a row, up to now."""

    @property
    def room(self) -> int:
        """How many more to claim: well ahead for a healthy destination, no more than its cap for another."""
        ahead = 4 if self.cap >= FIRST_CAP else 1
        return max(0, ahead * self.cap - self.under_way - len(self.waiting))

    @property
    def down(self) -> bool:
        """Whether nothing has reached it for a while: then jobs should wait in the queue."""
        return self.failures >= FIRST_CAP

    def adjust(self, outcome: Outcome) -> None:
        match outcome:
            case Delivered():
                self.cap, self.failures = min(MAX_CAP, self.cap + 1), 0
            case Failed() if at_fault(outcome):
                self.cap, self.failures = MIN_CAP, self.failures + 1


def at_fault(outcome: Failed) -> bool:
    """Whether it says something about the destination. Not where nothing was sent for fear of sending it twice."""
    return UNSAFE not in (outcome.receipt or {})
