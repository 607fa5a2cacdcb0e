"""Pings in the protocol of Healthchecks, to the letter of its public documentation (https://healthchecks.io/docs/)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from tests.heartbeat_scene import body_of, incidents_of, new_heartbeat, pings_of, shown
from tests.service import Service


@pytest_asyncio.fixture
async def outside(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a token, as a job is."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_success_is_answered_as_healthchecks_answers_it(
    client: httpx.AsyncClient, outside: httpx.AsyncClient, method: str
) -> None:
    made = await new_heartbeat(client)
    assert made["status"] == "new"
    assert UUID(made["ping_url"].rpartition("/")[2]).version == 4
    answer = await outside.request(method, made["ping_url"])
    assert (answer.status_code, answer.text) == (200, "" if method == "HEAD" else "OK")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == "2"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["ping-body-limit"] == "100000"
    assert "set-cookie" not in answer.headers
    found = await shown(client, made)
    assert (found["status"], found["last_ping_at"] is not None) == ("up", True)


@pytest.mark.parametrize(
    ("suffix", "kind", "exit_status", "status"),
    [("", "success", None, "up"), ("/", "success", None, "up"), ("/start", "start", None, "running"),
     ("/fail", "fail", None, "down"), ("/log", "log", None, "up"), ("/0", "success", 0, "up"),
     ("/1", "fail", 1, "down"), ("/255", "fail", 255, "down"),
     ("/TERM", "fail", 143, "down")],  # what systemd says of a service that a signal has ended
)  # fmt: skip
async def test_each_address_says_what_it_is_documented_to_say(
    client: httpx.AsyncClient, outside: httpx.AsyncClient, suffix: str, kind: str, exit_status: int | None, status: str
) -> None:
    made = await new_heartbeat(client)
    answer = await outside.get(made["ping_url"] + suffix)
    assert (answer.status_code, answer.text) == (200, "OK")
    (ping,) = await pings_of(client, made)
    assert (ping["kind"], ping["exit_status"], ping["method"]) == (kind, exit_status, "GET")
    assert (await shown(client, made))["status"] == status


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [("/ping/{unknown}", 404, "not found"), ("/ping/nonsense", 404, "not found"), ("/ping/{key}/256", 400,
     "invalid url format"), ("/ping/{key}/nonsense", 404, "not found"), ("/ping/{key}?rid=1", 400,
     "invalid uuid format"), ("/ping/somekey/Upper", 400, "invalid url format"),
     ("/ping/somekey/slug/start", 404, "not found"), ("/ping/somekey/slug?create=1", 404, "not found")],
)  # fmt: skip
async def test_what_cannot_be_taken_is_refused_in_the_documented_words(
    client: httpx.AsyncClient, service: Service, outside: httpx.AsyncClient, address: str, status: int, text: str
) -> None:
    made = await new_heartbeat(client)
    path = address.format(unknown=uuid4(), key=made["ping_url"].rpartition("/")[2])
    for headers in ({}, {"Expect": "100-continue"}):  # the second is answered by the framework
        answer = await outside.post(service.url + path, headers=headers, content=b"x")
        assert (answer.status_code, answer.text) == (status, text)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert await pings_of(client, made) == []


async def test_runs_that_overlap_are_told_apart_by_their_ids(
    client: httpx.AsyncClient, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client)
    first, second = str(uuid4()), str(uuid4()).upper()
    for path in (f"/start?rid={first}", f"/start?rid={second}", f"?rid={second}"):
        assert (await outside.get(made["ping_url"] + path)).status_code == 200
    assert (await shown(client, made))["status"] == "running"
    await outside.get(f"{made['ping_url']}/0?rid={first}")
    assert (await shown(client, made))["status"] == "up"
    pings = await pings_of(client, made)
    assert [ping["rid"] for ping in pings] == [first, second.lower(), second.lower(), first]
    assert pings[0]["duration_ms"] >= pings[1]["duration_ms"] >= 0
    assert pings[2]["duration_ms"] is None


async def test_a_body_is_kept_as_text_up_to_its_limit(client: httpx.AsyncClient, outside: httpx.AsyncClient) -> None:
    made = await new_heartbeat(client)
    for body in (b"all is well\n", "größer".encode(), b"\xff\x00binary", b"", b"x" * 200_000, "ü".encode() * 60_000):
        answer = await outside.post(made["ping_url"], content=body)
        assert (answer.status_code, answer.text) == (200, "OK")
    pings = (await pings_of(client, made))[::-1]
    assert [ping["has_body"] for ping in pings] == [True, True, True, False, True, True]
    bodies = [await body_of(client, made, ping["n"]) for ping in pings if ping["has_body"]]
    assert bodies == ["all is well\n", "größer", "\ufffd\ufffdbinary", "x" * 100_000, "ü" * 50_000]
    unknown = await client.get(f"/api/v1/heartbeats/{made['uuid']}/pings/4/body")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "body_not_found")


async def test_however_long_the_output_is_the_ping_counts(
    client: httpx.AsyncClient, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client)
    answer = await outside.post(f"{made['ping_url']}/3", content=b"y" * (5 << 20))
    assert (answer.status_code, answer.text) == (200, "OK")
    (ping,) = await pings_of(client, made)
    assert (ping["kind"], ping["exit_status"], ping["body_bytes"]) == ("fail", 3, 100_000)


async def test_only_the_last_hundred_bodies_are_kept(client: httpx.AsyncClient, outside: httpx.AsyncClient) -> None:
    made = await new_heartbeat(client, grace=5)
    for number in range(100):
        await outside.post(made["ping_url"], content=b"body %d" % number)
    await asyncio.gather(*(outside.post(f"{made['ping_url']}/fail", content=b"late") for _ in range(5)))
    pings = await pings_of(client, made, per_page=100)
    assert sum(ping["has_body"] for ping in pings) <= 100


async def test_a_slug_is_created_only_when_that_is_asked_for(
    client: httpx.AsyncClient, service: Service, outside: httpx.AsyncClient
) -> None:
    none = (await client.get("/api/v1/ping_key")).json()
    assert none == {"ping_key": None, "ping_url": None}
    key = (await client.post("/api/v1/ping_key/rotate")).json()["ping_key"]
    assert len(key) == 32
    assert key.isalnum()
    assert (await client.get("/api/v1/ping_key")).json()["ping_key"] == key
    url = f"{service.url}/ping/{key}/database-backup"
    assert (await outside.get(url)).status_code == 404
    assert (await outside.get(f"{url}?create=0")).status_code == 404
    made = await asyncio.gather(*(outside.get(f"{url}/start?create=1") for _ in range(5)))
    assert sorted((each.status_code, each.text) for each in made) == [*[(200, "OK")] * 4, (201, "Created")]
    again = await outside.post(f"{url}?create=1")
    assert (again.status_code, again.text) == (200, "OK")
    (only,) = (await client.get("/api/v1/heartbeats")).json()["data"]
    assert (only["name"], only["slug"], only["period"], only["grace"]) == (
        "database-backup", "database-backup", 86_400, 3_600,
    )  # fmt: skip
    assert only["status"] == "up"
    log = await client.post("/api/v1/ping_key/rotate")
    assert log.json()["ping_key"] != key
    assert (await outside.get(url)).status_code == 404


async def test_a_slug_that_several_have_is_ambiguous(
    client: httpx.AsyncClient, service: Service, outside: httpx.AsyncClient
) -> None:
    key = (await client.post("/api/v1/ping_key/rotate")).json()["ping_key"]
    first = await new_heartbeat(client, name="Nightly backup")
    assert first["slug"] == "nightly-backup"
    assert (await outside.get(f"{service.url}/ping/{key}/nightly-backup/start")).status_code == 200
    await new_heartbeat(client, name="Nightly Backup")
    answer = await outside.get(f"{service.url}/ping/{key}/nightly-backup")
    assert (answer.status_code, answer.text) == (409, "ambiguous slug")
    assert (await outside.get(first["ping_url"])).status_code == 200


async def test_link_previews_change_nothing_where_only_post_counts(
    client: httpx.AsyncClient, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client, methods="POST")
    assert [(await outside.request(method, made["ping_url"])).status_code for method in ("GET", "HEAD")] == [200, 200]
    assert {ping["kind"] for ping in await pings_of(client, made)} == {"ignored"}
    assert (await shown(client, made))["status"] == "new"
    await outside.post(made["ping_url"])
    assert (await shown(client, made))["status"] == "up"


async def test_of_more_than_a_hundred_pings_a_minute_the_successes_are_gathered_and_no_failure_is_dropped(
    client: httpx.AsyncClient, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client)
    for _ in range(5):
        answers = await asyncio.gather(*(outside.get(made["ping_url"]) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
    await outside.post(f"{made['ping_url']}/7", content=b"disk full")
    assert (await shown(client, made))["status"] == "down"
    pings = [ping for page in (1, 2, 3) for ping in await pings_of(client, made, page=page)]
    assert sum(ping["count"] for ping in pings) == 251
    gathered = [ping for ping in pings if ping["kind"] == "gathered"]
    assert gathered  # of two minutes, if one has just ended
    assert len(pings) < 210
    assert [ping["exit_status"] for ping in pings if ping["kind"] == "fail"] == [7]
    await outside.get(made["ping_url"])
    assert (await shown(client, made))["status"] == "up"
    (incident,) = await incidents_of(client, made)
    assert (incident["incident_type"], incident["status"]) == ("failed", "resolved")


async def test_a_failure_opens_an_incident_that_the_next_success_ends(
    client: httpx.AsyncClient, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client)
    await outside.post(f"{made['ping_url']}/23", content=b"rsync started\nrsync: connection unexpectedly closed\n")
    await outside.get(f"{made['ping_url']}/fail")
    (incident,) = await incidents_of(client, made)
    assert (incident["monitorable_type"], incident["incident_type"]) == ("Heartbeat", "failed")
    assert incident["error_message"] == (
        "It ended with exit status 23. Its last line: rsync: connection unexpectedly closed"
    )
    await outside.get(f"{made['ping_url']}/log")
    assert (await shown(client, made))["status"] == "down"
    await outside.get(made["ping_url"])
    (incident,) = await incidents_of(client, made)
    assert incident["status"] == "resolved"


async def test_clients_of_uptime_kuma_can_push_here(
    client: httpx.AsyncClient, service: Service, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client)
    key = made["ping_url"].rpartition("/")[2].replace("-", "")
    url = f"{service.url}/api/push/{key}"
    answer = await outside.get(f"{url}?status=up&msg=OK&ping=23.5")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert (await shown(client, made))["last_duration_ms"] == 23.5
    assert (await outside.post(f"{url}?status=down&msg=disk%20is%20full&ping=")).json() == {"ok": True}
    (incident,) = await incidents_of(client, made)
    assert incident["error_message"] == "It reported a failure. Its last line: disk is full"
    await outside.get(url)
    assert (await shown(client, made))["status"] == "up"
    unknown = await outside.get(f"{service.url}/api/push/{'0' * 32}")
    assert (unknown.status_code, unknown.json()) == (404, {"ok": False, "msg": "Monitor not found or not active."})


async def test_clients_of_gatus_can_push_here(
    client: httpx.AsyncClient, service: Service, outside: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client, slug="core_backup")
    key = made["ping_url"].rpartition("/")[2]
    url = f"{service.url}/api/v1/endpoints/{key}/external"
    assert (await outside.post(f"{url}?success=true&duration=1m2.5s")).status_code == 200
    assert (await shown(client, made))["last_duration_ms"] == 62_500
    ended = await outside.post(f"{url}?success=false&error=No+space+left")
    assert (ended.status_code, ended.text) == (200, "")
    assert (await shown(client, made))["status"] == "down"
    for query in ("", "?success=yes", "?success=true&duration=long"):
        assert (await outside.post(url + query)).status_code == 400
    by_slug = f"{service.url}/api/v1/endpoints/core_backup/external?success=true"
    assert (await outside.post(by_slug)).status_code == 401
    token = (await client.post("/api/v1/ping_key/rotate")).json()["ping_key"]
    assert (await outside.post(by_slug, headers={"Authorization": f"Bearer {token}"})).status_code == 200
    assert (await shown(client, made))["status"] == "up"


async def test_a_chunked_ping_and_one_of_http_1_0_count_like_any_other(
    client: httpx.AsyncClient, service: Service
) -> None:
    made = await new_heartbeat(client)
    path = "/ping/" + made["ping_url"].rpartition("/")[2]
    port = int(service.url.rpartition(":")[2])
    for request in (
        f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n",
        f"POST {path}/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nbad\r\n0\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert answer.endswith(b"\r\n\r\nOK")
        writer.close()
    pings = await pings_of(client, made)
    assert [(ping["kind"], ping["body_bytes"]) for ping in pings] == [("fail", 3), ("success", 0)]


async def test_pings_that_do_not_wait_are_answered_in_their_order(
    client: httpx.AsyncClient, service: Service
) -> None:
    made = await new_heartbeat(client)
    path = "/ping/" + made["ping_url"].rpartition("/")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    head = "HTTP/1.1\r\nHost: tocsin.example.com\r\n"
    writer.write(
        f"GET {path}/start {head}\r\nHEAD {path}/log {head}\r\nPOST {path}/9 {head}Content-Length: 4\r\n\r\n"
        f"bad!GET /ping/nobody {head}Connection: close\r\n\r\n".encode()
    )
    said = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    assert [line for line in said.decode().split("\r\n") if line.startswith("HTTP/") or "HTTP/1.1" in line] == [
        "HTTP/1.1 200 OK", "OKHTTP/1.1 200 OK", "HTTP/1.1 200 OK", "OKHTTP/1.1 404 Not Found",
    ]  # fmt: skip
    assert said.endswith(b"not found")
    assert [ping["kind"] for ping in await pings_of(client, made)] == ["fail", "log", "start"]


async def test_a_ping_whose_body_comes_in_pieces_counts_once(client: httpx.AsyncClient, service: Service) -> None:
    made = await new_heartbeat(client)
    path = "/ping/" + made["ping_url"].rpartition("/")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789"
    for part in (request[:20], request[20:-7], request[-7:-1], request[-1:]):
        writer.write(part.encode())
        await writer.drain()
        await asyncio.sleep(0)
    assert (await asyncio.wait_for(reader.read(), 60)).endswith(b"OK")
    writer.close()
    (ping,) = await pings_of(client, made)
    assert await body_of(client, made, ping["n"]) == "0123456789"


async def test_no_ping_address_is_in_the_logs(
    client: httpx.AsyncClient, outside: httpx.AsyncClient, service: Service
) -> None:
    made = await new_heartbeat(client)
    await outside.get(made["ping_url"])
    await outside.post(made["ping_url"], content=b"x" * 200_000)
    await outside.request("DELETE", made["ping_url"])
    key = made["ping_url"].rpartition("/")[2]
    for log in ("api.log", "engine.log"):
        text = (service.folder / log).read_text()
        assert key not in text
        assert key.replace("-", "") not in text


async def test_what_is_not_a_ping_is_answered_as_usual(service: Service, outside: httpx.AsyncClient) -> None:
    answer = await outside.delete(f"{service.url}/ping/{uuid4()}")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    too_long = await outside.get(f"{service.url}/ping/{uuid4()}?rid={'a' * 9_000}")
    assert too_long.status_code == 414
    assert json.loads(too_long.text)["error"] == "uri_too_long"
