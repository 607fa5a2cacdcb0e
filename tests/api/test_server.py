"""What every call has in common: who may call, how errors look, methods, slashes, lost databases, health, metrics."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import msgspec
import pytest
from litestar import get, post
from msgspec import UNSET, UnsetType

from tests.conftest import new_project, running
from tocsin.api import body, refusals, server
from tocsin.api.hot import shortcuts
from tocsin.api.service import Service
from tocsin.api.shapes import Page, millis, seconds
from tocsin.checks import base as checks
from tocsin.cli.listening import free_port
from tocsin.domain.errors import Refused
from tocsin.domain.tallies import COUNTS, HISTOGRAMS, Tallies
from tocsin.integrations.base import types
from tocsin.storage.delivery import tallies
from tocsin.storage.postgres import database as storage

SHAPE = {"error", "message", "details"}


class Settings(msgspec.Struct):
    webhook_url: str
    port: int = 22


class Inner(msgspec.Struct):
    name: str
    settings: Settings | None = None


class Wrapped(msgspec.Struct):
    integration: Inner


class Flat(msgspec.Struct):
    phone_number: str


def refusal(shape: Any, content: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        body.reader(shape)(content)
    return caught.value


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"null", 400, None),
        (b"[]", 400, None),
        (b"{}", 400, None),
        (b'{"other": 1}', 400, None),
        (b'{"integration": {"name": "\xff"}}', 400, None),
        (b'{"integration":' + b"[" * 100_000, 400, None),
        (b'{"other":' + b"[" * 100_000, 400, None),
        (b'{"integration": 5}', 400, None),
        (b'{"integration": null}', 400, None),
        (b'{"integration": []}', 400, None),
        (b'{"integration": {}} x', 400, None),
        (b'{"integration": 5', 400, None),
        (b'{"integration": {"name": ' + b"9" * 5000 + b"}} x", 400, None),
        (b'{"integration": {"name": 1e400}, "x": nul}', 400, None),
        (b'{"integration": {}}', 422, "name"),
        (b'{"integration": {"name": 5}}', 422, "name"),
        (b'{"integration": {"name": "a", "settings": {}}}', 422, "settings.webhook_url"),
        (b'{"integration": {"name": "a", "settings": {"webhook_url": 1}}}', 422, "settings.webhook_url"),
        (b'{"integration": {"name": "a", "settings": {"webhook_url": "", "port": "22"}}}', 422, "settings.port"),
        (b'{"integration": {"name": "a", "settings": {"webhook_url": "", "port": 9223372036854775808}}}', 422,
         "settings.port"),
        (b'{"integration": {"name": "a\\u0000"}}', 422, "name"),
        (b'{"integration": {"name": "\\ud800"}}', 422, None),
        (b'{"integration": {"name": "a"}, "x": {"\\u0000": 1}}', 422, "x"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_with_the_path_of_its_field(content: bytes, status: int, field: str | None) -> None:
    refused = refusal(Wrapped, content)
    assert (refused.status, refused.code) == (status, "invalid_request")
    assert [detail.field for detail in refused.details] == ([field] if field else [])


@pytest.mark.parametrize("coding", [gzip.compress, zlib.compress])
def test_a_compressed_body_is_refused_with_what_to_do(coding: Callable[[bytes], bytes]) -> None:
    refused = refusal(Wrapped, coding(b'{"integration": {"name": "a"}}'))
    assert (refused.status, refused.code) == (400, "invalid_request")
    assert "compressed" in refused.message
    assert "Content-Encoding" in refused.message


class Choice(msgspec.Struct):
    kind: Literal["Server", "NetworkMonitor"] | None = None


class Choices(msgspec.Struct):
    one: Choice | UnsetType = UNSET
    many: Annotated[list[Choice], msgspec.Meta(max_length=3)] | UnsetType = UNSET


@pytest.mark.parametrize(
    ("content", "field"),
    [(b'{"one": {"kind": "Moon"}}', "one.kind"), (b'{"many": [{}, {"kind": "Moon"}]}', "many[1].kind")],
)
def test_a_value_that_is_none_of_those_that_can_be_is_told_them(content: bytes, field: str) -> None:
    refused = refusal(Choices, content)
    assert refused.details[0].field == field
    assert refused.message == f"{field} must be one of: Server, NetworkMonitor; not 'Moon'"


async def test_a_parameter_that_is_none_of_those_that_can_be_is_told_them(app_client: httpx.AsyncClient) -> None:
    told = (await app_client.get("/api/v1/incidents?status=open")).json()
    assert told["details"] == [{"field": "status", "message": "must be one of: ongoing, resolved; not 'open'"}]
    told = (await app_client.get("/api/v1/network_monitors?sort=size")).json()
    assert "status, created_at" in told["details"][0]["message"]


class Measured(msgspec.Struct):
    LOOSE: ClassVar = ("metrics",)
    name: Any = None
    metrics: list[Any] = []


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"9" * 50, b"9" * 5000])
def test_a_number_that_nothing_can_hold_spoils_only_what_is_judged_piece_by_piece(number: bytes) -> None:
    read = body.reader(Measured)(b'{"metrics": [{"value": ' + number + b'}, {"value": 1}]}')
    assert len(read.metrics) == 2
    assert read.metrics[1] == {"value": 1}
    refused = refusal(Measured, b'{"name": ' + number + b', "metrics": [1e400]}')
    assert (refused.status, refused.details[0].field) == (422, "name")


def test_what_is_no_number_is_no_json_even_there() -> None:
    assert refusal(Measured, b'{"metrics": [1e400, NaN]}').status == 400


def test_a_body_without_root_object_names_its_fields_as_they_are() -> None:
    assert refusal(Flat, b"{}").details[0].field == "phone_number"
    assert refusal(Flat, b'{"phone_number": null}').message == "phone_number must be a string, not null"


def test_what_looks_like_a_nul_and_is_none_is_accepted() -> None:
    assert body.reader(Wrapped)(rb'{"integration": {"name": "\\u0000 1234567890123456789"}}').integration.name == (
        r"\u0000 1234567890123456789"
    )


def test_unknown_fields_are_ignored() -> None:
    assert body.reader(Flat)(b'{"phone_number": "+1", "colour": "red"}') == Flat("+1")


def test_a_page_says_where_it_begins_and_how_many_there_are() -> None:
    assert Page(3, 10).offset == 20
    assert [Page(1, 25).meta(total).total_pages for total in (0, 1, 25, 26)] == [0, 1, 1, 2]


def test_times_are_in_utc_with_a_z() -> None:
    from datetime import datetime, timedelta, timezone

    noon = datetime(2024, 1, 1, 14, 0, 0, 123_999, timezone(timedelta(hours=2)))
    assert (seconds(noon), millis(noon), seconds(None)) == ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00.123Z", None)


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/api/v1/nothing", "GET", 404, "not_found"),
        ("/nowhere", "POST", 404, "not_found"),
        ("/api/v1/incidents", "DELETE", 405, "method_not_allowed"),
        ("/api/v1/incidents", "TRACE", 405, "method_not_allowed"),
        ("/api/v1/incidents/%00", "GET", 422, "invalid_request"),
        ("/api/v1/network_monitors?search=%00", "GET", 422, "invalid_request"),
        ("/api/v1/incidents/INC123", "GET", 404, "incident_not_found"),
        ("/api/v1/incidents?page=0", "GET", 422, "invalid_request"),
        ("/api/v1/incidents?page=x", "GET", 422, "invalid_request"),
        ("/api/v1/incidents?per_page=" + "9" * 30, "GET", 422, "invalid_request"),
        ("/api/v1/incidents?status=open", "GET", 422, "invalid_request"),
    ],
)
async def test_every_error_has_the_one_shape(
    app_client: httpx.AsyncClient, path: str, method: str, status: int, code: str
) -> None:
    answer = await app_client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json().keys() == SHAPE
    assert answer.headers["content-type"] == "application/json"


async def test_a_wrong_parameter_is_named(app_client: httpx.AsyncClient) -> None:
    answer = (await app_client.get("/api/v1/incidents?page=0")).json()
    assert answer["details"] == [{"field": "page", "message": "must be an integer >= 1"}]


async def test_a_wrong_method_is_told_the_right_ones(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.delete("/api/v1/incidents")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    options = await app_client.options("/api/v1/incidents")
    assert options.status_code == 204
    assert options.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_head_is_get_without_the_body(app_client: httpx.AsyncClient) -> None:
    got, headed = await app_client.get("/api/v1/incidents"), await app_client.head("/api/v1/incidents")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == str(len(got.content))


async def test_a_slash_at_the_end_makes_no_difference(app_client: httpx.AsyncClient) -> None:
    assert (await app_client.get("/api/v1/incidents/")).status_code == 200
    assert (await app_client.post("/api/v1/incidents/", content=b"{")).status_code == 400


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/integrations"])
async def test_a_caller_without_a_good_token_learns_nothing_but_that(
    app_client: httpx.AsyncClient, path: str
) -> None:
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"Authorization": "Bearer \xe4"}):
        headers = httpx.Headers(header, encoding="latin-1")
        async with httpx.AsyncClient(transport=app_client._transport, base_url="http://tocsin.test") as stranger:
            answer = await stranger.post(path, content=b"{", headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/incidents/resolve", "/api/v1/server_metrics"])
async def test_the_bare_token_of_the_agent_is_as_good_as_a_bearer(
    app_client: httpx.AsyncClient, project: Any, path: str
) -> None:
    answer = await app_client.post(path, content=b"{", headers={"Authorization": project.api_token})
    assert answer.status_code == 400


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
async def test_a_body_is_read_as_json_whatever_it_claims_to_be(
    app_client: httpx.AsyncClient, content_type: str
) -> None:
    for path in ("/api/v1/incidents", "/api/v1/network_monitors"):
        answer = await app_client.post(path, content=b'{"nothing": 1}', headers={"Content-Type": content_type})
        assert answer.status_code == 400
        assert "in it" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/api/v1/incidents", "/api/v1/integrations", "/api/v1/server_metrics"])
async def test_a_body_that_is_too_large_is_413(app_client: httpx.AsyncClient, path: str) -> None:
    answer = await app_client.post(path, content=b'"' + b"a" * 10_000_000 + b'"')
    assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")


@get("/boom")
async def boom() -> None:
    raise RuntimeError("password is hunter2")


@get("/full")
async def full() -> None:
    raise asyncpg.DiskFullError("could not extend file")


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

    app: Any = server.build(opened, [boom, full, hot])
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
    [directly] = shortcuts(server.application([hot])).values()
    status, said, _ = await directly.answer(service, project.api_token, None, b'{"phone_number": "1"}')
    assert (status, json.loads(said)["error"]) == (500, "internal_error")
    assert b"hunter2" not in said
    logged = capsys.readouterr().out
    assert logged.count("RuntimeError") == 2
    assert "hunter2" not in logged


async def test_a_full_disk_is_503_with_the_reason(pool: asyncpg.Pool, settings: Any, vault: Any) -> None:
    async with client_of(Service(pool=pool, settings=settings, vault=vault, public_url="http://tocsin.test")) as client:
        answer = await client.get("/full")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert "disk" in answer.json()["message"]
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


async def test_ready_says_when_no_engine_lives(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    answer = await app_client.get("/health/ready")
    assert answer.status_code == 503
    assert "engine" in answer.json()["message"]
    await pool.execute("INSERT INTO engines DEFAULT VALUES")
    assert (await app_client.get("/health/ready")).json() == {"status": "ok"}
    await pool.execute("UPDATE engines SET seen_at = now() - interval '11 s'")
    assert (await app_client.get("/health/ready")).status_code == 503


async def test_metrics_add_up_what_several_engines_counted(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    webhook = "Integrations::WebhookIntegration"

    async def engine(seconds_taken: list[float]) -> None:
        counted = Tallies()
        for each in seconds_taken:
            counted.count("deliveries", webhook, "delivered")
            counted.observe("delivery_seconds", each, webhook)
        async with pool.acquire() as tx, tx.transaction():
            await tallies.add(tx, counted.take())

    await asyncio.gather(engine([0.002, 0.3]), engine([0.004, 100_000.0]))
    lines = (await app_client.get("/metrics")).text.splitlines()
    assert f'tocsin_deliveries_total{{outcome="delivered",type="{webhook}"}} 4.0' in lines
    assert f'tocsin_delivery_seconds_bucket{{le="0.005",type="{webhook}"}} 2.0' in lines
    assert f'tocsin_delivery_seconds_bucket{{le="0.5",type="{webhook}"}} 3.0' in lines
    assert f'tocsin_delivery_seconds_bucket{{le="+Inf",type="{webhook}"}} 4.0' in lines
    assert f'tocsin_delivery_seconds_count{{type="{webhook}"}} 4.0' in lines
    assert "tocsin_engines 0.0" in lines


async def test_every_metric_is_there_from_the_start(app_client: httpx.AsyncClient) -> None:
    lines = (await app_client.get("/metrics")).text.splitlines()
    for name, what in COUNTS.items():
        kinds = checks.types() if name == "checks" else types()
        for kind, outcome in itertools.product(kinds, what.outcomes):
            assert f'tocsin_{name}_total{{outcome="{outcome}",type="{kind}"}} 0.0' in lines
    for name in HISTOGRAMS:
        for kind in types():
            assert f'tocsin_{name}_count{{type="{kind}"}} 0.0' in lines
    announced = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert {name for name in announced if not any(line.startswith(name) for line in lines)} == set()


async def test_metrics_need_no_token_and_name_no_project(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, project: Any
) -> None:
    other = await new_project(pool, vault)
    del app_client.headers["Authorization"]
    answer = await app_client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].count("charset") == 1
    assert project.api_token not in answer.text
    assert other.name not in answer.text


def test_what_could_not_be_stored_is_counted_next_time() -> None:
    counted = Tallies()
    counted.count("checks", "http", "ok")
    taken = counted.take()
    counted.count("checks", "http", "ok")
    counted.put_back(taken)
    assert counted.take() == {("checks", ("http", "ok")): 2}
    assert counted.take() == {}


def test_an_error_of_the_framework_that_has_no_words_of_ours_is_500() -> None:
    from litestar.exceptions import HTTPException

    assert refusals.refused(HTTPException(status_code=418)).status == 500
