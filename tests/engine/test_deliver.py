"""From an incident to the wire and back on record, with a real engine on a real database and a real receiver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.receivers import Answer, Receiver
from tests.waiting import until
from tests.world import PUBLIC_URL, World, start, world
from tocsin.domain import ids
from tocsin.engine import run as engine
from tocsin.engine.deliver import Deliverer
from tocsin.integrations.base import Transports
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts
from tocsin.storage.delivery import incidents, leases, outstanding
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres import retention
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer

__all__ = ["start", "world"]

REFUSING = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM nextval('refusals'); RAISE insufficient_privilege; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON finished FOR EACH ROW EXECUTE FUNCTION refuse();
"""

WAITING = """FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    AND query LIKE 'SELECT details FROM incidents%'"""
"""SQL: the sessions that wait to read what else an incident's reporter says."""


async def test_an_incident_reaches_the_webhook_with_the_seven_fields(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    await start()
    [opened] = await world.open("disk_failure")
    [request] = await receiver.arrivals(1)
    assert json.loads(request.body) == {
        "resource_name": "web-1",
        "resource_url": f"{PUBLIC_URL}/servers/{ids.public(ids.SERVER, world.server_id)}",
        "resource_type": "Server",
        "incident_type": "disk_failure",
        "incident_status": "ongoing",
        "incident_duration": None,
        "incident_message": "It broke",
    }
    assert request.headers["tocsin-incident"] == ids.public(ids.INCIDENT, opened.incident.id)
    [delivery] = await world.ended(hook, 1)
    assert delivery.status == "delivered"
    assert [attempt["outcome"] for attempt in delivery.attempts] == ["delivered"]
    assert delivery.attempts[0]["status_code"] == 200


async def test_what_was_queued_while_no_engine_lived_is_delivered_when_one_does(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    await world.open("a", "b", "c")
    await start()
    assert {each.status for each in await world.ended(hook, 3)} == {"delivered"}


async def test_an_incident_of_one_type_is_open_once_per_resource(world: World, receiver: Receiver) -> None:
    await world.attach(receiver.url())
    first, again = await world.open("a", "a")
    [later] = await world.open("a")
    assert (first.new, again.new, later.new) == (True, False, False)
    assert first.incident.id == again.incident.id == later.incident.id
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding") == 1


async def test_a_resolve_never_overtakes_its_opening(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    await world.attach(receiver.url())
    receiver.then(Answer(status=500), Answer(status=500))
    await start()
    await world.open("a")
    await receiver.arrivals(1)
    await world.resolve("a")
    requests = await receiver.arrivals(1, where=lambda request: request.json["incident_status"] == "resolved")
    assert [each.json["incident_status"] for each in receiver.requests].index("resolved") == len(receiver.requests) - 1
    assert len({each.id for each in receiver.requests}) == 2
    assert isinstance(requests[0].json["incident_duration"], int)


async def test_people_are_spared_an_opening_that_is_over(world: World) -> None:
    mail = await world.attach_mail("alerts@example.com")
    await world.open("a")
    await world.decide()
    await world.resolve("a")
    opening, resolve = await world.log(mail)
    assert (opening.event, opening.status, opening.reason) == ("opened", "suppressed", outstanding.RESOLVED_FIRST)
    assert (resolve.event, resolve.status) == ("resolved", "pending")
    assert await world.pool.fetchval("SELECT first_notice_failed FROM outstanding") is True


async def test_a_failed_delivery_is_tried_again_with_the_same_webhook_id_and_every_try_is_on_record(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    told_to_wait = Answer(status=429, headers={"Retry-After": "1"})
    receiver.then(Answer(status=500, body=b"down"), Answer(how="reset"), told_to_wait)
    await start()
    await world.open("a")
    [delivery] = await world.ended(hook, 1)
    assert [attempt["outcome"] for attempt in delivery.attempts] == ["failed", "failed", "failed", "delivered"]
    assert [attempt["status_code"] for attempt in delivery.attempts] == [500, None, 429, 200]
    assert len({request.id for request in receiver.requests}) == 1
    waited = receiver.requests[3].monotonic - receiver.requests[2].monotonic
    assert waited >= 1.0, "Retry-After is never cut short"


async def test_a_result_that_the_database_refuses_is_kept_until_it_takes_it(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    receiver.otherwise = Answer(body=b"taken, thank you")
    await world.pool.execute(REFUSING)
    await start()
    await world.open("a")
    await until(lambda: _refused(world), what="a refused result")
    await world.pool.execute("DROP TRIGGER refuse ON finished")
    [delivery] = await world.ended(hook, 1)
    assert [attempt["outcome"] for attempt in delivery.attempts] == ["delivered"]
    assert delivery.attempts[0]["response"] == "taken, thank you"
    assert len(receiver.requests) == 1


async def _refused(world: World) -> bool:
    return bool(await world.pool.fetchval("SELECT is_called FROM refusals"))


async def test_only_a_project_that_made_itself_is_asked_for_its_ceiling_and_a_fault_of_ours_is_none_of_the_address(
    world: World, start: Callable[[], Awaitable[None]]
) -> None:
    integration = await world.attach_mail("oncall@example.com")
    await world.pool.execute("ALTER TABLE mail_days RENAME TO mail_days_away")
    await start()
    await world.open("cpu")
    [free] = await world.ended(integration, 1)
    assert [each["outcome"] for each in free.attempts] == ["delivered"]
    async with world.pool.acquire() as tx, tx.transaction():
        ann = await accounts.ensure_user(tx, "ann@example.com")
        await tx.execute("UPDATE users SET email_verified_at = now()")
        await tx.execute("UPDATE projects SET made_by = $1", ann.id)
    await world.open("ram")

    async def asked() -> bool:
        return any(each["outcome"] == "interrupted" for each in (await world.log(integration))[-1].attempts)

    await until(asked, what="the question for the ceiling")
    await world.pool.execute("ALTER TABLE mail_days_away RENAME TO mail_days")
    _, counted = await world.ended(integration, 2, timeout=30)
    outcomes = [each["outcome"] for each in counted.attempts]
    assert (counted.status, set(outcomes[:-1]), outcomes[-1]) == ("delivered", {"interrupted"}, "delivered")
    assert "UndefinedTableError" in (counted.attempts[0]["error"] or "")
    assert await world.pool.fetchval("SELECT failing_since FROM integrations WHERE id = $1", integration) is None
    assert await world.pool.fetchval("SELECT failures FROM integrations WHERE id = $1", integration) == 0


async def test_gone_ends_it_disables_the_integration_and_later_incidents_are_suppressed_on_record(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    receiver.then(Answer(status=410))
    await start()
    await world.open("a")
    [delivery] = await world.ended(hook, 1)
    assert delivery.status == "dead"
    await world.open("b")
    _, later = await world.ended(hook, 2)
    assert later.status == "suppressed"
    assert "integration disabled" in (later.reason or "")


async def test_a_detached_integration_still_hears_the_end_of_what_it_was_told_began(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    await start()
    await world.open("a")
    await world.ended(hook, 1)
    await world.pool.execute("DELETE FROM attachments")
    await world.resolve("a")
    assert [each.event for each in await world.ended(hook, 2)] == ["opened", "resolved"]


async def test_a_snoozed_incident_says_nothing_until_then_and_reminds(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    [opened] = await world.open("a")
    until_then = datetime.now(UTC) + timedelta(seconds=1.5)
    async with world.pool.acquire() as tx, tx.transaction():
        await incidents.snooze(tx, world.project_id, opened.incident.id, until_then)
    await start()
    [request] = await receiver.arrivals(1)
    assert request.at >= until_then
    await world.ended(hook, 1)
    async with world.pool.acquire() as tx, tx.transaction():
        await incidents.snooze(tx, world.project_id, opened.incident.id, datetime.now(UTC) + timedelta(seconds=0.5))
    assert [each.event for each in await world.ended(hook, 2)] == ["opened", "reminder"]


async def test_many_incidents_in_one_transaction_each_arrive_once(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    await start()
    await world.open(*(f"type_{number}" for number in range(1000)))
    await world.resolve(*(f"type_{number}" for number in range(1000)))
    await world.ended(hook, 2000, timeout=30)
    assert len(receiver.requests) == 2000
    assert len({request.id for request in receiver.requests}) == 2000


async def test_what_waits_for_a_far_end_that_is_down_stays_in_the_queue_and_arrives_when_it_is_back(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url())
    await start()
    receiver.refuse()
    await world.open(*(f"type_{number}" for number in range(300)))

    async def handed_back() -> bool:
        return await world.pool.fetchval(
            "SELECT count(*) FILTER (WHERE status = 'sending') <= 8 AND max(attempt) > 0 FROM outstanding"
        )

    await until(handed_back, what="the engine to hold no more than a few")
    receiver.listen()
    assert {each.status for each in await world.ended(hook, 300)} == {"delivered"}
    assert len(receiver.requests) == 300


async def test_stopping_hands_back_what_waits_and_nothing_stays_leased(
    world: World, settings: Settings, database: str, receiver: Receiver
) -> None:
    await world.attach(receiver.url())
    receiver.otherwise = Answer(how="hang")
    stop = asyncio.Event()
    running = asyncio.create_task(engine.run(settings, database, PUBLIC_URL, stop))
    await world.open(*(f"type_{number}" for number in range(40)))
    await receiver.arrivals(8)
    stop.set()
    async with asyncio.timeout(9):
        await running
    rows = await world.pool.fetch("SELECT status, engine FROM outstanding")
    assert [(row["status"], row["engine"]) for row in rows] == [("pending", None)] * 40
    assert await world.pool.fetchval("SELECT count(*) FROM engines") == 0


async def test_deliveries_of_a_dead_engine_go_on_though_nobody_can_tell_whether_another_server_took_over(
    world: World, start: Callable[[], Awaitable[None]], receiver: Receiver
) -> None:
    await world.pool.execute("DELETE FROM timeline")
    await world.attach(receiver.url())
    await world.open("a")
    lost = "UPDATE outstanding SET status = 'sending', engine = 999, attempt = 1, leased_until = now()"
    await world.pool.execute(lost)
    await start()
    await receiver.arrivals(1)


@pytest.mark.parametrize("split", [retention.SAMPLES, retention.FINISHED], ids=lambda split: split.table)
async def test_partitions_meet_without_a_gap(split: retention.PartitionedTable) -> None:
    start = split.start_of(datetime(2026, 11, 23, 10, tzinfo=UTC))
    for _ in range(30):
        assert split.start_of(split.next(start)) == split.next(start) > start
        start = split.next(start)


async def test_a_database_that_is_of_no_use_is_no_failure_of_who_would_be_told_the_details(
    world: World, database: str, vault: Vault, settings: Settings, receiver: Receiver
) -> None:
    hook = await world.attach(receiver.url(), body={"all": "{{ details }}"})
    http = Http(Guard(settings.allow_networks))
    transports = Transports(http, Mailer(None, "tocsin@example.com", settings.outbox), PUBLIC_URL)
    pool = await storage.pool(database, size=1, name="tests")
    deliverer = Deliverer(pool, vault, transports, settings.retry_schedule)

    async def claimed() -> list[Job]:
        async with world.pool.acquire() as tx, tx.transaction():
            return await leases.claim(
                tx, engine=1, start=UUID(int=0), limit=10, room={}, default_room=5, public_url=PUBLIC_URL
            )

    async def attempts() -> list[str] | None:
        rows = await world.pool.fetch("SELECT attempts FROM outstanding")
        return [each["outcome"] for row in rows for each in row["attempts"]] or None

    async def asking_for_the_details() -> bool:
        return bool(await world.pool.fetchval(f"SELECT EXISTS (SELECT {WAITING})"))

    await world.open("before")
    deliverer.accept(await claimed())
    await world.ended(hook, 1)  # its settings are known from now on
    await world.open("meanwhile")
    jobs = await claimed()
    async with world.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE incidents")
        deliverer.accept(jobs)
        assert await until(asking_for_the_details, what="the attempt to ask for the details")
        await other.execute(f"SELECT pg_terminate_backend(pid) {WAITING}")
    assert await until(attempts, what="the attempt's record") == ["interrupted"]
    assert await world.pool.fetchval("SELECT failures FROM outstanding") == 0
    await deliverer.drain(1)
    await http.close()
    pool.terminate()
