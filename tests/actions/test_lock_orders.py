"""Whatever changes at once who is told of the same few incidents: nobody waits in a circle, nothing is told twice.

A session locks rows in `ongoing` first, then integrations, then deliveries, each in the order of their keys.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.storage.notifying.family import Family
from tests.turns import URL, flood, mail, on_call, send_summaries
from tests.world import PUBLIC_URL, World, world
from tocsin.actions import attachments, deliveries, dependencies, incidents, integrations, replays, silences
from tocsin.actions import on_call as duties
from tocsin.actions.base import Actor, system
from tocsin.actions.silences import SilenceFields
from tocsin.domain import ids
from tocsin.domain.deliveries import Finish, Retry
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import SEVERITIES, OpenRequest, ResolveRequest
from tocsin.domain.on_call import Override
from tocsin.domain.replays import Selection
from tocsin.domain.resources.network_monitor import RESOURCE as MONITOR
from tocsin.engine import replays as replaying
from tocsin.storage.delivery import acknowledgements, health, leases, openings
from tocsin.storage.delivery import incidents as stored
from tocsin.storage.delivery.leases import Attempt, AttemptResult
from tocsin.storage.notifying import turns
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.database import Tx

__all__ = ["world"]

SECONDS = 2.0
HANDS = 8
TYPES = ("timeout", "cpu")
DAY = timedelta(days=1)

NAMES = ("router", "shop", "branch")


@dataclass
class Crowd:
    """What a crowd does to three monitors, one of which the others depend on, and to whoever is told of them."""

    world: World
    family: Family
    hooks: list[UUID]
    people: list[UUID]
    duty: UUID
    chance: random.Random
    sessions: dict[int, str] = field(default_factory=dict)
    """The verb of each session, by its process."""
    deadlocks: list[str] = field(default_factory=list)
    acts: int = 0

    @property
    def actor(self) -> Actor:
        return system(self.world.project_id)

    @property
    def verbs(self) -> list[Callable[[Tx], Awaitable[Any]]]:
        return [
            self.open, self.open, self.resolve, self.resolve, self.check, self.acknowledge, self.take_back, self.rearm,
            self.snooze, self.remind, self.decide, self.decide, self.decide, self.put_off, self.silence,
            self.end_silence, self.attach, self.detach, self.disable, self.enable, self.fail, self.come, self.go,
            self.swap_duty, self.end_duty, self.hand_over, self.redeliver, self.replay, self.deliver, self.deliver,
            self.depend,
        ]  # fmt: skip

    async def act(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            verb = self.chance.choice(self.verbs)
            self.acts += 1
            try:
                async with self.world.pool.acquire() as tx:
                    self.sessions[tx.get_server_pid()] = verb.__name__
                    try:
                        async with tx.transaction():
                            await verb(tx)
                    finally:
                        self.sessions[tx.get_server_pid()] = "after " + verb.__name__
            except Refused:
                continue
            except asyncpg.DeadlockDetectedError as error:
                who = re.sub(r"Process (\d+)", lambda m: self.sessions.get(int(m[1]), "check"), str(error.detail))
                self.deadlocks.append(f"{verb.__name__}: {who}\n{error.context}")

    # ------------------------------------------------------------------------------------------------- incidents

    async def open(self, tx: Tx) -> None:
        severity = self.chance.choice(SEVERITIES)
        wanted = [
            OpenRequest(self.world.project_id, MONITOR.type, self.family.keys[name], type_, "It", severity=severity)
            for name in self._some(NAMES) for type_ in self._some(TYPES)
        ]  # fmt: skip
        async with self.world.pool.acquire() as alone:
            self.sessions[alone.get_server_pid()] = "open"
            await openings.open(alone, wanted, public_url=PUBLIC_URL)  # as the API does: outside of a transaction

    async def resolve(self, tx: Tx) -> None:
        types = self.chance.choice([(None,), TYPES])
        await stored.resolve(
            tx,
            [
                ResolveRequest(self.world.project_id, self.family.keys[name], type_, "a test")
                for name in self._some(NAMES) for type_ in types
            ],
        )  # fmt: skip

    async def check(self, tx: Tx) -> None:
        """What it opens and ends is another transaction, as everything that a family does."""
        await self.family.check(**{name: self.chance.choice(["timeout", None]) for name in self._some(NAMES)})

    async def acknowledge(self, tx: Tx) -> None:
        seconds = self.chance.choice([None, 1])
        key = await self._ongoing(tx)
        await incidents.acknowledge(tx, self.actor, self.world.vault, key, by="Ann", seconds=seconds)

    async def take_back(self, tx: Tx) -> None:
        await incidents.unacknowledge(tx, self.actor, await self._ongoing(tx))

    async def rearm(self, tx: Tx) -> None:
        await tx.execute("UPDATE ongoing SET rearm_at = now() WHERE incident_id = $1", await self._ongoing(tx))
        await acknowledgements.rearm(tx, 10)

    async def snooze(self, tx: Tx) -> None:
        until = datetime.now(UTC) + timedelta(seconds=self.chance.choice([0.1, 60]))
        await incidents.snooze(tx, self.actor, await self._ongoing(tx), until)

    async def remind(self, tx: Tx) -> None:
        await stored.remind(tx, 10)

    # ------------------------------------------------------------------------------------------------- decisions

    async def decide(self, tx: Tx) -> None:
        now = await tx.fetchval("SELECT now()")
        await turns.decide_due(tx, 100, now + self.chance.choice([timedelta(), timedelta(minutes=2), DAY]))

    async def put_off(self, tx: Tx) -> None:
        await turns.put_off(tx, 0.1)

    async def silence(self, tx: Tx) -> None:
        now = datetime.now(UTC)
        whose = self.chance.choice([None, [ids.public(ids.INTEGRATION, each) for each in self.people]])
        wanted = SilenceFields(
            name="A while", starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1), integrations=whose
        )
        await silences.create(tx, self.actor, wanted)

    async def end_silence(self, tx: Tx) -> None:
        for key in await self._any(tx, "SELECT id FROM silences WHERE over_at IS NULL OR over_at > now() LIMIT 3"):
            await self.chance.choice([silences.end, silences.delete])(tx, self.actor, key)

    # ---------------------------------------------------------------------------------------------- who is told

    async def attach(self, tx: Tx) -> None:
        given: dict[str, Any] = self.chance.choice([
            {"after": 0, "repeat": None}, {"after": 60}, {"repeat": 60}, {"severity": "critical"}, {"severity": None},
        ])  # fmt: skip
        to = self.chance.choice([*self.hooks, *self.people, self.duty])
        if self.chance.random() < 0.2:
            await attachments.attach_all(tx, self.actor, self.world.vault, to, given)
            return
        name = self.family.uuid(self.chance.choice(NAMES))
        await attachments.attach(
            tx, self.actor, self.world.vault, MONITOR, name, ids.public(ids.INTEGRATION, to), given
        )

    async def detach(self, tx: Tx) -> None:
        name, to = self.family.uuid(self.chance.choice(NAMES)), self.chance.choice(self.hooks)
        await attachments.detach(tx, self.actor, self.world.vault, MONITOR, name, ids.public(ids.INTEGRATION, to))

    async def disable(self, tx: Tx) -> None:
        await health.disable(tx, self.chance.choice([*self.hooks, *self.people]), "a test")

    async def enable(self, tx: Tx) -> None:
        await integrations.enable(tx, self.actor, self.world.vault, self.chance.choice([*self.hooks, *self.people]))

    async def fail(self, tx: Tx) -> None:
        bad = set(self._some(self.hooks))
        await health.record_results(tx, dict.fromkeys(set(self.hooks) - bad, 9), dict.fromkeys(bad, 1))

    async def come(self, tx: Tx) -> None:
        settings = {"email": "carl@example.com"}
        made = await integrations.stored.create(
            tx, self.world.vault, self.world.project_id, "Integrations::EmailIntegration",
            integrations.Facts(True, True), name="Carl", settings=settings, secret=(),
        )  # fmt: skip
        await attachments.attach_all(tx, self.actor, self.world.vault, made.id, {})

    async def go(self, tx: Tx) -> None:
        for key in await self._any(tx, "SELECT id FROM integrations WHERE name = 'Carl' LIMIT 1"):
            await integrations.delete(tx, self.actor, self.world.vault, key)

    async def swap_duty(self, tx: Tx) -> None:
        now = await tx.fetchval("SELECT now()")
        wanted = Override(self.chance.choice(self.people), now, now + DAY)
        await duties.add_override(tx, self.actor, self.world.vault, self.duty, wanted)

    async def end_duty(self, tx: Tx) -> None:
        for key in await self._any(tx, "SELECT id FROM on_call_overrides LIMIT 5"):
            await duties.delete_override(tx, self.actor, self.world.vault, self.duty, key)

    async def hand_over(self, tx: Tx) -> None:
        """Other members, or the same in another order."""
        members = [ids.public(ids.INTEGRATION, each) for each in self.chance.sample(self.people, 2)]
        given = {"integrations": members}
        await integrations.change(tx, self.actor, self.world.vault, self.duty, given, name=None, renamed=False)

    async def depend(self, tx: Tx) -> None:
        given = [self.family.uuid("router")] if self.chance.random() < 0.7 else []
        await dependencies.change(tx, self.actor, MONITOR, self.family.keys["shop"], given)

    # ------------------------------------------------------------------------------------------------ deliveries

    async def redeliver(self, tx: Tx) -> None:
        for key in await self._any(tx, "SELECT id FROM finished WHERE incident_id IS NOT NULL ORDER BY id LIMIT 1"):
            await deliveries.redeliver(tx, self.actor, key, PUBLIC_URL, confirmed=True)

    async def replay(self, tx: Tx) -> None:
        now = await tx.fetchval("SELECT now()")
        selection = Selection(now - DAY, now + DAY, self.chance.choice(["dead", "suppressed", "delivered"]))
        await replays.create(tx, self.actor, self.world.vault, self.chance.choice(self.hooks), selection)

    async def deliver(self, tx: Tx) -> None:
        """As an engine: some arrive, some are tried again, some never arrive, and the last ones disable."""
        jobs = await leases.claim(
            tx, engine=1, start=UUID(int=0), limit=20, room={}, default_room=6, public_url=PUBLIC_URL
        )
        ends = (Finish("delivered"), Finish("delivered"), Retry(0.0), Finish("dead", "a test"))
        await leases.record(tx, [_tried(job, self.chance.choice(ends)) for job in jobs])

    # --------------------------------------------------------------------------------------------------- the end

    async def settle(self) -> None:
        """Everything ends, and what is outstanding arrives."""
        pool = self.world.pool
        for statement in (
            "DELETE FROM silences", "UPDATE replays SET state = 'stopped', finished_at = now()",
            "UPDATE integrations SET disabled_at = NULL, disabled_reason = NULL",
        ):
            await pool.execute(statement)
        for name in NAMES:
            await self.family.resolve(name)
        await self.family.wait(31)  # what went up and down has been steady for long enough
        while True:
            await self.world.decide()
            await send_summaries(self.world)
            async with pool.acquire() as tx, tx.transaction():
                await tx.execute("UPDATE outstanding SET due_at = now() WHERE held IS NULL")
                jobs = await leases.claim(
                    tx, engine=1, start=UUID(int=0), limit=500, room={}, default_room=500, public_url=PUBLIC_URL
                )
                await leases.record(tx, [_tried(job, Finish("delivered")) for job in jobs])
            if not jobs:
                return

    def _some(self, of: Any) -> list[Any]:
        return self.chance.sample(of, self.chance.randint(1, len(of)))

    async def _ongoing(self, tx: Tx) -> UUID:
        found = await tx.fetchval("SELECT incident_id FROM ongoing ORDER BY random() LIMIT 1")
        return UUID(bytes=found.bytes) if found else UUID(int=0)

    async def _any(self, tx: Tx, statement: str, *arguments: object) -> list[UUID]:
        return [UUID(bytes=row["id"].bytes) for row in await tx.fetch(statement, *arguments)]


def _tried(job: Any, then: Finish | Retry) -> AttemptResult:
    outcome: Any = "delivered" if isinstance(then, Finish) and then.status == "delivered" else "failed"
    what = Attempt(datetime.now(UTC), 1.0, outcome)
    return AttemptResult(job.id, job.attempt, job.integration_id, what, then, failed=outcome == "failed")


@pytest_asyncio.fixture
async def crowd(world: World, database: str) -> AsyncIterator[Crowd]:
    quick = {"deadlock_timeout": "20ms"}
    pool = await storage.pool(database, size=HANDS * 2 + 2, name="crowd", settings=quick)
    try:
        yield await _gathered(World(pool, world.vault, world.project_id, world.server_id))
    finally:
        await pool.close()


async def _gathered(world: World) -> Crowd:
    family = Family(world.pool, world.project_id)
    await family.monitor(*NAMES)
    await family.depend("shop", "router")
    await family.depend("branch", "router")
    hooks = [await world.attach(URL) for _ in range(3)]
    people = [await mail(world, f"{name}@example.com") for name in ("ann", "bob")]
    duty = await on_call(world, *people)
    chance = random.Random(14)
    crowd = Crowd(world, family, hooks, people, duty, chance)
    for each, given in zip([*hooks, *people, duty], ({}, {"repeat": 60}, {"after": 60}, {}, {}, {}), strict=True):
        async with world.pool.acquire() as tx, tx.transaction():
            await attachments.attach_all(tx, crowd.actor, world.vault, each, given)
    await flood(world, people[0], incidents=2)
    return crowd


TOLD_TWICE = """
SELECT incident_id, integration_id, event, count(*) FROM deliveries
WHERE event IN ('opened', 'resolved') AND redelivery_of IS NULL AND status <> 'suppressed'
GROUP BY incident_id, integration_id, event HAVING count(*) > 1
"""


@pytest.mark.timeout(120)
async def test_changes_at_once_neither_wait_in_a_circle_nor_leave_anything_waiting_nor_tell_twice(crowd: Crowd) -> None:
    stop = asyncio.Event()
    replayed = asyncio.create_task(replaying.run(crowd.world.pool, 30, stop))
    until = asyncio.get_running_loop().time() + SECONDS
    await asyncio.gather(*(crowd.act(until) for _ in range(HANDS)))
    stop.set()
    await replayed
    # One in a thousand meets what another inserts between two of its locks: it is answered 503, and tried again.
    assert len(crowd.deadlocks) <= 2 + crowd.acts // 500, "\n".join(crowd.deadlocks)
    await crowd.settle()
    assert await crowd.world.pool.fetch("SELECT event, status, held FROM outstanding") == []
    assert await crowd.world.pool.fetch(TOLD_TWICE) == []
