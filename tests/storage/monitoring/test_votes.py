"""What several places see of a monitor, from ballots to incidents, in the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.sites import VAULT
from tests.storage.delivery.test_plans import scanned
from tocsin.domain import ids, requests
from tocsin.domain.monitors import Finding, MonitorConfig, Result, Target
from tocsin.storage.monitoring import due_checks, monitors, places, votes
from tocsin.storage.monitoring.votes import Ballot, Became

PUBLIC_URL = "https://tocsin.example.com"
GOOD = Result(response_ms=12.0, findings=[])
BAD = Result("timeout", "Request timeout after 5 seconds", findings=None)
OTHERWISE_BAD = Result("dns_error", "No such host")
ENDING = Finding("tls_expiry", "warning", "The certificate ends in 3 days", "ab12")


@dataclass
class Scene:
    """A monitor that is checked from several places. Its interval is an hour, so that nothing is due by itself."""

    pool: asyncpg.Pool
    project_id: UUID
    monitor: UUID
    round: int = 0

    async def see(self, place: str, result: Result, **fields: Any) -> Became:
        """One ballot of a place, in a round of its own."""
        return (await self.see_all((place, result), **fields))[0]

    async def see_all(self, *seen: tuple[str, Result], **fields: Any) -> list[Became]:
        """What the places saw in one round, in one commit."""
        self.round += 1
        given = [await self._ballot(place, result, **fields) for place, result in seen]
        async with self.pool.acquire() as tx, tx.transaction():
            return await votes.record(tx, given, public_url=PUBLIC_URL)

    async def _ballot(self, place: str, result: Result, **fields: Any) -> Ballot:
        own = "SELECT updated_at FROM network_monitors WHERE id = $1"
        of_place = "SELECT version FROM monitor_places WHERE monitor_id = $1 AND place = $2"
        version = await self.pool.fetchval(own, self.monitor) if place == "here" else await self.pool.fetchval(
            of_place, self.monitor, place
        )
        at = datetime.now(UTC)
        plain = Ballot(self.monitor, place, version or at, int(at.timestamp() // 3600) - 1000 + self.round, at, result)
        return replace(plain, **fields)

    async def incidents(self) -> list[tuple[str, str, bool]]:
        """Types, messages, and whether they are ongoing; oldest first."""
        rows = await self.pool.fetch("SELECT type, message, closed_at FROM incidents ORDER BY id")
        return [(row["type"], row["message"], row["closed_at"] is None) for row in rows]

    async def asked(self) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT place FROM monitor_places WHERE asked_at > coalesce(heard_at, '-infinity') ORDER BY place"
        )
        return [row["place"] for row in rows]

    async def age(self, place: str, seconds: float) -> None:
        """Its last vote is older by so much."""
        await self.pool.execute(
            "UPDATE monitor_places SET heard_at = heard_at - make_interval(secs => $2) WHERE place = $1", place, seconds
        )


@pytest_asyncio.fixture
async def probes(pool: asyncpg.Pool, project: Any) -> None:
    for name in ("wien", "graz", "linz"):
        await pool.execute(
            "INSERT INTO probes (id, project_id, name, token_hash) VALUES ($1, $2, $3, $4)",
            ids.new(), project.id, name, name.encode(),
        )  # fmt: skip


@pytest_asyncio.fixture
async def scene(pool: asyncpg.Pool, project: Any, probes: None) -> Callable[..., Any]:
    async def make(*locations: str, confirmations: int = 2, recoveries: int = 1) -> Scene:
        target = Target("http://192.0.2.1/", "http", 5.0)
        wanted = MonitorConfig("site", target, 3600.0, confirmations, recoveries, locations=locations)
        async with pool.acquire() as tx, tx.transaction():
            return Scene(pool, project.id, await monitors.create(tx, VAULT, project.id, wanted))

    return make


async def test_a_strict_majority_opens_an_incident_and_a_strict_majority_ends_it(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", "graz", "here")
    await seen.see_all(("wien", GOOD), ("graz", GOOD), ("here", GOOD))
    await seen.see("wien", BAD)
    await seen.see("wien", BAD)
    assert await seen.incidents() == [], "one place of three"
    await seen.see("here", OTHERWISE_BAD)
    opened = ("timeout", "From 2 of 3 places (wien, here): Request timeout after 5 seconds", True)
    assert await seen.incidents() == [opened]
    await seen.see("wien", GOOD)
    assert [each[2] for each in await seen.incidents()] == [False], "two of three are good again"
    why = await seen.pool.fetchval("SELECT resolved_by FROM incidents")
    assert why == "From 2 of 3 places (wien, graz): checks were good again"


async def test_what_several_places_saw_is_of_no_request_though_each_reported_by_one(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", "graz", confirmations=1)
    for place, result in (("wien", BAD), ("graz", BAD), ("wien", GOOD), ("graz", GOOD)):
        requests.ORIGIN.set(f"of-{place}")
        await seen.see(place, result)
    [row] = await seen.pool.fetch("SELECT origin, resolve_origin, closed_at FROM incidents")
    assert row["closed_at"] is not None
    assert (row["origin"], row["resolve_origin"]) == (None, None)


async def test_half_of_the_places_change_nothing_in_either_direction(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", "graz")
    await seen.see_all(("wien", BAD), ("graz", GOOD))
    for _ in range(5):
        await seen.see("wien", BAD)
    assert await seen.incidents() == []
    await seen.see("graz", BAD)
    assert len(await seen.incidents()) == 1
    await seen.see("wien", GOOD)
    assert [each[2] for each in await seen.incidents()] == [True]


async def test_a_place_that_is_silent_has_no_voice_and_the_last_one_of_several_decides_nothing(
    scene: Callable[..., Any],
) -> None:
    seen = await scene("wien", "graz", "linz")
    await seen.see_all(("wien", GOOD), ("graz", GOOD), ("linz", GOOD))
    await seen.age("linz", 3 * 3600 + 6)
    await seen.see_all(("wien", BAD), ("graz", BAD))
    assert [each[1] for each in await seen.incidents()] == [
        "From 2 of 2 places (wien, graz): Request timeout after 5 seconds"
    ]
    await seen.age("wien", 3 * 3600 + 6)
    for _ in range(3):
        await seen.see("graz", GOOD)
    assert [each[2] for each in await seen.incidents()] == [True], "it is alone now"


async def test_after_a_first_failure_the_others_are_asked_at_once(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", "graz", "here")
    await seen.see_all(("wien", GOOD), ("graz", GOOD), ("here", GOOD))
    await seen.pool.execute("UPDATE monitor_states SET due_at = now() + interval '1 hour'")
    assert await seen.asked() == []
    await seen.see("graz", BAD)
    assert await seen.asked() == ["here", "wien"]
    assert await seen.pool.fetchval("SELECT due_at <= now() FROM monitor_states")
    late = await seen.pool.fetchval("SELECT asked_at FROM monitor_places WHERE place = 'wien'")
    await seen.see("graz", BAD)
    assert await seen.pool.fetchval("SELECT asked_at FROM monitor_places WHERE place = 'wien'") == late, "asked once"
    seen.round -= 10
    assert await seen.see("wien", BAD) == "vote", "who was asked answers in the same round"
    assert await seen.see("wien", BAD, round=0) == "history", "and once"
    assert len(await seen.incidents()) == 1


async def test_what_is_old_or_of_another_version_is_history_and_no_vote(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", confirmations=1)
    now = datetime.now(UTC)
    assert await seen.see("wien", GOOD) == "vote"
    assert await seen.see("wien", BAD, round=0) == "history"
    assert await seen.see("wien", BAD, at=now - timedelta(hours=3, seconds=1)) == "history"
    assert await seen.see("wien", BAD, round=2**40) == "history", "from a time to come"
    assert await seen.see("wien", BAD, version=now) == "gone"
    assert await seen.see("graz", BAD) == "gone"
    assert await seen.see("wien", BAD, monitor_id=ids.new()) == "gone"
    assert await seen.incidents() == []
    assert await seen.pool.fetchval("SELECT count(*) FROM checks WHERE place = 'wien'") == 5
    assert await seen.pool.fetchval("SELECT count(*) FROM checks") == 5


async def test_a_failure_that_most_places_do_not_see_is_no_downtime(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", "graz", "here")
    await seen.see_all(("wien", GOOD), ("graz", GOOD), ("here", GOOD))
    await seen.see("graz", BAD)
    async with seen.pool.acquire() as tx:
        found = await monitors.one(tx, VAULT, seen.project_id, seen.monitor)
    assert (found.uptime, found.status) == (100, "success")
    await seen.see("wien", BAD)
    async with seen.pool.acquire() as tx:
        found = await monitors.one(tx, VAULT, seen.project_id, seen.monitor)
    assert (found.uptime, found.status) == (75, "error")


async def test_a_change_of_places_begins_anew_and_a_monitor_without_here_is_never_due_here(
    scene: Callable[..., Any],
) -> None:
    seen = await scene("wien", "here")
    await seen.see_all(("wien", BAD), ("here", BAD))
    assert len(await seen.incidents()) == 1
    async with seen.pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, seen.project_id, seen.monitor)
        await monitors.change(
            tx, VAULT, seen.project_id, seen.monitor, before, replace(before, locations=("graz", "wien"))
        )
    rows = await seen.pool.fetch("SELECT place, failures, heard_at FROM monitor_places ORDER BY place")
    assert [tuple(row) for row in rows] == [("graz", 0, None), ("wien", 0, None)]
    async with seen.pool.acquire() as tx, tx.transaction():
        assert await due_checks.claim_due(tx, VAULT, 10) == []
    await seen.see_all(("wien", GOOD), ("graz", GOOD))
    assert [each[2] for each in await seen.incidents()] == [False]
    async with seen.pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, seen.project_id, seen.monitor)
        await monitors.change(tx, VAULT, seen.project_id, seen.monitor, before, replace(before, locations=None))
    async with seen.pool.acquire() as tx, tx.transaction():
        [due] = await due_checks.claim_due(tx, VAULT, 10)
    assert not due.placed
    assert await seen.pool.fetchval("SELECT count(*) FROM monitor_places") == 0


async def test_what_one_place_finds_beside_the_verdict_counts_until_none_finds_it(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", "graz")
    await seen.see_all(("wien", replace(GOOD, findings=[ENDING])), ("graz", GOOD))
    assert await seen.incidents() == [("tls_expiry", "The certificate ends in 3 days", True)]
    await seen.see("graz", GOOD)
    assert [each[2] for each in await seen.incidents()] == [True]
    await seen.see("wien", GOOD)
    assert [each[2] for each in await seen.incidents()] == [False]


async def test_a_paused_monitor_takes_no_votes(scene: Callable[..., Any]) -> None:
    seen = await scene("wien", confirmations=1)
    async with seen.pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, seen.project_id, seen.monitor)
        await monitors.change(tx, VAULT, seen.project_id, seen.monitor, before, replace(before, paused=True))
    assert await seen.see("wien", BAD) == "gone"
    assert await seen.incidents() == []


async def test_a_monitor_behind_one_that_no_place_reaches_is_unreachable(
    scene: Callable[..., Any], pool: asyncpg.Pool
) -> None:
    router, site = await scene("wien", "graz", confirmations=1), await scene("wien", "graz", confirmations=1)
    await pool.execute(
        "INSERT INTO dependencies (child_id, parent_id, project_id) VALUES ($1, $2, $3)",
        site.monitor, router.monitor, site.project_id,
    )  # fmt: skip
    await pool.execute(
        "UPDATE network_monitors SET depends_on = $2 WHERE id = $1", site.monitor, [ids.public("NM", router.monitor)]
    )
    await router.see_all(("wien", GOOD), ("graz", GOOD))
    await site.see_all(("wien", GOOD), ("graz", GOOD))
    await site.see_all(("wien", BAD), ("graz", BAD))
    assert await router.asked() == ["graz", "wien"], "the router is asked wherever it is checked from"
    await router.see_all(("wien", BAD), ("graz", BAD))
    async with pool.acquire() as tx:
        found = await monitors.one(tx, VAULT, site.project_id, site.monitor)
    assert found.status == "unreachable"


async def test_many_votes_are_few_statements(scene: Callable[..., Any], pool: asyncpg.Pool) -> None:
    made = [await scene("wien", "graz", "linz") for _ in range(100)]
    given = [await each._ballot(place, GOOD) for each in made for place in ("wien", "graz", "linz")]
    said: list[str] = []
    async with pool.acquire() as tx, tx.transaction():
        with tx.query_logger(lambda query: said.append(query.query)):
            assert await votes.record(tx, given, public_url=PUBLIC_URL) == ["vote"] * 300
    ours = [each for each in said if "'jit'" not in each and "pg_catalog" not in each]  # the driver asks, too
    assert len(ours) <= 6, ours


STATEMENTS = {
    "lock": (votes.LOCK, ["'{}'::uuid[]"]),
    "monitors": (votes.MONITORS, ["'{}'"]),
    "places": (votes.PLACES, ["'{}'"]),
    "vote": (votes.VOTE, ["'{}'"] * 12),
    "settle": (votes.SETTLE, ["'{}'"] * 10),
    "ask": (places.ASK, ["'{}'"] * 3),
}


@pytest.mark.parametrize("planned", ["on tables not counted", "on full tables", "on tables known to be empty"])
async def test_votes_read_no_table_from_end_to_end(
    pool: asyncpg.Pool, scene: Callable[..., Any], planned: str
) -> None:
    wrong = {}
    async with pool.acquire() as connection:
        if planned == "on full tables":
            made = await scene("wien", "graz", "here")
            await connection.execute(
                """INSERT INTO network_monitors SELECT (m).* FROM (
                       SELECT jsonb_populate_record(m, jsonb_build_object('id', new_id(), 'number', n)) AS m
                       FROM network_monitors m, generate_series(2, 3000) n WHERE m.id = $1) more""",
                made.monitor,
            )
            await connection.execute(
                """INSERT INTO monitor_places (monitor_id, place, version, change)
                   SELECT id, 'p' || n, now(), n FROM network_monitors, generate_series(1, 3) n"""
            )
            await connection.execute("INSERT INTO monitor_states (monitor_id, due_at) SELECT id, now() FROM"
                                     " network_monitors ON CONFLICT DO NOTHING")  # fmt: skip
        if planned != "on tables not counted":
            await connection.execute("VACUUM (ANALYZE) network_monitors, monitor_places, monitor_states, probes")
        for name, (statement, given) in STATEMENTS.items():
            await connection.execute(f"PREPARE it AS {statement}")
            row = await connection.fetchrow(f"EXPLAIN (FORMAT json) EXECUTE it ({', '.join(given)})")
            await connection.execute("DEALLOCATE it")
            if found := scanned(json.loads(row[0])[0]["Plan"]):
                wrong[name] = found
    assert wrong == {}
