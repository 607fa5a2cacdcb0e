"""One cause: whether what a resource depends on explains that it cannot be reached, and whom a resource explains."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.sites import VAULT
from tests.storage.notifying.family import Family
from tests.storage.notifying.held import held_delivery
from tests.waiting import until
from tocsin.domain.errors import Refused
from tocsin.storage.delivery import queue
from tocsin.storage.monitoring import monitors, servers
from tocsin.storage.notifying import dependencies

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest_asyncio.fixture
async def family(pool: asyncpg.Pool, project: Any) -> Family:
    """`shop` depends on `router`."""
    made = Family(pool, project.id)
    await made.monitor("router", "shop")
    await made.depend("shop", "router")
    return made


# ------------------------------------------------------------------------------------------------------ what explains


async def test_a_parent_whose_latest_check_failed_explains_its_child(family: Family) -> None:
    assert await family.explained("shop") == []
    await family.check(router="timeout")
    assert await family.explained("shop") == ["router"]
    await family.check(router=None)
    assert await family.explained("shop") == []


async def test_a_parent_that_answers_wrongly_is_not_down(family: Family) -> None:
    await family.check(router="http_status")
    assert await family.explained("shop") == []


async def test_a_server_is_down_by_its_downtime_alone(family: Family) -> None:
    await family.server("hypervisor")
    await family.depend("shop", "hypervisor")
    await family.open("hypervisor", "disk")
    assert await family.explained("shop") == []
    await family.open("hypervisor", "downtime")
    assert await family.explained("shop") == ["hypervisor"]
    await family.resolve("hypervisor")
    assert await family.explained("shop") == []


async def test_two_uplinks_explain_only_while_both_are_down(family: Family) -> None:
    await family.monitor("uplink-1", "uplink-2")
    await family.depend("shop", "router", ["uplink-1", "uplink-2"])
    await family.check(**{"uplink-1": "timeout"})
    assert await family.explained("shop") == []
    assert await family.behind("uplink-1") == []
    assert await family.behind("uplink-2") == ["shop"]
    await family.check(**{"uplink-2": "timeout"})
    assert await family.explained("shop") == ["uplink-1", "uplink-2"]
    assert await family.behind("uplink-1") == ["shop"]


async def test_the_cause_is_named_and_not_what_is_behind_it_too(family: Family) -> None:
    await family.monitor("till")
    await family.depend("till", "shop")
    await family.check(router="timeout", shop="connection_error", till="connection_error")
    assert await family.explained("till") == ["router"]
    assert await family.explained("shop") == ["router"]
    assert await family.behind("router") == ["shop", "till"]


async def test_a_server_in_between_that_was_not_heard_of_since_counts_as_down(family: Family) -> None:
    """Its own downtime opens minutes later than the monitors on both sides of it."""
    await family.server("hypervisor")
    await family.monitor("guest")
    await family.depend("hypervisor", "router")
    await family.depend("guest", "hypervisor")
    await family.check(router="timeout")
    await family.check(guest="timeout")
    assert await family.explained("guest") == ["router"]
    await family.server("hypervisor")  # it reports: the router is not in its way
    assert await family.explained("guest") == []


async def test_a_paused_parent_explains_nothing(family: Family) -> None:
    await family.check(router="timeout")
    async with family.pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, family.project_id, family.keys["router"])
        assert before
        after = monitors.MonitorConfig(before.name, before.target, before.interval, before.confirmations, paused=True)
        await monitors.change(tx, VAULT, family.project_id, family.keys["router"], before, after)
    assert await family.explained("shop") == []


# ------------------------------------------------------------------------------------------------------------- asking


async def test_the_failed_check_of_a_child_makes_its_parents_be_checked_at_once(family: Family) -> None:
    await family.monitor("till", "elsewhere")
    await family.depend("till", "shop")
    await family.check(router=None, shop=None)
    await family.age(30, "router", "shop")
    await family.check(till="timeout")
    assert [await family.is_due(name) for name in ("router", "shop", "elsewhere")] == [True, True, False]
    assert (await family.state("till")).asking == ("router", "shop")


async def test_what_the_child_itself_answers_asks_nobody(family: Family) -> None:
    await family.check(shop="http_status")
    assert not await family.is_due("router")


async def test_a_parent_is_awaited_until_its_verdict(family: Family) -> None:
    await family.check(router=None)
    await family.age(30, "router")
    await family.check(shop="timeout")
    held = await family.held("shop")
    assert (await family.state("shop")).asking == ("router",)
    await family.check(router=None)
    state = await family.state("shop")
    assert (state.asking, state.explained_by, state.rechecked) == ((), (), True)
    assert await family.turn(held)


async def test_a_parent_that_was_well_a_moment_ago_is_asked_a_second_later(family: Family) -> None:
    await family.check(router=None)
    await family.later("router")
    await family.check(shop="timeout")
    assert not await family.is_due("router")
    assert (await family.state("shop")).asking == ("router",)
    assert await family.pool.fetchval(
        "SELECT due_at <= last_result_at + interval '1 s' FROM monitor_states WHERE monitor_id = $1",
        family.keys["router"],
    )


async def test_a_parent_that_was_recorded_together_with_its_child_is_not_asked(family: Family) -> None:
    await family.check(router=None, shop="timeout")
    await family.later("router")
    assert (await family.state("shop")).asking == ()
    assert not await family.is_due("router")


async def test_the_verdict_that_a_parent_is_down_decides_about_its_children(family: Family) -> None:
    await family.check(router=None)
    await family.age(30, "router")
    await family.check(shop="timeout")
    held = await family.held("shop")
    assert not await family.turn(held)
    await family.check(router="timeout")
    assert await family.turn(held)
    assert await family.explained("shop") == ["router"]


async def test_a_parent_that_is_down_already_is_not_asked_again(family: Family) -> None:
    await family.check(router="timeout")
    await family.age(30, "router")
    await family.later("router")
    await family.check(shop="timeout")
    assert not await family.is_due("router")
    assert await family.explained("shop") == ["router"]


# --------------------------------------------------------------------------------------------------------- well again


async def test_when_a_parent_is_well_again_its_child_gets_two_checks(family: Family) -> None:
    await family.check(router="timeout")
    await family.check(shop="timeout")
    held = await family.held("shop")
    await family.check(router=None)
    assert await family.turn(held)
    state = await family.state("shop")
    assert state.explained_by == ()
    assert state.well_since is not None
    assert not state.rechecked
    assert state.recheck_by is not None
    assert 0 < (state.recheck_by - state.well_since).total_seconds() < 300
    await family.check(shop="timeout")
    assert not (await family.state("shop")).rechecked
    await family.pool.execute("UPDATE outstanding SET due_at = now() + interval '1 day'")
    await family.check(shop="timeout")
    assert (await family.state("shop")).rechecked
    assert await family.turn(held)


async def test_the_end_of_a_parents_incident_decides_about_all_behind_it(family: Family) -> None:
    await family.server("hypervisor")
    await family.depend("router", "hypervisor")
    await family.open("hypervisor", "downtime")
    await family.check(shop="timeout")
    held = await family.held("shop")
    await family.resolve("hypervisor")
    assert await family.turn(held)
    state = await family.state("shop")
    assert state.well_since is not None
    assert not state.rechecked


async def test_what_began_long_after_its_parent_was_well_waits_for_nothing(family: Family) -> None:
    await family.check(router="timeout")
    await family.check(router=None)
    await family.pool.execute("UPDATE dependencies SET parent_well_since = now() - interval '10 min'")
    await family.check(shop=None)
    await family.check(shop="timeout")
    assert (await family.state("shop")).rechecked


# ------------------------------------------------------------------------------------------------------------- uptime


async def uptime(family: Family, name: str) -> float | None:
    async with family.pool.acquire() as tx:
        found = await monitors.one(tx, VAULT, family.project_id, family.keys[name])
    assert found
    return found.uptime


async def test_time_behind_a_parent_that_is_down_is_neither_up_nor_down(family: Family) -> None:
    await family.check(shop=None)
    await family.check(router="timeout")
    await family.check(shop="timeout")
    assert await family.unreachable("shop") == [True]
    assert await uptime(family, "shop") == 100.0
    assert await uptime(family, "router") == 0.0


async def test_what_failed_before_the_parents_verdict_is_taken_out_afterwards(family: Family) -> None:
    await family.check(router=None)
    await family.age(120, "router")
    await family.check(shop="timeout")
    await family.age(300, "shop")  # before the router's last good check
    await family.check(shop="timeout")
    assert await family.unreachable("shop") == [False, False]
    await family.check(router="timeout")
    assert await family.unreachable("shop") == [False, True]


async def test_what_a_child_answered_itself_counts(family: Family) -> None:
    await family.check(router="timeout")
    await family.check(shop="http_status")
    assert await family.unreachable("shop") == [False]


# ---------------------------------------------------------------------------------------------------------- the lists


async def test_circles_are_refused_however_long(family: Family) -> None:
    await family.server("hypervisor")
    await family.depend("router", "hypervisor")
    circle = " → ".join(family.uuid(name) for name in ("hypervisor", "shop", "router", "hypervisor"))
    with pytest.raises(Refused, match=circle):
        await family.depend("hypervisor", "shop")
    assert await family.behind("shop") == []


async def test_two_changes_at_once_make_no_circle(family: Family) -> None:
    await family.monitor("a", "b")
    ends = await asyncio.gather(family.depend("a", "b"), family.depend("b", "a"), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "Refused"]


async def test_ten_levels_are_enough(family: Family) -> None:
    names = [f"level-{number}" for number in range(11)]
    await family.monitor(*names)
    for lower, upper in zip(names[1:6], names[:5], strict=True):
        await family.depend(lower, upper)
    for lower, upper in zip(names[7:], names[6:], strict=False):
        await family.depend(lower, upper)
    with pytest.raises(Refused, match="more than 10 behind one another"):
        await family.depend("level-6", "level-5")
    await family.depend("level-6", "level-4")


async def test_a_deleted_parent_is_taken_out_of_every_list(family: Family) -> None:
    await family.monitor("uplink")
    await family.server("hypervisor")
    await family.depend("shop", "router", ["uplink", "hypervisor"])
    await family.depend("router", "hypervisor")
    async with family.pool.acquire() as tx, tx.transaction():
        await servers.delete(tx, family.project_id, family.keys["hypervisor"])
    lists = await family.pool.fetch("SELECT name, depends_on FROM network_monitors")
    assert {row["name"]: row["depends_on"] for row in lists} == {
        "router": [], "shop": [family.uuid("router"), family.uuid("uplink")], "uplink": [],
    }  # fmt: skip
    flat = await family.pool.fetch("SELECT parent_id FROM dependencies WHERE child_id = $1", family.keys["shop"])
    assert {str(row["parent_id"]) for row in flat} == {str(family.keys[name]) for name in ("router", "uplink")}


async def test_a_parent_that_is_deleted_while_it_is_named_is_not_left_in_a_list(family: Family) -> None:
    await family.monitor("uplink")

    async def delete() -> None:
        async with family.pool.acquire() as tx, tx.transaction():
            await monitors.delete(tx, family.project_id, family.keys["uplink"])

    await asyncio.gather(family.depend("shop", "uplink"), delete(), return_exceptions=True)
    assert await family.pool.fetchval("SELECT count(*) FROM network_monitors WHERE name = 'uplink'") == 0
    written = await family.pool.fetchval("SELECT depends_on FROM network_monitors WHERE name = 'shop'")
    assert written in ([], [family.uuid("router")])


# ------------------------------------------------------------------------------------------------------------ a crowd


async def test_a_thousand_monitors_behind_one_parent_ask_it_once(family: Family) -> None:
    names = [f"till-{number}" for number in range(1_000)]
    rows = [(name, f"tcp://{name}.example.com:1") for name in names]
    await family.pool.execute(
        "INSERT INTO network_monitors (id, project_id, number, name, url, check_type, interval, timeout, confirmations,"
        " depends_on) SELECT new_id(), $1, 1000 + row_number() OVER (), name, url, 'tcp', 60, 5, 1, $4"
        " FROM unnest($2::text[], $3::text[]) AS g (name, url)",
        family.project_id, *map(list, zip(*rows, strict=True)), [family.uuid("router")],
    )  # fmt: skip
    await family.pool.execute(
        "INSERT INTO dependencies (child_id, parent_id, project_id) SELECT id, $1, $2 FROM network_monitors"
        " WHERE name LIKE 'till-%'",
        family.keys["router"], family.project_id,
    )  # fmt: skip
    await family.pool.execute(
        "INSERT INTO monitor_states (monitor_id, due_at) SELECT id, now() + interval '1 hour' FROM network_monitors"
        " WHERE name LIKE 'till-%'"
    )
    tills = [row["id"] for row in await family.pool.fetch("SELECT id FROM network_monitors WHERE name LIKE 'till-%'")]
    await family.check(router=None)
    await family.age(30, "router")
    began = time.monotonic()
    await family.results(dict.fromkeys(tills[:500], "timeout"))
    assert await family.is_due("router")
    asked = await family.pool.fetchval("SELECT asked_at FROM monitor_states WHERE asked_at IS NOT NULL")
    await family.results(dict.fromkeys(tills[500:], "timeout"))
    assert await family.pool.fetchval("SELECT asked_at FROM monitor_states WHERE asked_at IS NOT NULL") == asked
    await family.check(router="timeout")
    async with family.pool.acquire() as tx:
        states = await dependencies.states(tx, tills)
        children = await dependencies.children_of(tx, [family.keys["router"]])
    taken = time.monotonic() - began
    assert {tuple(parent.name for parent in state.explained_by) for state in states.values()} == {("router",)}
    assert len(states) == 1_000
    assert len(children[family.keys["router"]]) == 1_001
    assert await family.pool.fetchval("SELECT count(*) FROM checks WHERE unreachable") == 1_000
    assert taken < 20, taken


async def test_a_change_of_what_depends_on_what_and_one_of_the_whole_project_never_wait_for_each_other(
    pool: asyncpg.Pool, family: Family
) -> None:
    await family.monitor("till")
    await family.depend("till", "shop")
    waits = {}
    for name in ("shop", "till"):  # the older delivery is about the one in front
        await family.open(name, "timeout")
        about = await pool.fetchval("SELECT incident_id FROM ongoing WHERE resource_id = $1", family.keys[name])
        waits[name] = await held_delivery(pool, family.project_id)
        await pool.execute("UPDATE outstanding SET incident_id = $2 WHERE id = $1", waits[name], about)

    async def change_the_project() -> None:
        async with pool.acquire() as tx, tx.transaction():
            await queue.reconsider(tx, family.project_id)

    async def are_waiting(count: int) -> bool:
        return bool(await pool.fetchval(WAITING) == count)

    async with pool.acquire() as tx, tx.transaction():
        await tx.execute("SELECT FROM outstanding WHERE id = $1 FOR UPDATE", waits["till"])
        first = asyncio.create_task(family.depend("shop"))
        await until(partial(are_waiting, 1))
        second = asyncio.create_task(change_the_project())
        await until(partial(are_waiting, 2))
    await asyncio.gather(first, second)
