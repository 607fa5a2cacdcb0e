"""Far ends as an engine knows them: how much may go there at once, so that a dead one holds few slots."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from tocsin.domain.deliveries import Delivered, Failed, Outcome
from tocsin.storage.delivery.queue import Job

FIRST_CAP, MIN_CAP, MAX_CAP = 8, 2, 64
"""Tries under way at once to one destination: at first, after a failure, and at best."""
DEFAULT_ROOM = 4 * FIRST_CAP
"""How many to claim for one that nothing is known of."""


@dataclass(slots=True)
class Destination:
    """What this engine knows of one integration's far end. `waiting` holds jobs with the moment they must start by."""

    id: UUID
    type: str = "unknown"
    cap: int = FIRST_CAP
    under_way: int = 0
    waiting: deque[tuple[float, Job]] = field(default_factory=deque)
    more: bool = False
    """Whether the last claim left something due in the queue, as far as is known: then it is worth claiming again."""
    failures: int = 0
    """In a row, up to now."""

    @property
    def room(self) -> int:
        """How many more to claim: a good stretch ahead for one that does well, no more than its cap for another."""
        ahead = 4 if self.cap >= FIRST_CAP else 1
        return max(0, ahead * self.cap - self.under_way - len(self.waiting))

    @property
    def down(self) -> bool:
        """Whether nothing has reached it for a while: then what waits is better off in the queue."""
        return self.failures >= FIRST_CAP

    def adjust(self, outcome: Outcome) -> None:
        match outcome:
            case Delivered():
                self.cap, self.failures = min(MAX_CAP, self.cap + 1), 0
            case Failed():
                self.cap, self.failures = MIN_CAP, self.failures + 1
