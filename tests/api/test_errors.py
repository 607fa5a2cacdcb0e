"""What is nobody's wish: surprises, full disks, lost databases, each told in the one shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import msgspec
import pytest
from litestar import get, post
from structlog.testing import capture_logs

from tests.service import running
from tocsin.api import errors, pings, server
from tocsin.api.hot import HotRequest, hot_routes
from tocsin.api.service import Service
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.session import OutcomeUnknown


class Flat(msgspec.Struct):
    phone_number: str


@get("/boom")
async def boom() -> None:
    raise RuntimeError("password is hunter2")


@get("/full")
async def full() -> None:
    raise asyncpg.DiskFullError("could not extend file")


@get("/contended")
async def contended() -> None:
    raise asyncpg.DeadlockDetectedError("deadlock detected")


async def surprise(service: Any, caller: Any, data: Flat) -> tuple[int, None]:
    raise RuntimeError("password is hunter2")


@post("/hot", opt={"hot": surprise})
async def hot(data: Flat, caller: Any, service: Any) -> None:
    await surprise(service, caller, data)


@asynccontextmanager
async def client_of(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Service]:
        yield service

    app: Any = server.build(opened, [boom, full, contended, hot])
    async with running(app), httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://tocsin.test"
    ) as client:
        yield client


async def test_a_surprise_is_500_and_its_words_stay_inside(
    pool: asyncpg.Pool, settings: Any, vault: Any, project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(pool=pool, settings=settings, vault=vault, public_url="http://tocsin.test")
    async with client_of(service) as client:
        answer = await client.get("/boom")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert "hunter2" not in answer.text
    [directly] = hot_routes(server.application([hot])).values()
    head = [(b"authorization", f"Bearer {project.api_token}".encode())]
    said = await directly.answer(service, HotRequest("POST", "/hot", "", head, b'{"phone_number": "1"}'))
    assert (said.status, json.loads(said.content)["error"]) == (500, "internal_error")
    assert b"hunter2" not in said.content
    logged = capsys.readouterr().out
    assert logged.count("RuntimeError") == 2
    assert ("/boom" in logged, "/hot" in logged, "/unknown" in logged) == (True, True, False)
    assert "hunter2" not in logged


async def test_an_error_at_an_address_that_leads_nowhere_is_logged_without_the_address() -> None:
    with capture_logs() as said:
        assert errors.refused_request({"method": "GET", "path": "/\x1b[31m?secret"}, ValueError()).status == 500
    assert [each["path"] for each in said] == ["/unknown"]


async def test_a_full_disk_is_503_with_the_reason(pool: asyncpg.Pool, settings: Any, vault: Any) -> None:
    async with client_of(Service(pool=pool, settings=settings, vault=vault, public_url="http://tocsin.test")) as client:
        answer = await client.get("/full")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert "disk" in answer.json()["message"]
    assert int(answer.headers["retry-after"]) > 0


async def test_a_change_that_gave_way_to_another_is_503_and_can_be_asked_for_again(
    pool: asyncpg.Pool, settings: Any, vault: Any
) -> None:
    async with client_of(Service(pool=pool, settings=settings, vault=vault, public_url="http://tocsin.test")) as client:
        answer = await client.get("/contended")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


class Line:
    """A TCP line to a database's socket, which can be cut and mended."""

    def __init__(self, dsn: str) -> None:
        self.path = f"{parse_qs(urlsplit(dsn).query)['host'][0]}/.s.PGSQL.{urlsplit(dsn).port or 5432}"
        self.port = free_port()
        self.dsn = dsn.split("?")[0].replace("@", f"@127.0.0.1:{self.port}") + "?sslmode=disable"
        self._ends: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)

    async def cut(self) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await self._server.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self.path)
        self._ends |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while said := await reader.read(65536):
                writer.write(said)
        writer.close()


async def test_a_database_that_went_away_is_503_and_all_is_well_when_it_is_back(
    settings: Any, vault: Any, project: Any, database: str
) -> None:
    line = Line(database)
    await line.mend()
    pool = await storage.pool(line.dsn, size=3, name="tests")
    unknown = {"resource_type": "Server", "resource_uuid": "SRV" + "0" * 26, "incident_type": "x", "message": "x"}
    async with client_of(Service(pool=pool, settings=settings, vault=vault, public_url="http://tocsin.test")) as client:
        client.headers["Authorization"] = f"Bearer {project.api_token}"
        assert (await client.get("/api/v1/incidents")).status_code == 200
        await line.cut()
        for _ in range(2):
            for answer in (
                await client.get("/api/v1/incidents"),
                await client.post("/api/v1/incidents", json={"incident": unknown}),
                await client.get("/health/ready"),
                await client.get("/metrics"),
            ):
                assert (answer.status_code, answer.json().get("error")) == (503, "unavailable"), answer.text
                assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/health/live")).status_code == 200
        await line.mend()
        assert (await client.get("/api/v1/incidents")).status_code == 200
        assert (await client.post("/api/v1/incidents", json={"incident": unknown})).status_code == 422
    pool.terminate()
    await line.cut()


def test_an_error_of_the_framework_that_has_no_words_of_ours_is_500() -> None:
    from litestar.exceptions import HTTPException

    assert errors.refused(HTTPException(status_code=418)).status == 500


@pytest.mark.parametrize(("method", "words"), [("GET", "cannot be reached"), ("HEAD", "cannot be reached"),
                                               ("POST", "Nobody knows whether this was done")])  # fmt: skip
def test_only_who_may_have_changed_something_is_told_that_nobody_knows(method: str, words: str) -> None:
    scope: Any = {"type": "http", "method": method, "path": "/api/v1/incidents"}
    refusal = errors.refused(OutcomeUnknown("the session was lost in the middle of a commit"), scope)
    assert refusal.status == 503
    assert words in refusal.message
    assert "Retry-After" in refusal.headers


def test_who_pings_by_a_method_that_only_reads_elsewhere_is_told_that_nobody_knows() -> None:
    scope: Any = {"type": "http", "method": "GET", "path": "/ping/a-key", "route_handler": pings.routes[0]}
    refusal = errors.refused(OutcomeUnknown("the session was lost in the middle of a commit"), scope)
    assert "Nobody knows whether this was done" in refusal.message
