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
from tests.waiting import until

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


async def _any(what: object) -> bool:
    return bool(what)
