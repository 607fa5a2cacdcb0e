"""A project with monitors and servers that depend on one another, whose checks a test reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from tests.sites import VAULT
from tocsin.domain import dependencies
from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.monitors import MonitorConfig, Result, Target
from tocsin.domain.reports import Report
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.monitoring import due_checks, families, monitors, servers
from tocsin.storage.monitoring.due_checks import CompletedCheck, DueCheck
from tocsin.storage.notifying import dependencies as stored
from tocsin.storage.notifying import depends_on
from tocsin.storage.notifying.dependencies import ParentState

PUBLIC_URL = "https://tocsin.example.com"
INTERVAL = 60.0
OLDER = (
    "UPDATE incidents SET created_at = created_at - $1::interval, closed_at = closed_at - $1::interval",
    "UPDATE flapping SET began_at = began_at - $1::interval, since = since - $1::interval,"
    " changed_at = changed_at - $1::interval",
    "UPDATE outstanding SET due_at = due_at - $1::interval",
    "UPDATE monitor_states SET last_check_at = last_check_at - $1::interval",
)


@dataclass
class Family:
    """Resources by name. Every call is a transaction."""

    pool: asyncpg.Pool
    project_id: UUID
    keys: dict[str, UUID] = field(default_factory=dict)
    kinds: dict[str, Any] = field(default_factory=dict)

    def uuid(self, name: str) -> str:
        return str(self.kinds[name].public(self.keys[name]))

    async def monitor(self, *names: str, confirmations: int = 1) -> None:
        for name in names:
            target = Target(f"tcp://{name}.example.com:1", "tcp", 5.0)
            async with self.pool.acquire() as tx, tx.transaction():
                wanted = MonitorConfig(name, target, INTERVAL, confirmations)
                self.keys[name] = await monitors.create(tx, VAULT, self.project_id, wanted)
            self.kinds[name] = NETWORK_MONITOR
            await self.later(name)

    async def server(self, name: str) -> None:
        report = Report(self.project_id, name, {"hostname": name, "agent_version": "1"}, [])
        async with self.pool.acquire() as tx, tx.transaction():
            recorded = await servers.record(tx, [report], public_url=PUBLIC_URL)
        self.keys[name], self.kinds[name] = recorded[0].server_id, SERVER

    async def later(self, *names: str) -> None:
        """Their next checks are at their usual time, far from now."""
        await self.pool.execute(
            "UPDATE monitor_states SET due_at = now() + interval '1 hour' WHERE monitor_id = ANY ($1)",
            [self.keys[name] for name in names],
        )

    async def depend(self, name: str, *parents: str | Sequence[str]) -> None:
        given = [self.uuid(each) if isinstance(each, str) else [*map(self.uuid, each)] for each in parents]
        async with self.pool.acquire() as tx, tx.transaction():
            written = dependencies.parse(given, self.keys[name])
            await depends_on.replace(tx, self.project_id, self.kinds[name], self.keys[name], written)

    async def check(self, **problems: str | None) -> None:
        """Each of these is checked now, with what it found: a problem, or nothing. All in one transaction."""
        await self.results({self.keys[name]: problem for name, problem in problems.items()})

    async def results(self, problems: Mapping[UUID, Any]) -> None:
        rows = await self.pool.fetch(
            "SELECT id, updated_at, depends_on, clock_timestamp() AS now FROM network_monitors"
        )
        due = {
            row["id"]: DueCheck(
                UUID(bytes=row["id"].bytes), Target("", "tcp", 5.0), row["updated_at"], row["now"], row["now"],
                dependencies.read(row["depends_on"]),
            )
            for row in rows
        }  # fmt: skip
        checked = [
            CompletedCheck(due[id_], Result(problem, problem and "It broke", 1.0)) for id_, problem in problems.items()
        ]
        async with self.pool.acquire() as tx, tx.transaction():
            await due_checks.record(tx, checked, public_url=PUBLIC_URL)

    async def open(self, name: str, type_: str) -> None:
        request = OpenRequest(self.project_id, self.kinds[name].type, self.keys[name], type_, "It broke")
        async with self.pool.acquire() as tx, tx.transaction():
            await openings.open(tx, [request], public_url=PUBLIC_URL)
            await families.explain(tx, [self.keys[name]])

    async def resolve(self, name: str, type_: str | None = None) -> None:
        async with self.pool.acquire() as tx, tx.transaction():
            await incidents.resolve(tx, [ResolveRequest(self.project_id, self.keys[name], type_, "a test")])

    async def state(self, name: str) -> ParentState:
        async with self.pool.acquire() as tx:
            return (await stored.states(tx, [self.keys[name]]))[self.keys[name]]

    async def explained(self, name: str) -> list[str]:
        return [parent.name for parent in (await self.state(name)).explained_by]

    async def behind(self, name: str) -> list[str]:
        async with self.pool.acquire() as tx:
            found = await stored.children_of(tx, [self.keys[name]])
        return [child for _, child in found[self.keys[name]]]

    async def is_due(self, name: str) -> bool:
        due = await self.pool.fetchval(
            "SELECT due_at <= now() FROM monitor_states WHERE monitor_id = $1", self.keys[name]
        )
        return bool(due)

    async def age(self, seconds: float, *names: str) -> None:
        """As if all that is known of these monitors were so much older."""
        keys = [self.keys[name] for name in names]
        await self.pool.execute(
            "UPDATE monitor_states SET last_check_at = last_check_at - make_interval(secs => $2),"
            " last_result_at = last_result_at - make_interval(secs => $2),"
            " asked_at = asked_at - make_interval(secs => $2) WHERE monitor_id = ANY ($1)",
            keys, seconds,
        )  # fmt: skip
        await self.pool.execute(
            "UPDATE checks SET at = at - make_interval(secs => $2) WHERE monitor_id = ANY ($1)", keys, seconds
        )

    async def wait(self, minutes: float) -> None:
        """As if so much time had passed since all that has happened. Nothing is decided by it."""
        for statement in OLDER:
            await self.pool.execute(statement, timedelta(minutes=minutes))

    async def held(self, name: str) -> UUID:
        """A notification of its latest incident that waits for its turn tomorrow."""
        return await self.pool.fetchval(
            "INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable,"
            " incident_id, event, status, held, due_at, created_at) SELECT new_id(), $1, new_id(), 'x', true, true,"
            " incident_id, 'opened', 'pending', 'a reason', now() + interval '1 day', now() FROM ongoing"
            " WHERE resource_id = $2 RETURNING id",
            self.project_id, self.keys[name],
        )  # fmt: skip

    async def turn(self, held: UUID) -> bool:
        """Whether it is that one's turn to be decided."""
        return bool(await self.pool.fetchval("SELECT due_at <= now() FROM outstanding WHERE id = $1", held))

    async def unreachable(self, name: str) -> list[bool]:
        """Of its failed checks, oldest first: which are counted as neither up nor down."""
        rows = await self.pool.fetch(
            "SELECT unreachable FROM checks WHERE monitor_id = $1 AND NOT ok ORDER BY at", self.keys[name]
        )
        return [row["unreachable"] for row in rows]


