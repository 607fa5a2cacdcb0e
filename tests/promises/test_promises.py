"""The five promises of the engine, each kept by real processes that are really killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests import needed
from tests.chaos import Chaos
from tests.conftest import Service, service_on, started
from tests.installation import Installation, Part
from tests.processes import Process
from tests.receivers import Answer, Mailbox, Receiver, Request
from tests.waiting import until

SEED = 20
KILLS = 20

TROUBLES = {
    "refuses": None,
    "hangs": Answer(how="hang"),
    "answers 500": Answer(status=500),
    "answers 429": Answer(status=429, headers={"Retry-After": "1"}),
    "cuts": Answer(how="cut"),
}

PATIENT = ",".join(["0.3"] * 200)


@dataclass
class Scene:
    """A server with one webhook for each named receiver, attached."""

    client: httpx.AsyncClient
    server: str
    integrations: dict[str, str]

    def members(self, count: int, start: int = 0) -> list[dict[str, str]]:
        return [
            {
                "resource_type": "Server",
                "resource_uuid": self.server,
                "incident_type": f"type_{number}",
                "message": f"number {number}",
            }
            for number in range(start, start + count)
        ]

    async def open(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        answer = await self.client.post("/api/v1/incidents", json={"incidents": self.members(count, start)})
        assert answer.status_code == 201, answer.text
        return list(answer.json()["data"])

    async def resolve(self, count: int, start: int = 0) -> None:
        answer = await self.client.post("/api/v1/incidents/resolve", json={"incidents": self.members(count, start)})
        assert answer.status_code == 200, answer.text

    async def deliveries(self, name: str) -> list[dict[str, Any]]:
        """All deliveries to the webhook of that name, each with its attempts."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            path = f"/api/v1/integrations/{self.integrations[name]}/deliveries"
            answer = await self.client.get(path, params={"page": page, "per_page": 100})
            assert answer.status_code == 200, answer.text
            found += answer.json()["data"]
            if page >= answer.json()["meta"]["total_pages"]:
                return found
            page += 1

    async def delivery(self, uuid: str) -> dict[str, Any]:
        answer = await self.client.get(f"/api/v1/deliveries/{uuid}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ended(self, name: str, count: int = 1, *, timeout: float = 20.0) -> list[dict[str, Any]]:
        """The deliveries to that webhook once at least `count` have ended and none is outstanding."""

        async def look() -> list[dict[str, Any]] | None:
            found = await self.deliveries(name)
            return found if len(found) >= count and all(each["finished_at"] for each in found) else None

        return await until(look, timeout=timeout, what=f"{count} deliveries of {name} to end")


async def scene(client: httpx.AsyncClient, webhooks: dict[str, str]) -> Scene:
    """`webhooks`: a name and an address each."""
    report = {"attributes": {"motherboard_id": "mb-1", "hostname": "web-1"}, "metrics": [], "agent_version": "1.0"}
    assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
    server = (await client.get("/api/v1/servers")).json()[0]["uuid"]
    await client.patch(f"/api/v1/servers/{server}", json={"server": {"alerts": {"downtime": None}}})
    integrations = {}
    for name, url in webhooks.items():
        settings = {"type": "Integrations::WebhookIntegration", "name": name, "settings": {"webhook_url": url}}
        created = await client.post("/api/v1/integrations", json={"integration": settings})
        assert created.status_code == 201, created.text
        integrations[name] = created.json()["uuid"]
        attach = {"integration_id": integrations[name]}
        attached = await client.post(f"/api/v1/servers/{server}/integrations", json=attach)
        assert attached.status_code == 201, attached.text
    return Scene(client, server, integrations)


@pytest_asyncio.fixture
async def patient(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service of the test's own whose retries do not run out."""
    async with started(service_on(database, tmp_path, TOCSIN_RETRY_SCHEDULE=PATIENT)) as service:
        yield service


class Troubled:
    """A receiver for each trouble, until `heal`."""

    def __init__(self, make: Callable[[], Receiver]) -> None:
        self.receivers = {name: make() for name in TROUBLES}
        for name, answer in TROUBLES.items():
            if answer is None:
                self.receivers[name].refuse()
            else:
                self.receivers[name].otherwise = answer

    @property
    def urls(self) -> dict[str, str]:
        return {name: receiver.url() for name, receiver in self.receivers.items()}

    def heal(self) -> None:
        for receiver in self.receivers.values():
            receiver.otherwise = Answer()
            receiver.refuse()  # what hangs is let go
            receiver.listen()

    async def all_arrived(self, count: int, timeout: float = 40.0) -> None:
        """Everyone accepted `count` incidents; each under one `webhook-id` alone, whatever the number of tries."""
        for name, receiver in self.receivers.items():

            async def arrived(receiver: Receiver = receiver) -> bool:
                return len({request.id for request in accepted(receiver)}) >= count

            await until(
                arrived, timeout=timeout,
                what=lambda name=name, receiver=receiver: f"{count} at the one that {name}; {len(accepted(receiver))}",
            )
            ids: dict[str, set[str]] = {}
            for request in list(receiver.requests):
                ids.setdefault(request.json["incident_type"], set()).add(request.id)
            assert len(ids) == count
            assert all(len(of_one) == 1 for of_one in ids.values())


def accepted(receiver: Receiver) -> list[Request]:
    return [request for request in list(receiver.requests) if request.accepted]


# ------------------------------------------------- 1: an incident and all its deliveries in one transaction, or neither


async def test_an_incident_and_its_deliveries_are_there_together_or_not_at_all(
    own_service: Service, receiver: Receiver
) -> None:
    async with own_service.client() as client:
        stage = await scene(client, {"first": receiver.url("/1"), "second": receiver.url("/2")})
        for round_ in range(5):
            asked = [asyncio.create_task(stage.open(20, round_ * 1000 + at)) for at in range(0, 800, 20)]
            await until(enough(asked, 1 + 4 * round_), what="the first answers")
            await asyncio.to_thread(own_service.api.kill)
            await asyncio.gather(*asked, return_exceptions=True)
            await asyncio.to_thread(own_service.start)
    connection = await asyncpg.connect(own_service.database)
    try:
        counts = await connection.fetch(
            "SELECT incidents.id, count(deliveries.id) AS deliveries FROM incidents "
            "LEFT JOIN deliveries ON deliveries.incident_id = incidents.id GROUP BY incidents.id"
        )
    finally:
        await connection.close()
    assert Counter(row["deliveries"] for row in counts) == {2: len(counts)}
    assert len(counts) % 20 == 0, "a batch is opened as a whole"


def enough(tasks: list[asyncio.Task[Any]], count: int) -> Callable[[], Any]:
    async def look() -> bool:
        return sum(task.done() for task in tasks) >= count

    return look


# ------------------------------------------------------------- 2: every delivery is tried at least once after any crash


@pytest.mark.parametrize("victims", [["engine"], ["api"], ["api", "engine"]], ids="+".join)
async def test_nothing_is_lost_when_our_processes_are_killed(
    patient: Service, new_receiver: Callable[[], Receiver], victims: list[str]
) -> None:
    far_ends = Troubled(new_receiver)
    async with patient.client() as client:
        stage = await scene(client, far_ends.urls)
        await stage.open(200)
        await far_ends.receivers["answers 500"].arrivals(20)
        for victim in victims:
            await asyncio.to_thread(getattr(patient, victim).kill)
        far_ends.heal()
        await asyncio.to_thread(patient.start)
        await far_ends.all_arrived(200)
        for name in TROUBLES:
            assert {each["status"] for each in await stage.ended(name, 200)} == {"delivered"}


@pytest.mark.parametrize("part", ["postgres", "everything"])
async def test_nothing_is_lost_when_the_database_or_the_whole_machine_dies(
    new_receiver: Callable[[], Receiver], part: Part
) -> None:
    far_ends = Troubled(new_receiver)
    house = Installation(TOCSIN_RETRY_SCHEDULE=PATIENT)
    try:
        await asyncio.to_thread(house.start)
        async with house.client() as client:
            stage = await scene(client, far_ends.urls)
            await stage.open(200)
            await far_ends.receivers["answers 500"].arrivals(20)
            before = house.parts()
            await asyncio.to_thread(house.kill, part)
            far_ends.heal()
            if part == "everything":
                await asyncio.to_thread(house.start)
            else:
                await until(restarted(house, before.postgres), what="another PostgreSQL")
                await asyncio.to_thread(house.wait_ready)
            await far_ends.all_arrived(200)
            for name in TROUBLES:
                assert {each["status"] for each in await stage.ended(name, 200)} == {"delivered"}
    finally:
        await asyncio.to_thread(house.stop)


def restarted(house: Installation, before: Any) -> Callable[[], Any]:
    async def look() -> bool:
        now = house.parts().postgres
        return now is not None and now != before

    return look


async def test_sigterm_in_the_middle_loses_nothing_and_ends_within_ten_seconds(
    patient: Service, new_receiver: Callable[[], Receiver]
) -> None:
    far_ends = Troubled(new_receiver)
    async with patient.client() as client:
        stage = await scene(client, far_ends.urls)
        await stage.open(200)
        await far_ends.receivers["hangs"].arrivals(1)
        await far_ends.receivers["answers 500"].arrivals(20)
        for process in (patient.engine, patient.api):
            began = time.monotonic()
            assert await asyncio.to_thread(process.stop) == 0, process.said()[-2000:]
            assert time.monotonic() - began < 10
        far_ends.heal()
        await asyncio.to_thread(patient.start)
        await far_ends.all_arrived(200)
        for name in TROUBLES:
            assert {each["status"] for each in await stage.ended(name, 200)} == {"delivered"}


async def test_two_engines_on_one_database_deliver_each_thing_once(own_service: Service, receiver: Receiver) -> None:
    second = own_service.add_engine()
    async with own_service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        for start in range(0, 600, 100):
            await stage.open(100, start)
        await receiver.arrivals(600)
        assert len(await stage.ended("hook", 600)) == 600
        assert Counter(Counter(request.id for request in receiver.requests).values()) == {1: 600}

        receiver.otherwise = Answer(status=500)
        await stage.open(50, 600)
        await receiver.arrivals(610)
        await asyncio.to_thread(own_service.engine.kill)
        receiver.otherwise = Answer()
        assert second.alive
        assert {each["status"] for each in await stage.ended("hook", 650)} == {"delivered"}


@pytest.mark.parametrize("jump", ["+2h", "-2h"])
async def test_the_clock_of_an_engine_may_jump(
    database: str, tmp_path: Path, receiver: Receiver, jump: str
) -> None:
    """The queue lives by the database's clock: an engine whose own clock jumps neither hurries nor stalls."""
    preload = needed.library("libfaketime.so.1")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    service = service_on(database, tmp_path, TOCSIN_RETRY_SCHEDULE="1,1,1,1,1,1")
    service.engine = Process(
        "engine", log=tmp_path / "engine.log",
        environ={
            **service.environ, "LD_PRELOAD": preload, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    try:
        await asyncio.to_thread(service.start)
        service.project = await service.new_project()
        async with service.client() as client:
            stage = await scene(client, {"hook": receiver.url()})
            receiver.then(Answer(status=500), Answer(status=500))
            await stage.open(1)
            await receiver.arrivals(1)
            clock.write_text(jump)
            first, second, third = await receiver.arrivals(3)
            for earlier, later in ((first, second), (second, third)):
                assert 0.75 < later.monotonic - earlier.monotonic < 4
            await stage.open(20, 1)
            await receiver.arrivals(23)
            assert len(await stage.ended("hook", 21)) == 21
    finally:
        await asyncio.to_thread(service.stop)


async def test_twenty_random_kills_lose_nothing(record_property: Callable[[str, str], None]) -> None:
    result = await Chaos(SEED, longest=0.5).run(KILLS)
    record_property("said", str(result))
    assert result.good, str(result)


# ---------------------------------------------------------------------------- 3: opened is delivered before resolved


async def test_a_resolve_never_overtakes_its_opening(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        receiver.otherwise = Answer(status=500)
        await stage.open(50)
        await receiver.arrivals(25)
        await stage.resolve(50)
        receiver.otherwise = Answer()
        await stage.ended("hook", 100)
    orders: dict[str, list[str]] = {}
    for request in accepted(receiver):
        orders.setdefault(request.json["incident_type"], []).append(request.json["incident_status"])
    assert len(orders) == 50
    assert all(order == ["ongoing", "resolved"] for order in orders.values()), orders


async def test_a_resolve_does_not_wait_for_another_incident(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        receiver.then(Answer(how="hang"))
        await stage.open(1)
        await receiver.arrivals(1)
        await stage.open(1, start=1)
        await stage.resolve(1, start=1)
        _, opened, resolved = await receiver.arrivals(3, timeout=5)
    assert opened.json["incident_type"] == resolved.json["incident_type"] == "type_1"


# --------------------------------------------------------------- 4: a slow or dead destination delays no other


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "answers 500"])
async def test_a_dead_destination_delays_no_other(
    own_service: Service, new_receiver: Callable[[], Receiver], trouble: str
) -> None:
    dead, fine = new_receiver(), new_receiver()
    answer = TROUBLES[trouble]
    if answer is None:
        dead.refuse()
    else:
        dead.otherwise = answer
    async with own_service.client() as client:
        stage = await scene(client, {"dead": dead.url()})
        for start in range(0, 1000, 500):
            await stage.open(500, start)
        settings = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": fine.url()}}
        created = await client.post("/api/v1/integrations", json={"integration": settings})
        await client.post(f"/api/v1/integrations/{created.json()['uuid']}/attach_all")
        waits = []
        for number in range(20):
            asked = time.monotonic()
            await stage.open(1, start=5000 + number)
            arrived = await fine.arrivals(number + 1, timeout=5)
            waits.append(arrived[number].monotonic - asked)
    assert sorted(waits)[-2] < 1.0, [f"{wait:.3f}" for wait in waits]


# --------------------------------------------------------------------- 5: nothing is dropped silently, all is on record


async def test_every_attempt_is_on_record(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        receiver.then(Answer(status=500, body=b"out of paper"), Answer(how="cut"), Answer(how="reset"))
        await stage.open(1)
        [delivery] = await stage.ended("hook")
        record = await stage.delivery(delivery["uuid"])
    assert len(receiver.requests) == 4
    assert {request.id for request in receiver.requests} == {delivery["uuid"]}
    assert record["status"] == "delivered"
    assert record["attempts_count"] == 4
    attempts = record["attempts"]
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3, 4]
    assert all(attempt["started_at"] and attempt["duration_ms"] >= 0 for attempt in attempts)
    assert [attempt["status_code"] for attempt in attempts] == [500, None, None, 200]
    assert attempts[0]["response"] == "out of paper"
    assert attempts[1]["error"]
    assert attempts[2]["error"]


async def test_a_delivery_whose_tries_run_out_is_dead_and_says_why(service: Service, receiver: Receiver) -> None:
    receiver.otherwise = Answer(status=503, body=b"closed")
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        await stage.open(1)
        [delivery] = await stage.ended("hook")
    assert delivery["status"] == "dead"
    assert "503" in delivery["reason"]
    assert delivery["attempts_count"] == len(receiver.requests) == 11


async def test_a_destination_that_says_gone_gets_nothing_more(service: Service, receiver: Receiver) -> None:
    receiver.otherwise = Answer(status=410)
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        await stage.open(1)
        [delivery] = await stage.ended("hook")
        assert (delivery["status"], delivery["attempts_count"]) == ("dead", 1)
        assert "410" in delivery["reason"]
        health = (await client.get(f"/api/v1/integrations/{stage.integrations['hook']}/health")).json()
        assert health["status"] == "disabled"
        assert "410" in health["reason"]
        await stage.open(1, start=1)
        later = [each for each in await stage.ended("hook") if each["uuid"] != delivery["uuid"]]
        assert all(each["status"] == "suppressed" and each["reason"] for each in later)
    assert len(receiver.requests) == 1


async def test_a_destination_that_refuses_is_tried_twice_more(service: Service, receiver: Receiver) -> None:
    receiver.otherwise = Answer(status=404)
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        await stage.open(1)
        [delivery] = await stage.ended("hook")
    assert (delivery["status"], delivery["attempts_count"], len(receiver.requests)) == ("dead", 3, 3)
    assert "404" in delivery["reason"]


async def test_a_destination_that_asks_to_wait_is_waited_for(service: Service, receiver: Receiver) -> None:
    receiver.then(Answer(status=429, headers={"Retry-After": "2"}))
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        await stage.open(1)
        first, second = await receiver.arrivals(2)
        await stage.ended("hook")
    assert 1.9 < second.monotonic - first.monotonic < 5


async def test_people_are_told_at_the_end_what_could_not_be_said_at_the_beginning(
    service: Service, mailbox: Mailbox
) -> None:
    address = "on-call@example.com"
    mailbox.refusal = "451 not now"
    async with service.client() as client:
        stage = await scene(client, {})
        settings = {"type": "Integrations::EmailIntegration", "settings": {"email": address}}
        created = (await client.post("/api/v1/integrations", json={"integration": settings})).json()
        stage.integrations["mail"] = created["uuid"]
        await client.post(f"/api/v1/integrations/{created['uuid']}/attach_all")
        await stage.open(1)

        async def tried() -> bool:
            return any(each["attempts_count"] > 1 for each in await stage.deliveries("mail"))

        async def given_up() -> bool:
            return any(each["event"] == "opened" and each["finished_at"] for each in await stage.deliveries("mail"))

        await until(tried, what="a first try to fail")
        await stage.resolve(1)
        await until(given_up, what="the end of the first notice")
        mailbox.refusal = None
        by_event = {each["event"]: each for each in await stage.ended("mail", 2)}
    assert by_event["opened"]["status"] == "suppressed"
    assert by_event["opened"]["reason"]
    assert by_event["resolved"]["status"] == "delivered"
    [mail] = mailbox.to(address)
    assert "number 0" in mail.text


async def test_while_the_database_is_away_callers_are_told_to_come_back(receiver: Receiver) -> None:
    house = Installation()
    try:
        await asyncio.to_thread(house.start)
        async with house.client() as client:
            stage = await scene(client, {"hook": receiver.url()})
            answers: list[int] = []
            odd: list[str] = []
            stop = asyncio.Event()

            async def ask() -> None:
                number = 0
                while not stop.is_set():
                    number += 1
                    with contextlib.suppress(httpx.TransportError):
                        body = {"incidents": stage.members(1, number)}
                        answer = await client.post("/api/v1/incidents", json=body)
                        answers.append(answer.status_code)
                        if answer.status_code == 500:
                            odd.append(answer.text)

            asking = [asyncio.create_task(ask())]
            before = house.parts().postgres
            await asyncio.to_thread(house.kill, "postgres")
            await until(restarted(house, before), what="another PostgreSQL")
            await asyncio.to_thread(house.wait_ready)
            stop.set()
            await asyncio.gather(*asking)
            assert set(answers) <= {200, 201, 503}, f"{Counter(answers)} {odd}\n{house.up.said()[-6000:]}"
            await stage.open(1, start=100_000)
            await receiver.arrivals(where=lambda request: request.json["incident_type"] == "type_100000")
    finally:
        assert await asyncio.to_thread(house.stop) == 0


async def test_on_a_full_disk_callers_are_told_and_what_was_accepted_arrives_once_there_is_room(
    receiver: Receiver,
) -> None:
    if os.geteuid() != 0:
        needed.missing("a disk of its own needs root")
    needed.program("unshare")
    house = Installation(disk=300 << 20, TOCSIN_RETRY_SCHEDULE=PATIENT)
    try:
        await asyncio.to_thread(house.start)
        async with house.client() as client:
            stage = await scene(client, {"hook": receiver.url()})
            await asyncio.to_thread(receiver.refuse)
            accepted: set[str] = set()
            numbers = itertools.count()

            async def open_more() -> httpx.Response:
                batch = stage.members(100, 100 * next(numbers))
                answer = await client.post("/api/v1/incidents", json={"incidents": batch})
                if answer.status_code == 201:
                    accepted.update(each["incident_type"] for each in batch)
                return answer

            async def refused() -> httpx.Response | None:
                answer = await open_more()
                assert answer.status_code in (201, 503), answer.text
                return answer if answer.status_code == 503 else None

            async def accepts() -> bool:
                return (await open_more()).status_code == 201

            assert await accepts()
            await asyncio.to_thread(house.fill_disk)
            told = await until(refused, what="a refusal", timeout=30)
            assert told.json()["error"] == "unavailable"
            assert told.headers["retry-after"]
            await asyncio.to_thread(house.free_disk)
            await until(accepts, what="an incident to be accepted again", timeout=40)
            await asyncio.to_thread(receiver.listen)

            async def all_there() -> bool:
                return accepted <= {request.json["incident_type"] for request in list(receiver.requests)}

            await until(all_there, what="everything that was accepted", timeout=40)
    finally:
        await asyncio.to_thread(house.stop)
