"""The same cluster: an engine or an API is killed, no standby is left, and restarts cross a change of primaries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.__main__ import described
from tests.cluster.promised import BUSY, account_for
from tests.cluster.restarts import restarts_of
from tests.cluster.two_machines import TwoMachines
from tests.receivers import Receiver
from tests.sshd import Machine, machine

TAKEN_OVER_IN = 5.0
HELPED_OUT_IN = 1.0
WAITING = 4.0
"""Seconds without a standby."""

Say = Callable[[str, str], None]


@pytest.fixture
def targets() -> Iterator[list[Machine]]:
    made = [machine() for _ in range(3)]
    yield made
    for each in made:
        each.close()


def test_what_make_cluster_says_leads_to_all_of_it(machines: TwoMachines) -> None:
    said = described(machines.cluster, machines)
    [listing] = [line for line in said.splitlines() if line.endswith(" list")]
    listed = subprocess.run(listing.split(), capture_output=True, text=True, check=True).stdout
    assert [role in listed for role in ("Leader", "Sync Standby", "Replica")] == [True] * 3, listed
    [health] = [line for line in said.splitlines() if "curl" in line]
    known = json.loads(subprocess.run(health.split()[1:], capture_output=True, check=True).stdout)["database"]
    assert known["primary"] == f"127.0.0.1:{machines.cluster.primary().public_port}"
    assert known["synchronous"] is True
    [killing] = [line for line in said.splitlines() if "kill -9" in line]
    assert str(machines.cluster.primary().folder) in killing


async def test_what_a_killed_engine_had_in_hand_is_taken_over_by_the_other_one(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    async with machines.under_load(receiver) as stage:
        await asyncio.to_thread(machines.services[0].engine.kill)
        await stage.more(60)
        seen = await account_for(stage)
        longest = stage.longest_delivery()
        assert longest <= TAKEN_OVER_IN + BUSY, seen
    record_property("said", f"{seen}; each told within {longest:.1f} s")


async def test_a_killed_api_is_replaced_by_the_other_one(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    async with machines.under_load(receiver) as stage:
        await asyncio.to_thread(machines.services[0].api.kill)
        await stage.more(40)
        seen = await account_for(stage)
        assert seen.refused == 0, seen
        assert seen.outage <= HELPED_OUT_IN + BUSY, seen
    record_property("said", str(seen))


async def test_what_no_standby_has_is_never_answered_as_done_where_that_is_strict(
    machines: TwoMachines, receiver: Receiver, record_property: Say
) -> None:
    cluster = machines.cluster
    cluster.change(synchronous_mode_strict=True)
    async with machines.under_load(receiver) as stage:
        standbys, began = cluster.standbys(), time.monotonic()
        for node in standbys:
            node.freeze()
        frozen = time.monotonic()
        await asyncio.sleep(WAITING)
        for node in standbys:
            node.thaw()
        thawed = time.monotonic()
        await stage.more()
        again = stage.load.good_since(frozen)[0].ended - thawed
        seen = await account_for(stage)
    during = [call for call in stage.load.calls if began < call.began and call.ended < thawed and call.began > frozen]
    assert during
    assert not [call for call in during if call.good]
    assert [call for call in during if "waits for a standby" in call.message]
    never = {call.name for call in stage.load.calls if call.status == 503 and "Nobody knows" not in call.message}
    assert not never & {name for name, _ in stage.told}, "what was refused without having been sent is not done later"
    record_property("said", f"{seen}; accepted again {again:.1f} s after the standbys were back")


async def test_no_restart_that_crosses_a_change_of_primaries_is_made_twice(
    machines: TwoMachines, receiver: Receiver, targets: list[Machine], record_property: Say
) -> None:
    cluster = machines.cluster
    async with machines.under_load(receiver) as stage:
        restarts = [await restarts_of(stage, target) for target in targets]
        for lose in (cluster.primary().kill_postgres, lambda: cluster.switch_over(cluster.standbys()[0])):
            lost = time.monotonic()
            await asyncio.to_thread(lose)
            await stage.promoted(lost)
            await stage.more()
            await asyncio.to_thread(cluster.wait_until_whole)
        await asyncio.gather(*(each.end() for each in restarts))
        seen = await account_for(stage)
    for each in restarts:
        each.settle()
    ordered, made = sum(each.ordered for each in restarts), sum(target.reboots for target in targets)
    assert not [words for each in restarts for words in each.twice]
    assert 0 < made <= ordered
    assert sum(each.ends.total() for each in restarts) == ordered, "each of them ended, one way or the other"
    record_property("said", f"{ordered} restarts ordered, {made} made, 0 twice; {seen}")
