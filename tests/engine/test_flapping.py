"""A monitor that goes up and down: what is told of it, to whom, and that what is told last is how it is."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.sites import VAULT
from tests.storage.notifying.family import Family
from tocsin.domain import flapping, ids, notifying
from tocsin.domain.attachments import Attachment
from tocsin.domain.flapping import Flapping
from tocsin.domain.notifying import Candidate, Occasion, Tell, Wait
from tocsin.storage.monitoring import monitors
from tocsin.storage.notifying import turns

DELIVER = """
WITH sent AS (DELETE FROM outstanding WHERE held IS NULL RETURNING *)
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, notice, status, attempt,
                      attempts, created_at, finished_at)
SELECT id, project_id, integration_id, integration_type, incident_id, event, notice, 'delivered', 1, '[]', created_at,
       clock_timestamp() FROM sent
"""
SAID = """
SELECT d.integration_id, d.incident_id, d.event, i.message || coalesce(' (' || d.notice || ')', '') AS text
FROM finished d JOIN incidents i ON i.id = d.incident_id WHERE d.status = 'delivered' ORDER BY d.finished_at, d.id
"""


@dataclass
class Site:
    """One monitor, and who is told of it: a machine and a person at once, another person after a quarter of an hour."""

    pool: asyncpg.Pool
    family: Family
    machine: UUID = field(default_factory=ids.new)
    person: UUID = field(default_factory=ids.new)
    later: UUID = field(default_factory=ids.new)

    async def check(self, problem: str | None, *, deliver: bool = True) -> None:
        await self.family.check(site=problem)
        await self.decide()
        if deliver:
            await self.pool.execute(DELIVER)

    async def decide(self) -> None:
        while True:
            async with self.pool.acquire() as tx, tx.transaction():
                if not await turns.decide_due(tx, 100):
                    return

    async def pass_(self, minutes: float) -> None:
        """So much time passes, and what becomes due is told."""
        await self.wait(minutes)
        await self.pool.execute(DELIVER)

    async def wait(self, minutes: float) -> None:
        """So much time passes, and nothing can be delivered."""
        await self.family.wait(minutes)
        await self.decide()

    async def flap(self, times: int, minutes: float = 1) -> None:
        for _ in range(times):
            for problem in ("timeout", None):
                await self.check(problem)
                await self.pass_(minutes)

    async def said(self, integration: UUID) -> list[tuple[str, str]]:
        rows = await self.pool.fetch(SAID)
        return [(row["event"], row["text"]) for row in rows if row["integration_id"] == integration]

    async def believed(self) -> dict[UUID, set[UUID]]:
        """What each one must take to be ongoing. Whoever was told of an end was told of the beginning, in order."""
        lasting: dict[UUID, set[UUID]] = defaultdict(set)
        for row in await self.pool.fetch(SAID):
            of = lasting[row["integration_id"]]
            if row["event"] == "opened":
                assert row["incident_id"] not in of, "told twice"
                of.add(row["incident_id"])
            elif row["event"] == "resolved":
                assert row["incident_id"] in of, "an end without a beginning"
                of.remove(row["incident_id"])
        return lasting

    async def ongoing(self) -> set[UUID]:
        return {row["incident_id"] for row in await self.pool.fetch("SELECT incident_id FROM ongoing")}


@pytest_asyncio.fixture
async def site(pool: asyncpg.Pool, project: Any) -> Site:
    family = Family(pool, project.id)
    await family.monitor("site")
    made = Site(pool, family)
    for id_, for_people, after in ((made.machine, False, 0), (made.person, True, 0), (made.later, True, 900)):
        await pool.execute(
            "INSERT INTO integrations (id, project_id, type, settings, for_people, repeatable)"
            " VALUES ($1, $2, 'Integrations::WebhookIntegration', '{}', $3, true)",
            id_, project.id, for_people,
        )  # fmt: skip
        await pool.execute(
            "INSERT INTO attachments (resource_id, integration_id, at_once, after) VALUES ($1, $2, $3, $4)",
            family.keys["site"], id_, after == 0, after,
        )  # fmt: skip
    return made


async def test_what_goes_down_more_than_five_times_in_an_hour_is_said_to_flap_once_and_then_that_it_is_steady(
    site: Site,
) -> None:
    await site.flap(5)
    for each in (site.machine, site.person):
        assert [event for event, _ in await site.said(each)] == ["opened", "resolved"] * 5
    await site.flap(15)
    for each in (site.machine, site.person):
        said = (await site.said(each))[10:]
        assert [event for event, _ in said] == ["opened"]
        assert "It is flapping: down 6 times within an hour" in said[0][1]
    assert await site.pool.fetchval("SELECT count(*) FROM incidents") == 20, "all are on record"
    reasons = await site.pool.fetch("SELECT DISTINCT reason FROM finished WHERE status = 'suppressed'")
    assert all("before its turn" in row["reason"] for row in reasons)
    assert any(flapping.REASON in row["reason"] for row in reasons)
    await site.pass_(27)
    assert len(await site.said(site.machine)) == 11, "not steady for long enough"
    await site.pass_(3)
    for each in (site.machine, site.person):
        (event, text), *more = (await site.said(each))[11:]
        assert (event, more) == ("resolved", [])
        assert "was flapping: down 20 times from " in text
    assert await site.said(site.later) == []
    assert await site.pool.fetchval("SELECT count(*) FROM outstanding") == 0


async def test_one_that_stays_down_in_the_end_is_told_to_be_down(site: Site) -> None:
    await site.flap(9)
    await site.check("timeout")
    await site.pass_(20)
    assert len(await site.said(site.machine)) == 11
    await site.pass_(11)
    for each in (site.machine, site.person):
        said = (await site.said(each))[11:]
        assert sorted(event for event, _ in said) == ["opened", "resolved"]
        assert all("was flapping: down 10 times from " in text for _, text in said)
    assert [event for event, _ in await site.said(site.later)] == ["opened"], "whose turn has come, too"
    assert set(map(frozenset, (await site.believed()).values())) == {frozenset(await site.ongoing())}
    await site.check(None)
    assert [(await site.said(each))[-1][0] for each in (site.machine, site.person, site.later)] == ["resolved"] * 3
    await site.pass_(90)
    await site.flap(1)
    assert [event for event, _ in await site.said(site.machine)][-2:] == ["opened", "resolved"], "as ever"


async def test_a_person_hears_that_it_flaps_also_where_it_is_well_again_before_that_is_delivered(site: Site) -> None:
    await site.flap(5)
    await site.check("timeout", deliver=False)
    await site.check(None)
    assert "It is flapping" in (await site.said(site.person))[-1][1]


async def test_the_end_does_not_overtake_a_beginning_that_could_not_be_delivered_for_so_long(site: Site) -> None:
    await site.flap(5)
    await site.check("timeout", deliver=False)
    await site.check(None, deliver=False)
    await site.wait(31)
    rows = await site.pool.fetch("SELECT * FROM outstanding ORDER BY integration_id, event")
    assert [row["event"] for row in rows] == ["opened", "resolved"] * 2
    for beginning, end in (rows[:2], rows[2:]):
        assert end["blocked_by"] == beginning["id"]
        assert beginning["blocks_another"]
        assert end["held"] is None


async def test_pausing_it_tells_the_end_at_once(site: Site) -> None:
    await site.flap(5)
    await site.check("timeout")
    assert (await site.said(site.machine))[-1][0] == "opened"
    project_id, monitor = site.family.project_id, site.family.keys["site"]
    async with site.pool.acquire() as tx, tx.transaction():
        before = await monitors.changing(tx, VAULT, project_id, monitor)
        assert before
        await monitors.change(tx, VAULT, project_id, monitor, before, replace(before, paused=True))
    await site.pool.execute(DELIVER)
    assert (await site.said(site.machine))[-1][0] == "resolved"


@pytest.mark.parametrize("seed", range(5))
async def test_however_it_flaps_what_was_told_last_is_how_it_is_when_it_is_steady(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        await site.check(chance.choice(["timeout", "http_status", None, None]), deliver=chance.random() < 0.9)
        await site.pass_(chance.choice([0.1, 1, 1, 1, 2, 5]) if chance.random() < 0.95 else chance.uniform(5, 45))
    for _ in range(3):
        await site.pass_(31)
    assert any("It is flapping" in text for _, text in await site.said(site.machine))
    believed, ongoing = await site.believed(), await site.ongoing()
    assert believed[site.machine] == believed[site.person] == believed[site.later] == ongoing
    assert await site.pool.fetchval("SELECT count(*) FROM outstanding") == 0, "nobody waits for anything"


def test_nobody_is_told_of_what_flaps_before_it_is_steady_and_then_with_the_count() -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    to = Candidate(id=ids.new(), name="Ann", attachment=Attachment())
    how = Flapping(ids.new(), now - timedelta(minutes=40), now - timedelta(minutes=60), 23, now)
    occasion = Occasion("timeout", "critical", now, flapping=how)
    waits = notifying.decide("opened", to, occasion, {}, [], now)
    assert waits == Wait(now + timedelta(minutes=30), flapping.REASON)
    told = notifying.decide("opened", to, occasion, {}, [], now + timedelta(minutes=30), flapping.REASON)
    note = "was flapping: down 23 times from 2026-05-01T11:00:00Z to 2026-05-01T12:00:00Z"
    assert told == Tell(to.id, note)
