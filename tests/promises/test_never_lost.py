"""The second promise: every delivery is tried at least once after any crash, of whatever part."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needed
from tests.chaos import Chaos
from tests.installation import Installation, Part
from tests.processes import Process
from tests.promise_scene import PATIENT, TROUBLES, Troubled, patient, restarted, scene
from tests.receivers import Answer, Receiver
from tests.service import Service, service_on
from tests.waiting import until

__all__ = ["patient"]

SEED = 20
KILLS = 20


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
