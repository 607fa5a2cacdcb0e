"""What a receiver missed is sent again: all of it, once, in order, and never in the way of what is new."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from tests.promise_scene import scene
from tests.receivers import Answer, Receiver
from tests.replay_scene import accepted, down, ended, read, replayed
from tests.service import Service
from tests.waiting import until


async def test_what_a_receiver_missed_is_sent_again_in_order_and_each_is_on_record(
    service: Service, receiver: Receiver
) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(service, stage):
            for number in range(20):
                await stage.open(1, number)
                await stage.resolve(1, number)
        lost = await stage.deliveries("hook")
        assert {each["status"] for each in lost} == {"dead"}
        replay = await replayed(client, stage.integrations["hook"])
        assert (replay["state"], replay["total"], replay["status"]) == ("running", 40, "dead")
        done = await ended(client, replay["uuid"])
        assert (done["queued"], done["delivered"], done["dead"], done["skipped"]) == (40, 40, 0, 0)
        again = [each for each in await stage.deliveries("hook") if each["redelivery_of"]]
        assert Counter(each["redelivery_of"] for each in again) == Counter(each["uuid"] for each in lost)
    seen = accepted(receiver)
    for number in range(20):
        of_one = [status for kind, status in seen if kind == f"type_{number}"]
        assert of_one == ["ongoing", "resolved"]
    places = {kind: place for place, (kind, status) in enumerate(seen) if status == "ongoing"}
    assert all(places[f"type_{number}"] < places[f"type_{number + 10}"] for number in range(10)), seen


async def test_nothing_of_a_replay_is_lost_or_sent_twice_when_its_engine_is_killed_again_and_again(
    own_service: Service, receiver: Receiver
) -> None:
    async with own_service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(own_service, stage):
            await stage.open(90)
        lost = await stage.deliveries("hook")
        receiver.otherwise = Answer(after=0.02)
        before = len(receiver.requests)
        replay = await replayed(client, stage.integrations["hook"])
        for reached in (15, 45):
            await receiver.arrivals(before + reached)
            await asyncio.to_thread(own_service.engine.kill)
            await asyncio.to_thread(own_service.start)
        done = await ended(client, replay["uuid"])
        assert (done["total"], done["queued"], done["delivered"]) == (90, 90, 90)
        again = [each for each in await stage.deliveries("hook") if each["redelivery_of"]]
        assert Counter(each["redelivery_of"] for each in again) == Counter(each["uuid"] for each in lost)


async def test_two_engines_share_the_work_and_send_nothing_twice(own_service: Service, receiver: Receiver) -> None:
    own_service.add_engine()
    async with own_service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(own_service, stage):
            await stage.open(100)
        done = await ended(client, (await replayed(client, stage.integrations["hook"]))["uuid"])
        assert (done["total"], done["queued"], done["delivered"]) == (100, 100, 100)
    assert Counter(kind for kind, _ in accepted(receiver)) == {f"type_{number}": 1 for number in range(100)}


async def test_what_is_new_overtakes_a_replay(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(service, stage):
            await stage.open(200)
        receiver.otherwise = Answer(after=0.2)
        before = len(receiver.requests)
        replay = await replayed(client, stage.integrations["hook"])
        await receiver.arrivals(before + 10)
        began = time.monotonic()
        await stage.open(1, 1_000)
        [fresh] = await receiver.arrivals(1, where=lambda request: request.json["incident_type"] == "type_1000")
        now = await read(client, replay["uuid"])
        assert now["state"] == "running"
        assert now["queued"] < 150, now
        assert fresh.monotonic - began < 5.0
        stopped = await client.post(f"/api/v1/replays/{replay['uuid']}/stop")
        assert stopped.json()["state"] == "stopped"
        at_end = await ended(client, replay["uuid"], "stopped")
        assert at_end["queued"] < 200


async def test_the_end_of_an_incident_is_sent_after_its_beginning_although_it_had_arrived(
    service: Service, receiver: Receiver
) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(service, stage):
            await stage.open(3)
        await stage.resolve(2)
        await stage.ended("hook", 5)
        done = await ended(client, (await replayed(client, stage.integrations["hook"]))["uuid"])
        assert (done["total"], done["delivered"]) == (5, 5)
    seen = accepted(receiver)
    for number, expected in enumerate((["resolved", "ongoing", "resolved"],) * 2 + (["ongoing"],)):
        assert [status for kind, status in seen if kind == f"type_{number}"] == expected


async def test_a_receiver_that_fails_is_sent_one_at_a_time_and_goes_on_when_it_works(
    service: Service, receiver: Receiver
) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(service, stage):
            await stage.open(30)
        receiver.otherwise = Answer(status=500)
        before = len(receiver.requests)
        replay = await replayed(client, stage.integrations["hook"])
        await receiver.arrivals(before + 4)
        failing = await read(client, replay["uuid"])
        assert failing["queued"] == 1
        assert "one delivery at a time" in failing["reason"]
        receiver.otherwise = Answer()
        done = await ended(client, replay["uuid"])
        assert (done["delivered"], done["reason"]) == (30, None)


async def test_a_replay_waits_while_its_integration_is_disabled(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        async with down(service, stage):
            await stage.open(10)
        receiver.otherwise = Answer(status=410)
        replay = await replayed(client, stage.integrations["hook"])

        async def waiting() -> bool:
            return "disabled" in ((await read(client, replay["uuid"]))["reason"] or "")

        await until(waiting, what="that it waits")
        receiver.otherwise = Answer()
        assert (await read(client, replay["uuid"]))["state"] == "running"
        await client.post(f"/api/v1/integrations/{stage.integrations['hook']}/enable")
        done = await ended(client, replay["uuid"])
        assert (done["queued"], done["delivered"], done["dead"]) == (10, 9, 1)
