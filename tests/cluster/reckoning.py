"""What became of everything that was accepted: lost, repeated, out of order; and how long callers had to wait."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from tests.chaos import Ledger
from tests.cluster.load import Load
from tests.waiting import until

QUIET = 20.0
"""Seconds without any news after which what has not arrived counts as lost: longer than a dead engine's lease."""


@dataclass(frozen=True, slots=True)
class Reckoning:
    """Numbers of incidents and deliveries; times in seconds."""

    accepted: int
    resolved: int
    delivered: int
    lost: tuple[str, ...]
    repeated: int
    out_of_order: int
    refused: int
    longest_refusal: float
    longest_answer: float
    outage: float
    wrong: dict[int, int]
    """Answers that are none of 200, 201 and 503 with a Retry-After, by status; 0: none at all."""

    def __str__(self) -> str:
        return (
            f"{self.accepted} accepted, {self.resolved} resolved, {self.delivered} delivered, {len(self.lost)} lost, "
            f"{self.repeated} repeated, {self.out_of_order} out of order; {self.refused} refused, each call answered "
            f"within {self.longest_answer:.1f} s; nothing accepted for {self.outage:.1f} s"
        )


async def reckon(load: Load, ledger: Ledger, path: str = "/hook") -> Reckoning:
    """The load has ended; what it was promised is waited for, as long as there is any news."""
    accepted = {call.name for call in load.calls if call.good}
    moved, seen = time.monotonic(), -1

    def lacking() -> set[str]:
        told = {(name, status) for (_, name), said in list(ledger.statuses.items()) for status in said}
        wanted = {(name, "ongoing") for name in accepted} | {(name, "resolved") for name in load.resolved}
        return {f"{name} {status}" for name, status in wanted - told}

    async def settled() -> bool:
        nonlocal moved, seen
        if ledger.ids.total() != seen:
            moved, seen = time.monotonic(), ledger.ids.total()
        return not lacking() or time.monotonic() - moved > QUIET

    await until(settled, timeout=180, what="everything to arrive")
    refused = [call for call in load.calls if call.status == 503 and call.retry_after]
    fine = {id(call) for call in refused} | {id(call) for call in load.calls if call.good}
    return Reckoning(
        accepted=len(accepted), resolved=len(load.resolved), delivered=len(ledger.ids), lost=tuple(sorted(lacking())),
        repeated=ledger.repeated,
        out_of_order=sum(
            said[0] != "ongoing" for (where, _), said in ledger.statuses.items() if where == path and said
        ),
        refused=len(refused), longest_refusal=max((call.took for call in refused), default=0.0),
        longest_answer=max((call.took for call in load.calls), default=0.0), outage=load.outage,
        wrong=dict(Counter(call.status for call in load.calls if id(call) not in fine)),
    )
