"""A database that answers and lets nobody in is away like one that does not answer, whatever its reasons."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.load import Load
from tests.postgres import Postgres
from tests.promise_scene import PATIENT, scene
from tests.receivers import Answer, Receiver
from tests.service import service_on, started
from tests.ssh_scene import scene as ssh_scene
from tests.sshd import Machine, Relay
from tests.waiting import poll, until

IN_FLIGHT = 8
AWAY = 4.0

LET = "ALTER DATABASE {0} ALLOW_CONNECTIONS {1}"
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{0}' AND pid <> pg_backend_pid()"


async def test_a_database_that_lets_nobody_in_is_one_that_is_away(
    postgres: Postgres, database: str, tmp_path: Path, receiver: Receiver
) -> None:
    name = urlsplit(database).path[1:]
    service = service_on(database, tmp_path, TOCSIN_RETRY_SCHEDULE=PATIENT)
    receiver.otherwise = Answer(after=2.0)
    async with started(service), service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        await stage.open(IN_FLIGHT)
        await receiver.arrivals(IN_FLIGHT)
        await postgres.run(LET.format(name, "false"), END_ALL.format(name))
        closed = time.monotonic()
        load = Load(client, stage.server)
        listed = await client.get("/api/v1/servers")
        assert (listed.status_code, bool(listed.headers.get("retry-after"))) == (503, True), listed.text
        await asyncio.sleep(AWAY)
        assert (await client.get("/health/ready")).status_code == 503
        await postgres.run(LET.format(name, "true"))
        opened = time.monotonic()
        await until(lambda: _any(load.good_since(opened)), what="an opening")
        await load.end()
        during = [call for call in load.calls if closed < call.began and call.ended < opened]
        assert {call.status for call in during} == {503}
        assert all(call.retry_after for call in during)
        ended = [await stage.delivery(each["uuid"]) for each in await stage.ended("hook", IN_FLIGHT)]
        seen = [request.id for request in receiver.requests]
    assert len(seen) == len(set(seen)), "what was sent is not sent again"
    for each in ended:
        assert [attempt["outcome"] for attempt in each["attempts"]] == ["delivered"]
    for process in (service.api, service.engine):
        assert "Traceback" not in process.said()


async def test_a_restart_that_cannot_be_put_on_record_is_not_made_until_it_can(
    postgres: Postgres, database: str, tmp_path: Path, relay: Relay, target: Machine
) -> None:
    name = urlsplit(database).path[1:]
    limits = {"TOCSIN_SSH_COOLDOWN": "0", "TOCSIN_SSH_DAILY_LIMIT": "1000"}
    async with started(service_on(database, tmp_path, **limits)) as service, service.client() as client:
        here = await ssh_scene(client, relay.port)
        relay.hold()
        before = await here.open()
        await asyncio.to_thread(poll, lambda: relay.connected == 1, what="a connection that nobody answers")
        await postgres.run(LET.format(name, "false"), END_ALL.format(name))
        relay.let_go()
        await asyncio.to_thread(poll, lambda: "Database unavailable" in service.engine.said(), what="a refused login")
        await asyncio.sleep(1)
        assert target.reboots == 0
        await postgres.run(LET.format(name, "true"))
        done = await here.ended(before)
        assert (done["status"], target.reboots) == ("delivered", 1)
    assert "Traceback" not in service.engine.said()


async def _any(what: object) -> bool:
    return bool(what)
