"""Every answer names its request, and what was done for it can be found by that name: in the log and in deliveries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.calls import alarm, attach_to_all, integration, new_server, new_webhook, opened
from tests.raw_http import GET, LAST, LIVE, Answer, answers, ask, dial, port_of, post
from tests.receivers import Answer as Reply
from tests.receivers import Receiver
from tests.service import Service
from tests.waiting import until

HEADER = "x-request-id"
OURS = re.compile(r"[a-z2-7]{12}-[0-9a-f]+")


def ids(given: list[Answer]) -> list[str]:
    named = [answer.headers.get(HEADER, "") for answer in given]
    assert all(named), [answer.status for answer in given]
    assert len(set(named)) == len(named)
    return named


def lines(said: str) -> list[dict[str, Any]]:
    """What a process has logged; everything that begins like an event must be one."""
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


async def test_every_answer_names_its_request_whoever_gives_it(service: Service) -> None:
    port, big = port_of(service), b"Content-Length: 999999999"
    token = b"Authorization: Bearer " + service.token.encode()
    given = [
        await ask(port, LAST),
        await ask(port, GET % b"/nowhere", LAST),
        await ask(port, GET % b"/sign-in", LAST),
        await ask(port, GET % b"/static/console.js", LAST),
        await ask(port, GET % b"/api/v1/incidents", LAST),
        await ask(port, b"HEAD /api/v1/incidents HTTP/1.1\r\nHost: a.example\r\n\r\n", LAST, methods=("HEAD", "GET")),
        await ask(port, post(token, b"Content-Length: 2", body=b"{}"), LAST),
        await ask(port, post(b"Content-Length: 2", body=b"{}"), LAST),
        await ask(port, GET % b"/ping/nobody-has-such-a-key", LAST),
        await ask(port, GET % (b"/" + b"x" * 20_000), LAST),
        await ask(port, GET % b"/a%00b", LAST),
        await ask(port, post(token, big)),
        await ask(port, b"nonsense\r\n\r\n"),
        await ask(port, b"GET / HTTP/1.1\r\n\r\n"),
        await ask(port, b"GET / HTTP/1.1\r\nHost: a.example\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"),
    ]  # fmt: skip
    found = [answer for several in given for answer in several]
    assert {answer.status for answer in found} >= {200, 400, 401, 404, 413, 414, 431}
    assert all(OURS.fullmatch(each) for each in ids(found))


async def test_requests_in_a_row_on_one_connection_keep_their_own_names(service: Service) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: tocsin.example.com\r\nX-Request-Id: %b\r\n\r\n"
    sent = [head % (path, b"row-%d" % number) for number, path in enumerate([LIVE, b"/nowhere", b"/ping/none", LIVE])]
    wire = await dial(port_of(service))
    try:
        await wire.send(b"".join(sent) + LAST)
        found = [answer.headers[HEADER] for answer in answers(await wire.rest())]
    finally:
        wire.close()
    assert found[:4] == ["row-0", "row-1", "row-2", "row-3"]
    assert OURS.fullmatch(found[4])


@pytest.mark.parametrize("given", ["a", "8b1c3a52-8c1e-4d3a-9d3a-0c8e5a4f1b2d", "Root=1-67891233-abcdef01", "x" * 128])
@pytest.mark.parametrize("path", ["/health/live", "/api/v1/incidents/resolve"])
async def test_a_harmless_name_of_the_callers_own_is_kept(service: Service, path: str, given: str) -> None:
    async with service.client() as client:
        answer = await client.request("GET" if path.startswith("/h") else "POST", path, headers={HEADER: given})
    assert answer.headers[HEADER] == given


@pytest.mark.parametrize(
    "given", [b"", b"x" * 129, b"a b", b"<b>", b"ann@example.com", b"-x", b"\xc3\xa4", b'a"b', b"a\tb"]
)
async def test_a_name_that_could_do_harm_is_replaced(service: Service, given: bytes) -> None:
    for path in (LIVE, b"/api/v1/incidents"):
        head = b"GET %b HTTP/1.1\r\nHost: tocsin.example.com\r\nX-Request-Id: %b\r\n\r\n" % (path, given)
        [answer, _] = await ask(port_of(service), head, LAST)
        assert OURS.fullmatch(answer.headers[HEADER])


async def test_one_name_leads_from_the_request_to_the_webhook(
    service_with: Callable[..., Service], receiver: Receiver
) -> None:
    service = service_with(TOCSIN_LOG_LEVEL="debug")
    service.project = await service.new_project()
    receiver.then(Reply(status=500))
    async with service.client() as client:
        server = await new_server(client)
        hook = await new_webhook(client, receiver.url(), server)
        mine = await client.post(
            "/api/v1/incidents", json={"incident": alarm(server)}, headers={HEADER: "from-the-caller-1"}
        )
        assert mine.headers[HEADER] == "from-the-caller-1"
        await receiver.arrivals(2)
        end = await client.post("/api/v1/incidents/resolve", json={"incident": alarm(server)})
        await receiver.arrivals(3)

        async def both() -> list[dict[str, Any]] | None:
            found = (await client.get(f"/api/v1/integrations/{hook}/deliveries")).json()["data"]
            return found if [each["status"] for each in found] == ["delivered"] * 2 else None

        shown = await until(both)
        one = (await client.get(f"/api/v1/deliveries/{shown[1]['uuid']}")).json()
        of_incident = (await client.get(f"/api/v1/incidents/{mine.json()['uuid']}/deliveries")).json()["data"]
    assert [each["request_id"] for each in shown] == [end.headers[HEADER], "from-the-caller-1"]
    assert one["request_id"] == "from-the-caller-1"
    assert [each["request_id"] for each in of_incident] == [each["request_id"] for each in shown]
    api, engine = lines(service.api.said()), lines(service.engine.said())
    assert [each["path"] for each in api if each.get("request_id") == "from-the-caller-1"] == ["/api/v1/incidents"]
    tried = [each for each in engine if each.get("request_id") == "from-the-caller-1"]
    assert [(each["event"], each["delivery"]) for each in tried] == [
        ("An attempt failed; it is repeated", one["uuid"]), ("Delivered", one["uuid"]),
    ]  # fmt: skip
    assert tried[0]["status"] == 500
    assert [each["level"] for each in tried] == ["info", "info"]
    assert any(each.get("request_id") == end.headers[HEADER] for each in engine)
    assert service.token not in service.api.said() + service.engine.said()


async def test_what_arrived_at_once_is_said_for_those_only_who_want_to_know_everything(
    service: Service, receiver: Receiver
) -> None:
    async with service.client() as client:
        server = await new_server(client)
        hook = await new_webhook(client, receiver.url(), server)
        answer = await opened(client, alarm(server))

        async def delivered() -> bool:
            found = (await client.get(f"/api/v1/integrations/{hook}/deliveries")).json()["data"]
            return [each["status"] for each in found] == ["delivered"]

        await until(delivered, what="the delivery to be on record")
    said = service.api.said() + service.engine.said()
    assert answer.headers[HEADER] not in said
    assert '"level": "debug"' not in said


async def test_what_a_ping_opens_and_what_somebody_asks_for_are_known_by_their_requests_too(
    service: Service, receiver: Receiver
) -> None:
    async with service.client() as client:
        hook = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
        await attach_to_all(client, hook)
        made = await client.post("/api/v1/heartbeats", json={"heartbeat": {"name": "backup", "period": 3600}})
        pinged = await client.post(f"{made.json()['ping_url']}/fail", headers={HEADER: "the-ping"})
        assert pinged.headers[HEADER] == "the-ping"
        await receiver.arrivals(1)
        test = await client.post(f"/api/v1/integrations/{hook}/test")
        await receiver.arrivals(2)
        found = (await client.get(f"/api/v1/integrations/{hook}/deliveries")).json()["data"]
        again = await client.post(f"/api/v1/deliveries/{found[1]['uuid']}/redeliver")
    assert {each["event"]: each["request_id"] for each in found} == {
        "opened": "the-ping", "test": test.headers[HEADER],
    }  # fmt: skip
    assert again.json()["request_id"] == again.headers[HEADER]


async def test_an_unexpected_error_is_one_line_with_the_name_of_its_request(own_service: Service) -> None:
    connection = await asyncpg.connect(own_service.database)
    try:
        await connection.execute("ALTER TABLE incidents RENAME TO gone")
        async with own_service.client() as client:
            answer = await client.get("/api/v1/incidents", headers={HEADER: "it-breaks"})
            server = await client.post(
                "/api/v1/incidents/resolve", json={"incident": alarm("SRV" + "0" * 26)}, headers={HEADER: "breaks-too"}
            )
    finally:
        await connection.execute("ALTER TABLE gone RENAME TO incidents")
        await connection.close()
    assert (answer.status_code, answer.headers[HEADER]) == (500, "it-breaks")
    assert (server.status_code, server.headers[HEADER]) == (500, "breaks-too")
    failed = [each for each in lines(own_service.api.said()) if each["event"] == "request failed"]
    assert [each["request_id"] for each in failed] == ["it-breaks", "breaks-too"]
