"""At most once, shown: the engine is killed at every edge of a restart, and the machine is never restarted twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.calls import new_server
from tests.receivers import Mailbox
from tests.service import Service, mail_by, service_on, started
from tests.ssh_scene import Scene, scene
from tests.sshd import Machine, Relay, machine
from tests.waiting import poll, until
from tocsin.storage.delivery.leases import UNKNOWN_END

pytestmark = pytest.mark.timeout(300)

PEOPLE = "oncall@example.com"


@pytest_asyncio.fixture
async def service(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Service]:
    """Without cooldown or daily limit: what keeps a restart from happening twice here is nothing but the order."""
    limits = {"TOCSIN_SSH_COOLDOWN": "0", "TOCSIN_SSH_DAILY_LIMIT": "1000"}
    async with started(service_on(database, tmp_path, **limits, **mail_by(mailbox))) as service:
        yield service


@pytest.fixture
def targets() -> Iterator[list[Machine]]:
    """Machines that stay as they are when they are restarted."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(contextlib.closing(machine())) for _ in range(4)]
        for each in made:
            each.behave("password", then="stay")
        yield made


@pytest_asyncio.fixture
async def here(service: Service, relay: Relay) -> AsyncIterator[Scene]:
    async with service.client() as client:
        mail = {"type": "Integrations::EmailIntegration", "settings": {"email": PEOPLE}}
        await client.post("/api/v1/integrations", json={"integration": mail})
        yield await scene(client, relay.port)


async def asked(service: Service, statement: str) -> Any:
    connection = await asyncpg.connect(service.database)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def past_no_return(service: Service) -> None:
    async def look() -> bool:
        return bool(await asked(service, "SELECT bool_or(past_no_return) FROM outstanding"))

    await until(look, what="the point of no return")


async def another_engine(service: Service, than: int) -> None:
    async def look() -> bool:
        return bool(await asked(service, f"SELECT max(number) > {than} FROM engines"))

    await until(look, what="another engine")


async def test_killed_after_the_intent_before_the_connection_it_restarts_once(
    service: Service, here: Scene, relay: Relay, target: Machine
) -> None:
    relay.hold()
    uuid = await here.open()
    await asyncio.to_thread(poll, lambda: relay.connected == 1, what="a connection that nobody answers")
    assert await asked(service, "SELECT count(*) FROM restarts WHERE sent_at IS NULL") == 1, "the intent is on record"
    service.engine.kill()
    relay.let_go()
    service.start()
    done = await here.ended(uuid)
    assert (done["status"], target.reboots) == ("delivered", 1)
    assert [each["outcome"] for each in done["attempts"]] == ["lost", "delivered"]


async def test_killed_after_the_login_before_the_point_of_no_return_it_restarts_once(
    service: Service, here: Scene, target: Machine
) -> None:
    target.behave("hesitant")
    uuid = await here.open()
    await asyncio.to_thread(poll, lambda: bool(target.calls), what="sudo to be asked")
    service.engine.kill()
    assert await asked(service, "SELECT bool_or(past_no_return) FROM outstanding") is False
    target.behave("password")
    service.start()
    done = await here.ended(uuid)
    assert (done["status"], target.reboots) == ("delivered", 1)


async def test_killed_behind_the_point_of_no_return_before_the_command_it_never_restarts(
    service: Service, here: Scene, relay: Relay, target: Machine, mailbox: Mailbox
) -> None:
    target.behave("hesitant")
    uuid = await here.open()
    await asyncio.to_thread(poll, lambda: bool(target.calls), what="sudo to be asked")
    relay.hold()  # its answer comes through, and what the engine says after that does not
    target.behave("password")
    await past_no_return(service)
    service.engine.kill()
    relay.let_go()
    service.start()
    done = await here.ended(uuid)
    assert (done["status"], done["reason"].partition(";")[0]) == ("dead", UNKNOWN_END)
    assert target.reboots == 0
    [told] = await mailbox.arrivals(1, to=PEOPLE)
    assert "It is not known whether" in told.text


async def test_killed_after_the_command_was_sent_it_is_not_sent_again(
    service: Service, here: Scene, target: Machine, mailbox: Mailbox
) -> None:
    target.behave("silent")
    uuid = await here.open()
    await asyncio.to_thread(poll, lambda: sent(target) == 1, what="the command")
    service.engine.kill()
    target.behave("password")
    service.start()
    done = await here.ended(uuid)
    assert (done["status"], done["reason"].partition(";")[0]) == ("dead", UNKNOWN_END)
    assert sent(target) == 1
    await mailbox.arrivals(1, to=PEOPLE)


async def test_stopped_after_the_command_was_sent_it_is_not_sent_again(
    service: Service, here: Scene, target: Machine
) -> None:
    target.behave("silent")
    uuid = await here.open()
    await asyncio.to_thread(poll, lambda: sent(target) == 1, what="the command")
    assert await asyncio.to_thread(service.engine.stop) == 0
    target.behave("password")
    service.start()
    done = await here.ended(uuid)
    assert done["status"] == "dead"
    assert "unknown" in done["reason"]
    assert sent(target) == 1


@pytest.mark.timeout(300)
async def test_killed_at_random_moments_no_incident_restarts_the_machine_twice(
    service: Service, client: httpx.AsyncClient, targets: list[Machine], record_property: Any
) -> None:
    """Each machine has one incident at a time; those of the others are on their way while the engine is killed."""
    chance = random.Random(20_260_101)
    scenes = [await scene(client, each.port, await new_server(client, f"at {each.port}")) for each in targets]
    open_: dict[int, tuple[str, int]] = {}
    ends = []

    async def end(place: int) -> None:
        uuid, before = open_.pop(place)
        ends.append((await scenes[place].ended(uuid))["status"])
        assert targets[place].reboots - before <= 1
        assert ends[-1] != "delivered" or targets[place].reboots - before == 1

    for number in range(12):
        place = number % len(targets)
        if place in open_:
            await end(place)
        before = targets[place].reboots
        open_[place] = await scenes[place].open(f"type_{number}"), before
        await asyncio.sleep(chance.uniform(0, 0.5))
        killed = await asked(service, "SELECT max(number) FROM engines")
        service.engine.kill()
        service.start()
        await another_engine(service, killed)
    for place in sorted(open_):
        await end(place)
    record_property("said", f"12 kills: {ends.count('delivered')} delivered, {ends.count('dead')} unknown, none twice")


def sent(target: Machine) -> int:
    return sum("-l" not in call.words for call in target.calls)
