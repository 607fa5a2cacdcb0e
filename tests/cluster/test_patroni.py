"""A whole cluster under Patroni, two APIs and two engines, 20 openings a second, and the primary is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.cluster import demo
from tests.cluster.patroni import TTL
from tests.cluster.promised import BUSY, WRITES_AGAIN_IN, account_for, kept
from tests.cluster.two_machines import Stage, TwoMachines
from tests.receivers import Receiver

LOOKS_EVERY = 2.0
"""Seconds within which Patroni does what it has to do, once it may."""

Say = Callable[[str, str], None]


async def replaced(stage: Stage, lost: float) -> tuple[float, float]:
    """Seconds until another one was promoted, and from then on until something was accepted."""
    promoted = await stage.promoted(lost)
    return promoted - lost, await stage.writes_again(promoted)


async def test_a_primary_that_is_killed_costs_nothing_that_was_accepted_as_the_demo_shows(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    told: list[str] = []
    primary = machines.cluster.primary()
    seen, again = await demo.show(machines, receiver, lambda words, style="": told.append(words))
    kept(seen)
    assert again <= WRITES_AGAIN_IN + BUSY, seen
    assert machines.cluster.primary() is not primary
    assert f"kill -9 of PostgreSQL on {primary.name}, the primary" in told
    assert f"{primary.name} is back, as a standby" in told
    record_property("said", f"{seen}; writes again {again:.1f} s after the promotion")


async def test_a_planned_switchover_refuses_nobody_for_long(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    async with machines.under_load(receiver) as stage:
        to, began = machines.cluster.standbys()[0], time.monotonic()
        await asyncio.to_thread(machines.cluster.switch_over, to)
        waited, again = await replaced(stage, began)
        seen = await account_for(stage)
        assert seen.outage <= WRITES_AGAIN_IN + BUSY, seen
        assert machines.cluster.primary() is to
    record_property("said", f"{seen}; promoted after {waited:.1f} s, writes again {again:.1f} s later")


async def test_a_primary_that_vanishes_though_it_is_first_in_the_address_keeps_nobody_waiting(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    cluster = machines.cluster
    first = cluster.nodes[0]
    if cluster.primary() is not first:
        cluster.switch_over(first)
        cluster.wait_until_whole()
    async with machines.under_load(receiver) as stage:
        lost = time.monotonic()
        first.vanish()
        waited, again = await replaced(stage, lost)
        seen = await account_for(stage)
        assert waited <= TTL + LOOKS_EVERY + BUSY
        assert again <= WRITES_AGAIN_IN + BUSY, seen
    first.come_back()
    cluster.wait_until_whole()
    assert cluster.primary() is not first
    record_property("said", f"{seen}; promoted after {waited:.1f} s, writes again {again:.1f} s later")


async def test_a_primary_that_stood_still_writes_nothing_when_it_goes_on(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    async with machines.under_load(receiver) as stage:
        primary, lost = machines.cluster.primary(), time.monotonic()
        primary.freeze()
        waited, again = await replaced(stage, lost)
        assert waited <= TTL + LOOKS_EVERY + BUSY
        thawed = time.monotonic()
        primary.thaw()
        await asyncio.to_thread(machines.cluster.wait_until_whole)
        assert len(stage.load.good_since(thawed)) >= 20, "nobody noticed"
        seen = await account_for(stage)
        assert again <= WRITES_AGAIN_IN + BUSY, seen
        assert machines.cluster.primary() is not primary
    record_property("said", f"{seen}; promoted after {waited:.1f} s, writes again {again:.1f} s later")
