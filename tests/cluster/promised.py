"""What a cluster promises whatever happens to it, and by how much a busy machine may be late."""

from __future__ import annotations

from tests.cluster.load import ANSWERED_IN
from tests.cluster.reckoning import Reckoning, reckon
from tests.cluster.two_machines import Stage

WRITES_AGAIN_IN = 3.0
"""Seconds after the promotion."""
BUSY = 3.0
"""Seconds that a machine busy with other things may add: what they were is in the summary."""
IN_FLIGHT = 40
"""Deliveries of a second: so many may be told again."""


async def account_for(stage: Stage) -> Reckoning:
    """End the load, and see that what was promised was kept."""
    await stage.load.end()
    return kept(await reckon(stage.load, stage.ledger))


def kept(seen: Reckoning) -> Reckoning:
    """What became of everything is what was promised."""
    assert not seen.lost, seen
    assert not seen.out_of_order, seen
    assert not seen.wrong, seen
    assert seen.repeated <= IN_FLIGHT, seen
    assert seen.longest_answer <= ANSWERED_IN + BUSY, seen
    return seen
