"""The routes that the connection itself answers: nobody can tell them from the others but by their speed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from tests.calls import alarm, new_server
from tests.hostile import NO_BODIES
from tests.service import Service
from tests.waiting import until

OPEN, RESOLVE, REPORT = "/api/v1/incidents", "/api/v1/incidents/resolve", "/api/v1/server_metrics"
LIMITS = {OPEN: 9 << 18, RESOLVE: 9 << 18, REPORT: 1 << 20}


class Said(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self.reader, self.writer, self.token = reader, writer, token

    def request(self, path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
        lines = [f"POST {path} HTTP/{version}", "Host: tocsin.example.com", f"Authorization: Bearer {self.token}"]
        if not any(header.startswith(("Transfer-Encoding", "Content-Length")) for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, *headers, "", ""]).encode() + body

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Said:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.rstrip("\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
            return Said(int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"])))

    async def ended(self) -> bool:
        async with asyncio.timeout(20):
            return await self.reader.read() == b""


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(service.url).port)
    try:
        yield Line(reader, writer, service.token)
    finally:
        writer.close()


@pytest.fixture
async def server(client: httpx.AsyncClient) -> str:
    return await new_server(client)


def one(server: str, kind: str) -> bytes:
    return json.dumps({"incident": alarm(server, kind)}).encode()


@pytest.mark.parametrize("path", [OPEN, RESOLVE, REPORT])
async def test_what_cannot_be_read_is_refused_in_the_same_words_as_elsewhere(
    path: str, client: httpx.AsyncClient, server: str
) -> None:
    wrong: list[Any] = [{"incident": None}, {"incident": {}}, {"incident": alarm(server, "")}, {"incidents": []}]
    for body in [*NO_BODIES, *(json.dumps(each).encode() for each in wrong)]:
        directly, by_framework = await client.post(path, content=body), await client.post(path + "?a=b", content=body)
        assert directly.status_code in (400, 422), body[:50]
        assert (directly.status_code, directly.json()) == (by_framework.status_code, by_framework.json())
        assert directly.headers["content-type"] == by_framework.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [OPEN, RESOLVE, REPORT])
async def test_who_has_no_token_hears_so(path: str, service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url) as stranger:
        answers = [await stranger.post(path, content=b"{}"), await stranger.post(path + "?a=b", content=b"{}")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("path", [OPEN, RESOLVE, REPORT])
async def test_a_body_over_the_limit_is_refused_and_the_connection_goes_on(path: str, service: Service) -> None:
    async with connected(service) as line:
        line.send(line.request(path, b" " * (LIMITS[path] + 1)))
        assert (await line.answer()).status == 413
        line.send(line.request(path, b"nonsense"))
        assert (await line.answer()).status == 400


async def test_a_body_may_come_in_pieces(service: Service, server: str) -> None:
    body = one(server, "in_pieces")
    async with connected(service) as line:
        request = line.request(OPEN, body)
        for part in (request[:30], request[30:-40], request[-40:-1], request[-1:]):
            line.send(part)
            await line.writer.drain()
            await asyncio.sleep(0)
        said = await line.answer()
        assert (said.status, json.loads(said.body)["incident_type"]) == (201, "in_pieces")
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
        line.send(line.request(OPEN, chunked, "Transfer-Encoding: chunked"))
        assert (await line.answer()).status == 200


async def test_requests_that_do_not_wait_are_answered_in_their_order(service: Service, server: str) -> None:
    kinds = [f"hasty_{number}" for number in range(5)]
    async with connected(service) as line:
        line.send(b"".join(line.request(OPEN, one(server, kind)) for kind in kinds))
        said = [await line.answer() for _ in kinds]
    assert [json.loads(each.body)["incident_type"] for each in said] == kinds


async def test_a_connection_ends_when_its_caller_wants_that(service: Service, server: str) -> None:
    async with connected(service) as line:
        line.send(line.request(OPEN, one(server, "last"), "Connection: close"))
        said = await line.answer()
        assert (said.status, said.headers["connection"]) == (201, "close")
        assert await line.ended()
    async with connected(service) as line:
        line.send(line.request(OPEN, one(server, "old"), version="1.0"))
        assert (await line.answer()).status == 201
        assert await line.ended()


async def test_a_caller_who_asks_whether_to_go_on_is_told_so(service: Service, server: str) -> None:
    body = one(server, "careful")
    async with connected(service) as line:
        line.send(line.request(OPEN, b"", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        async with asyncio.timeout(20):
            assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        line.send(body)
        assert (await line.answer()).status == 201


async def test_a_caller_who_leaves_in_the_middle_harms_nobody(
    service: Service, client: httpx.AsyncClient, server: str
) -> None:
    body = one(server, "half")
    async with connected(service) as line:
        line.send(line.request(OPEN, body)[:-10])
        await line.writer.drain()
        line.writer.transport.abort()
    async with connected(service) as line:
        line.send(line.request(OPEN, one(server, "unheard")) + line.request(OPEN, one(server, "pipelined")))
        await line.writer.drain()
        line.writer.transport.abort()

    async def listed() -> set[str]:
        return {incident["incident_type"] for incident in (await client.get(OPEN)).json()["data"]}

    async def unheard() -> bool:
        return "unheard" in await listed()

    await until(unheard, what="the incident whose answer nobody waited for")
    assert "half" not in await listed()
    assert (await client.post(OPEN, content=one(server, "next"))).status_code == 201


async def test_a_request_under_way_is_answered_before_the_service_ends(own_service: Service) -> None:
    async with own_service.client() as client:
        server = await new_server(client)
    async with connected(own_service) as line:
        request = line.request(OPEN, one(server, "at_the_end"))
        line.send(request[:-1])
        await line.writer.drain()
        ending = asyncio.create_task(asyncio.to_thread(own_service.api.stop))

        async def takes_no_more() -> bool:
            try:
                async with connected(own_service):
                    return False
            except ConnectionError:
                return True

        await until(takes_no_more, what="the service to take no more connections")
        line.send(request[-1:])
        said = await line.answer()
        assert (said.status, said.headers["connection"]) == (201, "close")
        await ending


async def test_sources_are_answered_alike_by_the_connection_and_by_the_framework(client: httpx.AsyncClient) -> None:
    paths: dict[str, str] = {}
    for kind in ("alertmanager", "generic", "pagerduty"):
        answer = await client.post("/api/v1/sources", json={"source": {"type": kind}})
        paths[kind] = urlsplit(answer.json()["url"]).path
    alert = {"labels": {"alertname": "DiskFull"}, "startsAt": "2025-05-01T10:00:00Z"}
    event = {
        "routing_key": paths["pagerduty"].removeprefix("/in/"), "event_action": "trigger", "dedup_key": "db1",
        "payload": {"summary": "full", "source": "db1", "severity": "critical"},
    }  # fmt: skip
    asked: list[tuple[str, Any]] = [
        (f"{paths['alertmanager']}/api/v2/alerts", [alert]), (f"{paths['alertmanager']}/api/v2/alerts", [alert, {}]),
        (f"{paths['alertmanager']}/v2/enqueue", event), (paths["generic"], {"dedup_key": "a", "title": "full"}),
        (paths["generic"], {}), (paths["pagerduty"], event), (f"{paths['pagerduty']}/v2/enqueue", event),
        (f"{paths['pagerduty']}/v2/change/enqueue", {"payload": {"summary": "deployed"}}), ("/v2/enqueue", event),
        ("/v2/enqueue", {**event, "routing_key": "k" * 32}), (f"/in/{'k' * 32}", []), ("/in/short", []),
        (f"{paths['generic']}/other", {}), ("/in/api/v2/alerts", []),
    ]  # fmt: skip
    statuses = []
    for path, body in asked:
        await client.post(path, json=body)  # from now on, nothing of it is new
        directly, by_framework = await client.post(path, json=body), await client.post(path + "?a=b", json=body)
        assert (directly.status_code, directly.json()) == (by_framework.status_code, by_framework.json()), path
        assert directly.headers["content-type"] == by_framework.headers["content-type"] == "application/json"
        statuses.append(directly.status_code)
    assert statuses == [200, 400, 400, 200, 400, 202, 202, 202, 202, 400, 404, 404, 404, 401]
    answer = await client.put(paths["generic"], json={"dedup_key": "a", "title": "full"})
    assert answer.json()["ongoing"] == 1
    assert (await client.put(f"{paths['alertmanager']}/api/v2/alerts", json=[])).status_code == 405


async def test_a_body_of_a_source_that_is_too_long_for_the_connection_is_taken_all_the_same(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/api/v1/sources", json={"source": {"type": "alertmanager"}})
    path = f"{urlsplit(answer.json()['url']).path}/api/v2/alerts"
    alerts = [
        {"labels": {"alertname": "DiskFull", "instance": str(number)}, "annotations": {"summary": "x" * 400}}
        for number in range(300)
    ]
    assert (await client.post(path, json=alerts)).json()["opened"] == 300
