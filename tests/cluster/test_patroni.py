"""A whole cluster under Patroni, two APIs and two engines, 20 openings a second, and what may happen to all of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cluster.reckoning import Reckoning, reckon
from tests.cluster.two_machines import Stage, TwoMachines
from tests.receivers import Receiver

ANSWERED_IN = 2.0
"""Seconds in which each caller has an answer."""
WRITES_AGAIN_IN = 3.0
"""Seconds after the promotion."""
BUSY = 3.0
"""Seconds that a machine busy with other things may add: what they were is in the summary."""
IN_FLIGHT = 40
"""Deliveries of a second."""

Say = Callable[[str, str], None]


async def account_for(stage: Stage, in_flight: int) -> Reckoning:
    """End the load, and see that what was promised was kept."""
    await stage.load.end()
    seen = await reckon(stage.load, stage.ledger)
    assert not seen.lost, seen
    assert not seen.out_of_order, seen
    assert not seen.wrong, seen
    assert seen.repeated <= in_flight, seen
    assert seen.longest_answer <= ANSWERED_IN + BUSY, seen
    return seen


async def test_a_primary_that_is_killed_costs_nothing_that_was_accepted(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    async with machines.under_load(receiver) as stage:
        primary, lost = machines.cluster.primary(), time.monotonic()
        primary.kill_postgres()
        in_flight = IN_FLIGHT + stage.load.under_way
        again = await stage.writes_again(await stage.promoted(lost))
        seen = await account_for(stage, in_flight)
        assert again <= WRITES_AGAIN_IN + BUSY, seen
        assert machines.cluster.primary() is not primary
    record_property("said", f"{seen}; writes again {again:.1f} s after the promotion")


async def test_a_planned_switchover_refuses_nobody_for_long(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    async with machines.under_load(receiver) as stage:
        to, began = machines.cluster.standbys()[0], time.monotonic()
        machines.cluster.switch_over(to)
        again = await stage.writes_again(await stage.promoted(began))
        seen = await account_for(stage, IN_FLIGHT)
        assert seen.outage <= WRITES_AGAIN_IN + BUSY, seen
        assert machines.cluster.primary() is to
    record_property("said", f"{seen}; writes again {again:.1f} s after the promotion")
