"""The fifth promise: nothing is dropped silently, and all is on record."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import Counter

import httpx

from tests import needed
from tests.installation import Installation
from tests.promise_scene import PATIENT, restarted, scene
from tests.receivers import Answer, Mailbox, Receiver
from tests.service import Service
from tests.waiting import until


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
