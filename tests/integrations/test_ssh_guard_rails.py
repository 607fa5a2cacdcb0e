"""The guard rails of restarts: which incidents, how often, one at a time, and what a person may order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.calls import new_server
from tests.postgres import Postgres
from tests.receivers import Mailbox
from tests.service import Service, shared_service
from tests.ssh_scene import Scene, scene
from tests.sshd import Machine, Relay
from tests.waiting import poll, until
from tocsin.domain import ids

NOT_FOR_NOW = " was restarted as often as is allowed for now; nothing was restarted, try again later"
"""All that one project hears of another's restarts, after the target."""


@pytest.fixture
def target(target: Machine) -> Machine:
    target.behave("password", then="stay")
    return target


async def signed_in(service: Service) -> httpx.AsyncClient:
    service.project = await service.new_project()
    return service.client()


async def in_database(service: Service, statement: str, *values: Any) -> None:
    connection = await asyncpg.connect(service.database)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def of_its_project(service: Service, statement: str) -> None:
    await in_database(service, f"{statement} WHERE project_id = $1", service.project.id)


@pytest.fixture(scope="module")
def restless(
    postgres: Postgres, _mail_server: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that tries again after a second, and may restart a machine as often as it is told to."""
    settings = {"TOCSIN_SSH_COOLDOWN": "0", "TOCSIN_SSH_DAILY_LIMIT": "100", "TOCSIN_RETRY_SCHEDULE": "1" + ",1" * 30}
    with shared_service(postgres, tmp_path_factory.mktemp("restless"), _mail_server, **settings) as service:
        yield service


# -------------------------------------------------------------------------------------------------- how often, in all


async def test_the_cooldown_holds_over_all_integrations_that_name_the_target(
    service: Service, client: httpx.AsyncClient, target: Machine
) -> None:
    first = await scene(client, target.port)
    assert (await first.restart())["status"] == "delivered"
    for ip in ("127.0.0.1", "LocalHost"):  # another name, which turns out to be the same address
        other = await scene(client, target.port, await new_server(client, f"server of {ip}"), ip=ip)
        done = await other.restart()
        assert done["status"] == "suppressed"
        assert done["reason"].startswith("cooldown: ")
        assert "not again before 20" in done["reason"]
    assert target.reboots == 1


async def test_the_daily_limit_names_itself_and_its_end(
    service_with: Callable[..., Service], target: Machine
) -> None:
    service = service_with(TOCSIN_SSH_COOLDOWN="0", TOCSIN_SSH_DAILY_LIMIT="2")
    async with await signed_in(service) as client:
        here = await scene(client, target.port)
        ends = [await here.restart(kind) for kind in ("a", "b", "c")]
        assert [each["status"] for each in ends] == ["delivered", "delivered", "suppressed"]
        assert ends[2]["reason"].startswith(f"daily limit: 127.0.0.1:{target.port} was restarted 2 times")
        await in_database(service, "UPDATE restarts SET sent_at = sent_at - interval '25 h' WHERE sent_at IS NOT NULL")
        assert (await here.restart("d"))["status"] == "delivered"
        assert target.reboots == 3


async def test_one_restart_of_a_target_at_a_time(
    restless: Service, target: Machine, relay: Relay
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, relay.port)
        relay.hold()
        both = [await here.open("a"), await here.open("b")]

        async def one_waits() -> bool:
            """For the other, whichever of the two came first this time."""
            tries = [each for uuid in both for each in (await here.delivery(uuid))["attempts"]]
            return any(each["error"] == f"another restart of 127.0.0.1:{relay.port} is under way" for each in tries)

        await until(one_waits, what="one of them to be told to wait")
        relay.let_go()
        assert [(await here.ended(uuid))["status"] for uuid in both] == ["delivered", "delivered"]
        assert target.reboots == 2


# ------------------------------------------------------------------------------------------------ of several projects


@pytest_asyncio.fixture
async def stranger(service: Service, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another project on the shared service."""
    other = await service.new_project()
    async with service.client(other.api_token) as theirs:
        yield theirs


async def test_a_project_that_cannot_log_in_disturbs_no_other_and_learns_nothing_of_it(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, target: Machine, relay: Relay
) -> None:
    here = await scene(client, relay.port)
    there = await scene(stranger, relay.port, password="guessed")
    relay.hold()
    guessing = [await there.open(f"guess_{number}") for number in range(3)]
    await asyncio.to_thread(poll, lambda: relay.connected >= 1, what="the stranger to connect")
    before = relay.connected
    mine = await here.open()
    await asyncio.to_thread(poll, lambda: relay.connected > before, what="the owner to connect")
    relay.let_go()
    done = await here.ended(mine)
    assert (done["status"], target.reboots) == ("delivered", 1)
    guessing.append(await there.open("after_the_restart"))
    for uuid in guessing:
        failed = await there.ended(uuid)
        assert failed["status"] == "dead"
        said = " ".join(str(each["error"]) for each in failed["attempts"])
        assert "Authentication failed" in said
        assert "restarted" not in said
    assert target.reboots == 1


async def test_projects_that_can_log_in_share_the_guard_rails_without_hearing_of_each_other(
    service: Service, client: httpx.AsyncClient, stranger: httpx.AsyncClient, target: Machine
) -> None:
    here, there = await scene(client, target.port), await scene(stranger, target.port)
    assert (await here.restart())["status"] == "delivered"
    done = await there.restart()
    assert (done["status"], target.reboots) == ("suppressed", 1)
    assert done["reason"].endswith(NOT_FOR_NOW)
    assert "sudo -S -p '' -l reboot" in target.texts, "they were logged in"


async def test_of_two_projects_behind_their_logins_one_restarts_and_the_other_does_not_hear_why(
    restless: Service, target: Machine, relay: Relay
) -> None:
    async with await signed_in(restless) as client:
        other = await restless.new_project()
        async with restless.client(other.api_token) as stranger:
            scenes = [await scene(each, relay.port) for each in (client, stranger)]
            target.behave("hesitant", then="stay")
            both = [await each.open() for each in scenes]
            await asyncio.to_thread(poll, lambda: len(target.calls) == 2, what="sudo to be asked by both")
            relay.hold()  # its answers come through, and what the engine says after that does not
            target.behave("password", then="stay")

            async def one_is_refused() -> bool:
                found = [await each.delivery(uuid) for each, uuid in zip(scenes, both, strict=True)]
                return any(each["finished_at"] for each in found)

            await until(one_is_refused, what="one of them to be refused")
            relay.let_go()
            ends = [await each.ended(uuid) for each, uuid in zip(scenes, both, strict=True)]
            assert (sorted(each["status"] for each in ends), target.reboots) == (["delivered", "suppressed"], 1)
            [refused] = [each["reason"] for each in ends if each["status"] == "suppressed"]
            assert refused == f"127.0.0.1:{relay.port}{NOT_FOR_NOW}"


# --------------------------------------------------------------------------------------------------- which incidents


async def test_only_incident_types_that_a_restart_can_help(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port, incident_types=["downtime", "ram"])
    done = await here.restart("disk")
    assert (done["status"], target.reboots) == ("suppressed", 0)
    assert "disk is not among this integration's incident_types" in done["reason"]
    assert (await here.restart("ram"))["status"] == "delivered"


async def test_what_only_warns_restarts_nothing_unless_it_is_asked_for_by_name(
    client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port)
    done = await here.restart("clock")
    assert (done["status"], target.reboots) == ("suppressed", 0)
    assert "a warning" in done["reason"]
    asked = await scene(client, target.port, await new_server(client, "another"), incident_types=["clock"])
    assert (await asked.restart("clock"))["status"] == "delivered"


async def waiting_delivery(here: Scene, target: Machine) -> str:
    """One that has failed, because the machine is off, and will be tried again; the machine is on again."""
    target.stop()
    uuid = await here.open()
    await here.tried(uuid)
    return uuid


async def test_an_incident_that_was_resolved_meanwhile_restarts_nothing(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        uuid = await waiting_delivery(here, target)
        await here.resolve()
        target.start()
        done = await here.ended(uuid)
        assert done["status"] == "suppressed"
        assert "resolved before the restart" in done["reason"]
        assert target.reboots == 0


async def test_an_incident_that_is_older_than_half_an_hour_restarts_nothing(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        uuid = await waiting_delivery(here, target)
        await of_its_project(restless, "UPDATE incidents SET created_at = created_at - interval '31 min'")
        target.start()
        done = await here.ended(uuid)
        assert (done["status"], target.reboots) == ("suppressed", 0)
        assert "more than 30 minutes ago" in done["reason"]


async def test_an_incident_that_is_resolved_while_the_command_is_prepared_restarts_nothing(
    client: httpx.AsyncClient, target: Machine, relay: Relay
) -> None:
    here = await scene(client, relay.port)
    relay.hold()
    uuid = await here.open()
    await asyncio.to_thread(poll, lambda: relay.connected == 1, what="a connection")
    await here.resolve()
    relay.let_go()
    done = await here.ended(uuid)
    assert (done["status"], target.reboots) == ("suppressed", 0)
    assert "resolved before the restart" in done["reason"]


async def test_a_snoozed_incident_restarts_nothing(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        uuid = await waiting_delivery(here, target)
        incident = (await here.delivery(uuid))["incident_uuid"]
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        assert (await client.post(f"/api/v1/incidents/{incident}/snooze", json={"until": later})).status_code == 200
        await of_its_project(restless, "UPDATE outstanding SET due_at = now()")
        target.start()
        done = await here.ended(uuid)
        assert (done["status"], target.reboots) == ("suppressed", 0)
        assert "snoozed" in done["reason"]


async def test_a_silence_that_begins_while_a_restart_is_to_be_tried_again_forbids_it(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        uuid = await waiting_delivery(here, target)
        now = datetime.now(UTC)
        silence = {"name": "Sunday", "starts_at": now.isoformat(), "ends_at": (now + timedelta(hours=1)).isoformat()}
        assert (await client.post("/api/v1/silences", json={"silence": silence})).status_code == 201
        await of_its_project(restless, "UPDATE outstanding SET due_at = now()")
        target.start()
        done = await here.ended(uuid)
        assert (done["status"], target.reboots) == ("suppressed", 0)
        assert done["reason"].startswith('silence "Sunday" until ')


# ------------------------------------------------------------------------------------------------- a person's order


async def test_a_redelivery_is_an_order_that_must_be_confirmed_while_the_incident_lasts(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        done = await here.restart()
        path = f"/api/v1/deliveries/{done['uuid']}/redeliver"
        for body in (None, {}, {"confirm": False}):
            answer = await client.post(path, json=body) if body is not None else await client.post(path)
            assert answer.status_code == 422, answer.text
            assert answer.json()["details"][0]["field"] == "confirm"
        ordered = await client.post(path, json={"confirm": True})
        assert ordered.status_code == 202, ordered.text
        again = await here.ended(ordered.json()["uuid"])
        assert (again["status"], again["redelivery_of"], target.reboots) == ("delivered", done["uuid"], 2)
        await here.resolve()
        over = await client.post(path, json={"confirm": True})
        assert (over.status_code, over.json()["error"]) == (422, "unprocessable_entity")
        assert target.reboots == 2


async def test_an_order_obeys_the_guard_rails(client: httpx.AsyncClient, target: Machine) -> None:
    here = await scene(client, target.port)
    done = await here.restart()
    ordered = await client.post(f"/api/v1/deliveries/{done['uuid']}/redeliver", json={"confirm": True})
    again = await here.ended(ordered.json()["uuid"])
    assert (again["status"], target.reboots) == ("suppressed", 1)
    assert again["reason"].startswith("cooldown: ")


async def test_an_order_for_an_old_incident_counts_from_the_order(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        done = await here.restart()
        await of_its_project(restless, "UPDATE incidents SET created_at = created_at - interval '3 h'")
        ordered = await client.post(f"/api/v1/deliveries/{done['uuid']}/redeliver", json={"confirm": True})
        assert (await here.ended(ordered.json()["uuid"]))["status"] == "delivered"


async def test_a_reminder_of_an_incident_does_not_restart_a_second_time(
    restless: Service, target: Machine
) -> None:
    async with await signed_in(restless) as client:
        here = await scene(client, target.port)
        done = await here.restart()
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        path = f"/api/v1/incidents/{done['incident_uuid']}"
        assert (await client.post(f"{path}/snooze", json={"until": later})).status_code == 200
        await of_its_project(restless, "UPDATE incidents SET snooze_until = now()")
        await of_its_project(restless, "UPDATE ongoing SET remind_at = now()")

        async def reminded() -> dict[str, Any] | None:
            found = (await client.get(f"{path}/deliveries")).json()["data"]
            return found[0] if len(found) == 2 and found[0]["finished_at"] else None

        reminder = await until(reminded, what="the reminder to end")
        assert (reminder["event"], reminder["status"], target.reboots) == ("reminder", "suppressed", 1)
        assert reminder["reason"] == "this is never repeated"


# ------------------------------------------------------------------------------------------------ what people are told


async def test_people_are_told_when_a_machine_does_not_come_back(
    service: Service, client: httpx.AsyncClient, target: Machine, mailbox: Mailbox
) -> None:
    here = await scene(client, target.port)
    mail = {"type": "Integrations::EmailIntegration", "settings": {"email": "oncall@example.com"}}
    await client.post("/api/v1/integrations", json={"integration": mail})
    uuid = await here.open()
    await here.ended(uuid)
    target.stop()
    later = "UPDATE restarts SET sent_at = sent_at - interval '11 min', look_at = now() WHERE delivery_id = $1"
    await in_database(service, later, ids.parse(ids.DELIVERY, uuid))
    [told] = await mailbox.arrivals(1, to="oncall@example.com")
    said = " ".join(told.text.split())
    assert f"127.0.0.1:{target.port} was told to restart and is not back after 10 min" in said

    async def on_record() -> bool:
        return (await here.delivery(uuid))["reason"] == "not back after 10 min"

    await until(on_record, what="the record")


async def test_a_machine_is_back_when_its_agent_reports_again(
    service: Service, client: httpx.AsyncClient, target: Machine
) -> None:
    here = await scene(client, target.port)
    uuid = await here.open()
    await here.ended(uuid)
    target.stop()

    async def silent() -> bool:
        connection = await asyncpg.connect(service.database)
        try:
            asked = "SELECT silent_at IS NOT NULL FROM restarts WHERE project_id = $1"
            return bool(await connection.fetchval(asked, service.project.id))
        finally:
            await connection.close()

    await until(silent, what="it to be seen silent")
    await new_server(client)  # the same server's next report

    async def back() -> bool:
        return ((await here.delivery(uuid))["reason"] or "").startswith("back after ")

    await until(back, what="its return on record")
