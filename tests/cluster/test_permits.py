"""The point of no return on a server that is told to wait for a standby just before it: nothing stays locked."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.cluster.nodes import Node
from tests.waiting import until
from tests.world import PUBLIC_URL, World, world
from tocsin.domain.deliveries import Interrupted, Outcome
from tocsin.domain.incidents import Notification
from tocsin.engine.permits import PASSED_WITHIN, STOPPED_WITHIN, PermittedAttempt
from tocsin.integrations.base import NO_PERMIT, Permit, Transports
from tocsin.integrations.ssh_server_restart import ENDED_WITHIN, READY_WITHIN, SshServerRestartIntegration
from tocsin.settings import Settings
from tocsin.storage.delivery import leases
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.database import Tx
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer

__all__ = ["world"]

WAITING = "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def alone(prepared: Path) -> Iterator[Node]:
    """A server without a standby, as its operator means it."""
    folder = prepared.with_name("alone")
    subprocess.run(["cp", "-a", prepared, folder], check=True)
    node = Node(folder).start()
    yield node
    node.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(alone: Node) -> str:
    return alone.dsn


class Fateful(SshServerRestartIntegration):
    """A restart, without a machine, whose operator names a standby in its last moment."""

    def __init__(self, server: Node) -> None:
        self.server = server

    async def before_send(self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports) -> Any:
        return {}

    async def before_point_of_no_return(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], context: Mapping[str, Any]
    ) -> None:
        await self.server.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await self.server.run("SELECT pg_reload_conf()")
        self.writing = asyncio.create_task(self.server.run("CREATE TABLE something ()"))

        async def waits() -> bool:
            return bool(await self.server.run(WAITING))

        await until(waits, what="commits to wait")

    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        end = await permit.pass_point_of_no_return()
        assert end is not None
        return end


async def test_a_commit_that_waits_though_nothing_said_so_leaves_nothing_locked(
    world: World, alone: Node, settings: Settings
) -> None:
    await world.attach("http://127.0.0.1:9/")
    await world.open("a")
    async with world.pool.acquire() as tx, tx.transaction():
        [job] = await leases.claim(
            tx, engine=1, start=UUID(int=0), limit=1, room={}, default_room=9, public_url=PUBLIC_URL
        )
    http = Http(Guard(settings.allow_networks))
    transports = Transports(http, Mailer(None, settings.email_from, settings.outbox), PUBLIC_URL)
    pool = await storage.pool(alone.dsn, size=1, name="permits")
    kind = Fateful(alone)
    outcome = await PermittedAttempt(pool, kind, job, {}).send(job.notification, transports)
    assert isinstance(outcome, Interrupted), "to be tried again"

    async def unlocked() -> bool:
        return "tocsin permits" not in [row[0] for row in await alone.run(WAITING)]

    await until(unlocked, what="the commit to wait no more")
    await alone.run("ALTER SYSTEM RESET synchronous_standby_names")
    await alone.run("SELECT pg_reload_conf()")
    await kind.writing
    pool.terminate()
    await http.close()


def test_whatever_comes_before_the_command_leaves_time_for_it() -> None:
    assert READY_WITHIN + PASSED_WITHIN + STOPPED_WITHIN < ENDED_WITHIN
