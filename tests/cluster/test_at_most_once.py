"""Machines are restarted at most once, whatever becomes of the database's primary meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.calls import new_server
from tests.cluster import nodes
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.receivers import Mail, Mailbox
from tests.service import Service, mail_by, service_on, started
from tests.ssh_scene import Scene, scene
from tests.sshd import Machine, machine
from tests.waiting import poll, until
from tocsin.storage.delivery import failovers
from tocsin.storage.delivery.leases import UNKNOWN_END
from tocsin.storage.postgres import connecting, replication

pytestmark = pytest.mark.timeout(240)

PEOPLE = "oncall@example.com"
MACHINES, FEW = 20, 8
UNLIMITED = {"TOCSIN_SSH_COOLDOWN": "0", "TOCSIN_SSH_DAILY_LIMIT": "1000"}
"""What keeps a restart from happening twice here is nothing but the order of things."""


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Machine]]:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as several:
        made = [each.result() for each in [several.submit(machine) for _ in range(MACHINES)]]
        for each in made:
            stack.callback(each.close)
        yield made


@pytest.fixture
def targets(machines: list[Machine]) -> list[Machine]:
    """Machines that stay as they are when they are restarted."""
    for each in machines:
        each.forget()
        each.behave("password", then="stay")
    return machines


@pytest_asyncio.fixture
async def asynchronous(prepared: Path) -> AsyncIterator[tuple[Node, Node]]:
    with nodes.pair(prepared, synchronous=False) as (primary, standby):
        await nodes.in_step(primary)
        yield primary, standby


def service_at(folder: Path, mailbox: Mailbox, *ports: int) -> Service:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return service_on(f"postgresql://tocsin@{hosts}/tocsin", folder, **UNLIMITED, **mail_by(mailbox))


async def scenes(client: httpx.AsyncClient, targets: list[Machine]) -> list[Scene]:
    """A server of its own for each machine, and somebody who is told."""
    mail = {"type": "Integrations::EmailIntegration", "settings": {"email": PEOPLE}}
    assert (await client.post("/api/v1/integrations", json={"integration": mail})).status_code == 201
    return [await scene(client, each.port, await new_server(client, f"at {each.port}")) for each in targets]


async def ended(stages: list[Scene], uuids: list[str]) -> list[dict[str, Any]]:
    return [await stage.ended(uuid) for stage, uuid in zip(stages, uuids, strict=True)]


def reboots(targets: list[Machine]) -> Counter[int]:
    """How many machines were restarted how often."""
    return Counter(each.reboots for each in targets)


async def test_what_a_new_primary_does_not_know_of_is_not_restarted_again(
    asynchronous: tuple[Node, Node], tmp_path: Path, targets: list[Machine], mailbox: Mailbox
) -> None:
    """The standby has the incidents, and nothing of what became of them: it was away, and nothing told of it."""
    primary, standby = asynchronous
    wire = Wire(primary.port)
    service = service_at(tmp_path, mailbox, wire.port)
    try:
        service.api.start()
        await asyncio.to_thread(poll, lambda: answers(service), what="the API")
        service.project = await service.new_project()
        async with service.client() as client:
            stages = await scenes(client, targets)
            uuids = [await stage.open() for stage in stages]
            await in_step(primary, standby)
            standby.end()
            await until(lambda: nobody_follows(primary), what="nobody to follow")
            service.engine.start()
            await asyncio.to_thread(poll, lambda: reboots(targets) == {1: MACHINES}, what="20 restarts")
            primary.kill()
            standby.start()
            await standby.promote()
            pending = await standby.run("SELECT FROM outstanding WHERE NOT repeatable AND status = 'pending'")
            assert len(pending) == MACHINES, "it would make them all"
            wire.to = standby.port
            wire.cut()
            ends = await ended(stages, uuids)
        assert reboots(targets) == {1: MACHINES}, "not one of them twice"
        unknown = [each.port for each, end in zip(targets, ends, strict=True) if end["status"] == "dead"]
        assert unknown, "of others the engine that lives knew the end, and had not recorded it yet"
        assert {end["reason"] for end in ends} <= {failovers.UNKNOWN, None}
        told = await mailbox.arrivals(len(unknown), to=PEOPLE)
        assert all(
            any(f"whether 127.0.0.1:{port} was restarted" in line(mail) for mail in told) for port in unknown
        )
    finally:
        service.stop()
        wire.close()


@pytest.mark.parametrize("engine", ["lives", "dies with the primary"])
async def test_with_a_synchronous_standby_each_machine_is_restarted_once_or_its_people_are_told(
    pair: tuple[Node, Node], tmp_path: Path, targets: list[Machine], mailbox: Mailbox, engine: str,
    record_property: Callable[[str, str], None],
) -> None:  # fmt: skip
    """The primary is killed while restarts cross the point of no return. What has not crossed it by then is not made:
    the new primary has no standby.
    """
    primary, standby = pair
    targets = targets if engine == "lives" else targets[:FEW]
    for each in targets:
        each.behave("hesitant", then="stay")
    async with (
        started(service_at(tmp_path, mailbox, primary.port, standby.port)) as service, service.client() as client,
    ):  # fmt: skip
        stages = await scenes(client, targets)
        uuids = [await stage.open() for stage in stages]
        await asyncio.to_thread(poll, lambda: all(each.calls for each in targets), what="all under way")
        for each in targets:
            each.behave("password", then="stay")
        await asyncio.to_thread(poll, lambda: reboots(targets)[1] > 1, what="the first restarts")
        if engine != "lives":
            service.engine.kill()
        primary.kill()
        await standby.promote()
        if engine != "lives":
            service.engine.start()
        ends = await ended(stages, uuids)
        assert set(reboots(targets)) <= {0, 1}, reboots(targets)
        dead = [end for end in ends if end["status"] != "delivered"]
        for end, each in zip(ends, targets, strict=True):
            reason = (end["reason"] or "").partition(";")[0]
            if reason == UNKNOWN_END:
                assert engine != "lives", "what a living engine holds is not taken back"
            elif end["status"] == "dead":
                assert (each.reboots, reason) == (0, failovers.NO_STANDBY.partition(";")[0])
            else:
                assert each.reboots == 1
        told = await mailbox.arrivals(len(dead), to=PEOPLE)
        assert len(told) == len(dead)
    unknown = sum(UNKNOWN_END in end["reason"] for end in dead)
    once = f"of {len(targets)} machines {reboots(targets)[1]} were restarted once"
    record_property("said", f"{once}; people were told of {len(dead)}, {unknown} of them unknown")


async def test_without_a_synchronous_standby_no_restart_is_made_and_people_are_told(
    asynchronous: tuple[Node, Node], tmp_path: Path, target: Machine, mailbox: Mailbox
) -> None:
    primary, standby = asynchronous
    async with started(service_at(tmp_path, mailbox, primary.port)) as service, service.client() as client:
        [stage] = await scenes(client, [target])
        end = await stage.restart()
        assert (end["status"], end["reason"]) == ("dead", failovers.ASYNCHRONOUS)
        assert "set synchronous_standby_names" in end["reason"]
        [told] = await mailbox.arrivals(1, to=PEOPLE)
        assert f"on at {target.port} was not made: the database's replication is asynchronous" in line(told)
        assert (await stage.test())["status"] == "delivered", "a dry run restarts nothing"

        # One that has been there is expected back, for a while: first its slot says so, and then the record.
        standby.end()
        await until(lambda: nobody_follows(primary), what="nobody to follow")
        end = await stage.restart("ram_gone")
        assert (end["status"], len(end["attempts"])) == ("dead", 3), "it may come back in a moment"
        assert end["reason"].startswith(failovers.NO_STANDBY)
        await primary.run("UPDATE timeline SET standby_seen_at = now() - interval '2 days'")
        await primary.run("SELECT pg_create_physical_replication_slot('its_slot')")
        assert (await stage.restart("disk_gone"))["status"] == "dead"
        assert target.reboots == 0

        await primary.run("SELECT pg_drop_replication_slot('its_slot')")
        end = await stage.restart("all_gone")
        assert (end["status"], target.reboots) == ("delivered", 1), "a server that is alone, as its operator means it"


async def test_a_restart_that_is_not_made_for_the_databases_sake_is_no_failure_of_its_machine(
    asynchronous: tuple[Node, Node], tmp_path: Path, target: Machine, mailbox: Mailbox
) -> None:
    async with (
        started(service_at(tmp_path, mailbox, asynchronous[0].port)) as service, service.client() as client,
    ):  # fmt: skip
        stage = await scene(client, target.port)
        assert (await stage.restart())["reason"] == failovers.ASYNCHRONOUS
        nowhere = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "http://127.0.0.1:9/"}}
        made = (await client.post("/api/v1/integrations", json={"integration": nowhere})).json()["uuid"]
        assert (await client.post(f"/api/v1/integrations/{made}/test")).status_code == 202

        async def failing() -> list[str] | None:
            rows = await asynchronous[0].run("SELECT type FROM integrations WHERE failing_since IS NOT NULL")
            return [row["type"] for row in rows] or None

        assert await until(failing, what="failures to be counted") == [nowhere["type"]]


@pytest.mark.parametrize(
    ("default", "then"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
async def test_the_point_of_no_return_waits_for_a_standby_whatever_the_default(
    pair: tuple[Node, Node], default: str, then: str
) -> None:
    session = await connecting.connect(pair[0].dsn)
    await session.execute(f"SET synchronous_commit = {default}")
    async with session.transaction():
        await replication.wait_for_standby(session)
        assert await session.fetchval("SHOW synchronous_commit") == then
    assert await session.fetchval("SHOW synchronous_commit") == default, "for that transaction only"
    await session.close()


async def test_a_restart_that_no_standby_confirms_is_not_made_though_others_do_not_wait_for_it(
    pair: tuple[Node, Node], tmp_path: Path, target: Machine, mailbox: Mailbox
) -> None:
    primary, standby = pair
    await primary.run("ALTER SYSTEM SET synchronous_commit = off")
    await primary.run("SELECT pg_reload_conf()")
    target.behave("password", then="stay")
    service = service_at(tmp_path, mailbox, primary.port)
    service.engine.environ["TOCSIN_RETRY_SCHEDULE"] = "2"

    async def counted_between_two_attempts() -> list[bool] | None:
        rows = await primary.run(
            """SELECT r.sent_at IS NOT NULL AS sent FROM restarts r JOIN outstanding o ON o.id = r.delivery_id
               WHERE o.status = 'pending' AND o.attempt = 1"""
        )
        return [row["sent"] for row in rows] or None

    async with started(service), service.client() as client:
        [stage] = await scenes(client, [target])
        assert (await stage.restart())["status"] == "delivered"
        standby.freeze()
        uuid = await stage.open("ram_gone")
        counted = await until(counted_between_two_attempts, what="the time between two attempts")
        assert counted == [False], "it was not made, and takes no other's turn while it waits for the next attempt"
        end = await stage.ended(uuid)
        assert (end["status"], len(end["attempts"]), target.reboots) == ("dead", 2, 1)
        assert end["reason"].startswith(failovers.UNCONFIRMED)
        told = await mailbox.arrivals(1, to=PEOPLE)
        assert "was not made: no synchronous standby confirmed" in line(told[-1])
        assert not await primary.run("SELECT FROM restarts WHERE sent_at IS NOT NULL AND look_at IS NULL")
        standby.thaw()
        assert (await stage.restart("disk_gone"))["status"] == "delivered", "it is confirmed again"
        assert target.reboots == 2


def line(mail: Mail) -> str:
    return " ".join(mail.text.split())


def answers(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/health/live", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


async def nobody_follows(primary: Node) -> bool:
    return not await primary.run("SELECT FROM pg_stat_replication")


async def in_step(primary: Node, standby: Node) -> None:
    """Until the standby has all that there is now."""
    written = (await primary.run("SELECT pg_current_wal_lsn()::text AS lsn"))[0]["lsn"]

    async def there() -> bool:
        return bool((await standby.run("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written))[0][0])

    await until(there, what="the standby to be in step")
