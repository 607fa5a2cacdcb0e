"""A trace leads from a request over its incident to each delivery and attempt, through all processes, and tells no
secret; without a receiver nothing of it is loaded, and one that is away holds nothing up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from tests.calls import alarm, new_server, new_webhook, opened
from tests.otlp import PATH, Traces
from tests.processes import tocsin
from tests.receivers import Answer, Receiver
from tests.service import KEY, Service
from tests.test_settings import settings
from tests.waiting import until
from tocsin.cli.sockets import free_port
from tocsin.domain import traces as domain
from tocsin.domain.settings import Unusable

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
IMPORTED = "PYTHONPROFILEIMPORTTIME"
"""Makes a process say all that it imports, on standard error."""


async def test_a_trace_leads_from_the_request_to_each_attempt_and_tells_no_secret(
    service_with: Callable[..., Service], receiver: Receiver
) -> None:
    traces = Traces(receiver)
    service = service_with(**AT_ONCE, **{ENDPOINT: receiver.url("")})
    service.project = await service.new_project(owner_email="ann@example.com")
    receiver.then(Answer(status=500), path="/hook-4711")
    async with service.client() as client:
        server = await new_server(client)
        hook = await new_webhook(client, receiver.url("/hook-4711"), server)
        answer = await client.post(
            "/api/v1/incidents", json={"incident": alarm(server)}, headers={"traceparent": GIVEN, "X-Request-Id": "r-1"}
        )
        incident = answer.json()["uuid"]
        await receiver.arrivals(2, path="/hook-4711")
        await client.post("/api/v1/incidents/resolve", json={"incident": alarm(server)})
        made = await client.post("/api/v1/heartbeats", json={"heartbeat": {"name": "backup", "period": 3600}})
        await client.post(f"{made.json()['ping_url']}/fail")
        await client.get(f"/api/v1/incidents/{incident}")
        await client.get("/nowhere/secret-4712")
        await client.get("/verify-email?token=secret-4713")
    ends = await traces.have(2, "delivery")
    await traces.have(1, "GET /api/v1/incidents/{uuid}")
    await traces.have(1, "GET")
    mine = {each.name: each for each in traces.spans if each.trace == GIVEN[3:35]}
    assert mine.keys() == {"POST /api/v1/incidents", "open incidents", "delivery", "attempt"}
    request, opening, delivery = mine["POST /api/v1/incidents"], mine["open incidents"], mine["delivery"]
    assert (request.parent, opening.parent, delivery.parent) == (GIVEN[36:52], request.id, opening.id)
    assert (request.service, opening.service, delivery.service) == ("tocsin-serve", "tocsin-serve", "tocsin-engine")
    attempts = sorted(
        (each for each in traces.spans if each.parent == delivery.id),
        key=lambda span: int(span.attributes["tocsin.attempt"]),
    )
    assert [(each.name, each.failed, each.attributes["http.response.status_code"]) for each in attempts] == [
        ("attempt", True, 500), ("attempt", False, 200),
    ]  # fmt: skip
    assert opening.attributes["tocsin.incident.uuid"] == delivery.attributes["tocsin.incident.uuid"] == incident
    assert delivery.attributes["tocsin.integration.uuid"] == hook
    assert {each.attributes["tocsin.request_id"] for each in (request, delivery, *attempts)} == {"r-1"}
    asked = {"http.request.method": "POST", "url.path": "/api/v1/incidents", "server.address": "127.0.0.1"}
    assert {**request.attributes, **asked, "http.response.status_code": 201} == request.attributes
    assert request.began <= opening.began <= opening.ended <= request.ended
    assert delivery.began <= attempts[0].began <= attempts[1].ended
    [end] = [each for each in ends if each.trace != GIVEN[3:35]]
    [resolving] = [each for each in traces.spans if each.id == end.parent]
    assert (resolving.name, resolving.attributes["tocsin.incident.uuid"]) == ("resolve incidents", incident)
    [read] = [each for each in traces.spans if each.name == "GET /api/v1/incidents/{uuid}"]
    assert read.attributes["url.path"] == f"/api/v1/incidents/{incident}"
    said = b"".join(traces.bodies)
    ping_key = made.json()["ping_url"].rpartition("/")[2]
    for secret in (service.token, ping_key, "4711", "4712", "4713", "ann@example.com", KEY):
        assert secret.encode() not in said, secret


async def test_what_a_caller_does_not_want_to_be_traced_is_not(
    service_with: Callable[..., Service], receiver: Receiver
) -> None:
    traces = Traces(receiver)
    service = service_with(**AT_ONCE, **{ENDPOINT: receiver.url("")})
    service.project = await service.new_project()
    async with service.client() as client:
        server = await new_server(client)
        await new_webhook(client, receiver.url("/hook"), server)
        unsampled = {"traceparent": GIVEN.removesuffix("01") + "00"}
        await client.post("/api/v1/incidents", json={"incident": alarm(server)}, headers=unsampled)
        await receiver.arrivals(1, path="/hook")
        await opened(client, alarm(server, "another"))
        await receiver.arrivals(2, path="/hook")
    await traces.have(1, "delivery")
    assert not [each for each in traces.spans if each.trace == GIVEN[3:35]]


async def test_without_a_receiver_of_traces_nothing_of_them_is_loaded_or_stored(
    service_with: Callable[..., Service], receiver: Receiver
) -> None:
    service = service_with(**{IMPORTED: "1"})
    service.project = await service.new_project()
    async with service.client() as client:
        server = await new_server(client)
        await new_webhook(client, receiver.url(), server)
        body = {"incident": alarm(server)}
        answer = await client.post("/api/v1/incidents", json=body, headers={"traceparent": GIVEN})
        await receiver.arrivals(1)
    connection = await asyncpg.connect(service.database)
    try:
        origins = await connection.fetch("SELECT DISTINCT origin FROM incidents WHERE origin IS NOT NULL")
    finally:
        await connection.close()
    for process in (service.api, service.engine):
        said = process.said()
        assert "tocsin.transports.tracing" in said
        assert not re.search(r"\| +opentelemetry\.", said)  # the name itself is tried, and not found, by Litestar
        assert "google.protobuf" not in said
    assert [each["origin"] for each in origins] == [answer.headers["X-Request-Id"]]


@pytest.mark.parametrize("how", ["away", "slow"])
async def test_a_receiver_that_is_away_or_slow_holds_nothing_up_and_is_one_line_of_the_log(
    service_with: Callable[..., Service], receiver: Receiver, how: str
) -> None:
    receiver.answers[PATH] = Answer(how="hang")
    address = receiver.url("") if how == "slow" else f"http://127.0.0.1:{free_port()}"
    limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"}
    service = service_with(**AT_ONCE, **limits, **{ENDPOINT: address})
    service.project = await service.new_project()
    async with service.client() as client:
        server = await new_server(client)
        await new_webhook(client, receiver.url("/hook"), server)
        for part in range(5):
            began = time.monotonic()
            answer = await opened(client, *[alarm(server, f"kind_{part}_{number}") for number in range(100)])
            assert answer.status_code == 201
            await receiver.arrivals(100 * (part + 1), path="/hook")
            assert time.monotonic() - began < 20

        async def both() -> bool:
            return all("Traces cannot be sent" in each.said() for each in (service.api, service.engine))

        await until(both, what="a line of both")
    for process in (service.api, service.engine):
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 10
        about = [line for line in process.said().splitlines() if "race" in line or "span" in line or "otel" in line]
        assert len(about) == 1, about


async def test_traces_that_cannot_be_taken_for_want_of_the_library_are_one_line_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # hides the one that is installed
    environ = {
        ENDPOINT: "http://127.0.0.1:4318", "PYTHONPATH": str(tmp_path), "TOCSIN_SECRET_KEYS": KEY,
        "TOCSIN_DATABASE_URL": "postgresql://127.0.0.1:1/tocsin",
    }  # fmt: skip
    for command in (["up", "--port", "0"], ["serve", "--port", "0"], ["engine"]):
        done = await tocsin(*command, "--data-dir", str(tmp_path / "data"), environ=environ)
        assert (done.code, done.out) == (2, "")
        assert done.err.splitlines() == [
            f"tocsin: {ENDPOINT}: is set, but OpenTelemetry is not installed; install it: pip install 'tocsin[otel]'"
        ]


@pytest.mark.parametrize("value", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "nonsense"])
def test_an_address_of_a_receiver_that_cannot_be_meant_is_refused_without_telling_it(
    tmp_path: Path, value: str
) -> None:
    with pytest.raises(Unusable) as refused:
        settings.load(tmp_path, {ENDPOINT: value})
    assert str(refused.value) == f"{ENDPOINT}: must be an address such as http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (GIVEN, True), (GIVEN[:-2] + "00", True), ("01" + GIVEN[2:], True), ("01" + GIVEN[2:] + "-more", True),
        ("", False), ("ff" + GIVEN[2:], False), (GIVEN + "-more", False), (GIVEN.upper(), False), (GIVEN[:-1], False),
        (f"00-{'0' * 32}-{GIVEN[36:52]}-01", False), (f"00-{GIVEN[3:35]}-{'0' * 16}-01", False),
        (GIVEN.replace("a", "ä"), False),
    ],
)  # fmt: skip
def test_a_position_is_read_as_w3c_says(text: str, read: bool) -> None:
    found = domain.read(text)
    assert (found is not None) is read
    if found is not None:
        assert str(found)[3:] == text[3:55]
