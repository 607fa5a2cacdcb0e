"""Deliveries that wait for their turn: told when it comes, and never where something came before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.world import PUBLIC_URL, World, world
from tocsin.domain import hours, ids
from tocsin.domain.attachments import Attachment
from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.silences import Rule
from tocsin.storage.channels import attachments
from tocsin.storage.delivery import acknowledgements, deliveries, incidents, openings
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.notifying import silences, summaries
from tocsin.storage.notifying.silences import Silence

__all__ = ["world"]

URL = "http://127.0.0.1:9/"


async def told(world: World, integration: UUID) -> list[tuple[str, str, str | None]]:
    return [(each.event, each.status, each.reason) for each in await world.log(integration)]


async def only(world: World, integration: UUID) -> Delivery:
    [delivery] = await world.log(integration)
    return delivery


async def acknowledge(world: World, incident: UUID, by: str = "Ann", until: datetime | None = None) -> None:
    async with world.pool.acquire() as tx, tx.transaction():
        assert await acknowledgements.acknowledge(tx, world.project_id, incident, by, until)


async def silence(world: World, start: timedelta, end: timedelta, **scope: object) -> UUID:
    now = datetime.now(UTC)
    wanted = Silence("Sunday", Rule(now + start, now + end), **scope)  # type: ignore[arg-type]
    async with world.pool.acquire() as tx, tx.transaction():
        return await silences.create(tx, world.project_id, wanted)


async def test_a_telling_waits_for_its_turn_and_is_then_sent(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    await world.open("cpu")
    await world.decide()
    waiting = await only(world, later)
    assert waiting.status == "pending"
    assert waiting.reason is not None
    assert waiting.reason.startswith("its turn is at ")
    assert waiting.reason.endswith(", unless acknowledged")
    assert await world.pool.fetchval("SELECT held IS NOT NULL FROM outstanding")
    assert await world.decide(later=599) == 0
    await world.decide(later=601)
    assert await told(world, later) == [("opened", "pending", None)]


async def test_a_resolve_before_its_turn_suppresses_a_telling_and_its_end_is_not_told(world: World) -> None:
    at_once, later = await world.attach(URL), await world.attach(URL, Attachment(after=600))
    await world.open("cpu")
    await world.decide()
    await world.resolve("cpu")
    assert await told(world, later) == [("opened", "suppressed", "resolved before its turn")]
    assert [event for event, _, _ in await told(world, at_once)] == ["opened", "resolved"]
    assert await world.decide(later=700) == 0


async def test_whoever_was_told_late_is_told_the_end(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    await world.open("cpu")
    await world.decide(later=601)
    await world.resolve("cpu")
    assert [event for event, _, _ in await told(world, later)] == ["opened", "resolved"]


async def test_an_acknowledgement_calls_off_what_waits_and_taken_back_it_is_due_again(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    [opened] = await world.open("cpu")
    await world.decide()
    await acknowledge(world, opened.incident.id)
    called_off = ("opened", "suppressed", "acknowledged by Ann before its turn")
    assert await told(world, later) == [called_off]
    async with world.pool.acquire() as tx, tx.transaction():
        assert await acknowledgements.take_back(tx, world.project_id, opened.incident.id, "Bob")
    await world.decide()
    assert [status for _, status, _ in await told(world, later)] == ["suppressed", "pending"]
    await world.decide(later=601)
    assert await told(world, later) == [called_off, ("opened", "pending", None)]
    assert await world.decide(later=700) == 0


async def test_an_acknowledgement_that_runs_out_is_taken_back_and_people_are_told_so(world: World) -> None:
    at_once, later = await world.attach(URL), await world.attach(URL, Attachment(after=600))
    [opened] = await world.open("cpu")
    await world.pool.execute("DELETE FROM outstanding WHERE integration_id = $1", at_once)
    await world.decide()
    await acknowledge(world, opened.incident.id, until=datetime.now(UTC) - timedelta(seconds=1))
    async with world.pool.acquire() as tx, tx.transaction():
        assert await acknowledgements.rearm(tx, 10) == 1
        assert await acknowledgements.rearm(tx, 10) == 0
    await world.decide()
    assert await told(world, at_once) == [("reminder", "pending", None)]
    note = await world.pool.fetchval("SELECT notice FROM outstanding WHERE integration_id = $1", at_once)
    assert note == "Ann had it until now"
    assert [status for _, status, _ in await told(world, later)] == ["suppressed", "pending"]


async def test_who_wants_only_some_incidents_is_not_told_of_others_and_the_log_says_why(world: World) -> None:
    disk = await world.attach(URL, Attachment(incident_types=("disk", "ram")))
    grave = await world.attach(URL, Attachment(severity="critical"))
    serious = await world.attach(URL, Attachment(severity="warning"))
    await world.open("cpu", severity="info")
    await world.decide()
    assert await told(world, disk) == [("opened", "suppressed", "only disk, ram")]
    assert await told(world, grave) == [("opened", "suppressed", "only critical")]
    assert await told(world, serious) == [("opened", "suppressed", "only warning or worse")]


async def test_a_raised_incident_is_told_to_those_whom_it_did_not_concern_before(world: World) -> None:
    grave = await world.attach(URL, Attachment(severity="critical"))
    everything = await world.attach(URL)
    [mild] = await world.open("cpu", severity="warning")
    await world.decide()
    [worse] = await world.open("cpu", severity="critical")
    assert not worse.new
    assert (worse.incident.id, worse.incident.severity) == (mild.incident.id, "critical")
    [same] = await world.open("cpu", severity="info")
    assert same.incident.severity == "critical"
    await world.decide()
    assert [status for _, status, _ in await told(world, grave)] == ["suppressed", "pending"]
    assert len(await told(world, everything)) == 1
    await world.resolve("cpu")
    assert [event for event, _, _ in await told(world, grave)] == ["opened", "opened", "resolved"]


async def test_reminders_are_sent_until_the_incident_ends(world: World) -> None:
    again = await world.attach(URL, Attachment(repeat=60))
    await world.open("cpu")
    await world.decide()
    assert [(event, reason is None) for event, _, reason in await told(world, again)] == [
        ("opened", True), ("reminder", False),
    ]  # fmt: skip
    await world.decide(later=61)
    assert [event for event, _, _ in await told(world, again)] == ["opened", "reminder", "reminder"]
    await world.resolve("cpu")
    assert ("reminder", "suppressed", "resolved before its turn") in await told(world, again)
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE held IS NOT NULL") == 0


async def test_outside_its_hours_a_telling_waits_until_they_begin(world: World) -> None:
    now = datetime.now(UTC)
    begin = now + timedelta(hours=2)
    end = begin + timedelta(hours=1)
    open_at = {"timezone": "UTC", "days": "MO-SU", "from": f"{begin:%H:00}", "to": f"{end:%H:00}"}
    office = await world.attach(URL, Attachment(hours=hours.parse(open_at, "hours")))
    await world.open("cpu")
    await world.decide()
    waiting = await only(world, office)
    assert waiting.reason == f"outside its hours, which begin at {begin:%Y-%m-%dT%H:00:00Z}"
    await world.decide(later=2 * 3600)
    assert await told(world, office) == [("opened", "pending", None)]


async def test_during_a_silence_nobody_is_told_and_afterwards_what_lasts_is(world: World) -> None:
    hook = await world.attach(URL)
    await silence(world, timedelta(hours=-1), timedelta(hours=1))
    [short] = await world.open("cpu")
    [long] = await world.open("ram")
    await world.decide()
    reasons = {reason for _, _, reason in await told(world, hook)}
    assert len(reasons) == 1
    assert str(reasons).startswith("{'silence \"Sunday\" until ")
    async with world.pool.acquire() as tx:
        assert await tx.fetchval("SELECT silenced_by IS NOT NULL FROM incidents WHERE id = $1", short.incident.id)
    await world.resolve("cpu")
    await world.decide(later=3601)
    by_incident = {each.incident_id: each for each in await world.log(hook)}
    ended = by_incident[short.incident.id]
    assert ended.status == "suppressed"
    assert str(ended.reason).startswith('resolved before its turn: silence "Sunday" until ')
    assert by_incident[long.incident.id].reason is None
    note = await world.pool.fetchval("SELECT notice FROM outstanding")
    assert note == f"began {long.incident.created_at:%H:%M} UTC, during the silence Sunday"


async def test_what_began_before_a_silence_has_its_end_told_during_it(world: World) -> None:
    hook = await world.attach(URL)
    await world.open("cpu")
    await silence(world, timedelta(hours=-1), timedelta(hours=1))
    await world.resolve("cpu")
    assert [event for event, _, _ in await told(world, hook)] == ["opened", "resolved"]


async def test_the_turn_of_an_escalation_counts_from_the_end_of_a_silence(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    await silence(world, timedelta(hours=-1), timedelta(hours=1))
    await world.open("cpu")
    await world.decide(later=3601)
    waiting = await only(world, later)
    assert str(waiting.reason).startswith("its turn is at ")
    await world.decide(later=3600 + 601)
    assert await told(world, later) == [("opened", "pending", None)]


async def test_a_silence_that_is_ended_lets_go_of_what_it_held(world: World) -> None:
    hook = await world.attach(URL)
    made = await silence(world, timedelta(hours=-1), timedelta(hours=1), integrations=(hook,))
    await world.open("cpu")
    await world.decide()
    async with world.pool.acquire() as tx, tx.transaction():
        await silences.end_now(tx, world.project_id, made)
    await world.decide()
    assert await told(world, hook) == [("opened", "pending", None)]


async def test_an_integration_that_is_detached_before_its_turn_is_not_told(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    await world.open("cpu")
    await world.decide()
    async with world.pool.acquire() as tx, tx.transaction():
        assert await attachments.detach(tx, world.project_id, world.server_id, later)
    await world.decide()
    assert await told(world, later) == [("opened", "suppressed", "not attached")]


async def test_an_attachment_that_is_changed_moves_the_turn(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    await world.open("cpu")
    await world.decide()
    async with world.pool.acquire() as tx, tx.transaction():
        await attachments.attach(tx, world.server_id, later, Attachment(after=0))
    await world.decide()
    assert await told(world, later) == [("opened", "pending", None)]


async def test_people_are_decided_about_and_told_at_once(world: World) -> None:
    mail = await world.attach_mail("ann@example.com")
    await world.open("cpu")
    await world.decide()
    assert await told(world, mail) == [("opened", "pending", None)]


async def test_a_turn_of_an_integration_that_is_gone_ends_nothing_else(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    await world.open("cpu")
    await world.pool.execute("UPDATE outstanding SET integration_id = $1", ids.new())
    assert await world.decide(later=700) == 1
    assert await world.log(later) == []


async def test_what_began_and_ended_before_anybody_could_decide_is_told_all_the_same(world: World) -> None:
    """As when no engine was running meanwhile."""
    mail = await world.attach_mail("ann@example.com")
    late, only_disk = await world.attach(URL, Attachment(after=60)), await world.attach(URL, Attachment(repeat=60))
    await world.open("cpu")
    await world.resolve("cpu")
    await world.decide()
    assert await told(world, late) == [("opened", "suppressed", "resolved before its turn")]
    assert await told(world, only_disk) == [("opened", "pending", None), ("resolved", "pending", None)]
    blocked = await world.pool.fetchval(
        "SELECT blocked_by = (SELECT id FROM outstanding WHERE integration_id = $1 AND event = 'opened')"
        " FROM outstanding WHERE integration_id = $1 AND event = 'resolved'",
        only_disk,
    )
    assert blocked
    assert await told(world, mail) == [
        ("opened", "suppressed", deliveries.RESOLVED_FIRST), ("resolved", "pending", None),
    ]  # fmt: skip
    assert await world.pool.fetchval("SELECT first_notice_failed FROM outstanding WHERE integration_id = $1", mail)
    assert await world.decide() == 0


async def test_what_began_and_ended_during_a_silence_is_told_to_nobody(world: World) -> None:
    mail, hook = await world.attach_mail("ann@example.com"), await world.attach(URL)
    await silence(world, timedelta(hours=-1), timedelta(hours=1))
    await world.open("cpu")
    await world.resolve("cpu")
    await world.decide()
    for integration in (mail, hook):
        assert await told(world, integration) == [("opened", "suppressed", "resolved before its turn")]


async def flood(world: World, integration: UUID, incidents: int, seconds: int = 300) -> None:
    await world.pool.execute(
        "UPDATE integrations SET flood = $2 WHERE id = $1", integration, {"incidents": incidents, "seconds": seconds}
    )


async def further_servers(world: World, count: int) -> list[UUID]:
    keys = [ids.new() for _ in range(count)]
    await world.pool.execute(
        """INSERT INTO servers (id, project_id, motherboard_id, hostname, agent_version, alerts)
           SELECT id, $2, 'mb-' || n, 'web-' || n, '1', '{}' FROM unnest($1::uuid[]) WITH ORDINALITY AS g(id, n)""",
        keys, world.project_id,
    )  # fmt: skip
    await world.pool.execute(
        """INSERT INTO attachments (resource_id, integration_id, at_once)
           SELECT s, integration_id, at_once FROM unnest($1::uuid[]) AS s, attachments WHERE resource_id = $2""",
        keys, world.server_id,
    )  # fmt: skip
    return keys


async def open_each(world: World, servers: list[UUID]) -> None:
    wishes = [OpenRequest(world.project_id, "Server", each, "cpu", "It broke") for each in servers]
    async with world.pool.acquire() as tx, tx.transaction():
        await openings.open(tx, wishes, public_url=PUBLIC_URL)


async def resolve_each(world: World, servers: list[UUID]) -> None:
    async with world.pool.acquire() as tx, tx.transaction():
        await incidents.resolve(tx, [ResolveRequest(world.project_id, each, "cpu", "a test") for each in servers])


async def send_summaries(world: World) -> None:
    await world.pool.execute("UPDATE outstanding SET due_at = now() WHERE summary")
    async with world.pool.acquire() as tx, tx.transaction():
        await summaries.send_due(tx, 10)


async def test_what_is_too_much_for_people_is_told_in_one_message_and_its_end_too(world: World) -> None:
    mail = await world.attach_mail("ann@example.com")
    await flood(world, mail, incidents=2)
    servers = await further_servers(world, 5)
    await open_each(world, servers)
    await world.decide()
    log = await told(world, mail)
    assert [reason for _, _, reason in log[:2]] == [None, None]
    assert all(str(reason).startswith("it is in the summary at ") for _, _, reason in log[2:])
    await send_summaries(world)
    [summary] = [each for each in await world.log(mail) if each.event == "notice"]
    in_it = f"in the summary {ids.public(ids.DELIVERY, summary.id)}"
    assert [reason for event, status, reason in await told(world, mail) if status == "suppressed"] == [in_it] * 3
    said = await world.pool.fetchval("SELECT notice FROM outstanding WHERE id = $1", summary.id)
    assert said == (
        "3 more incidents within 5 min, which still last: cpu on web-3; cpu on web-4; cpu on web-5."
    )
    await resolve_each(world, servers)
    ends = [each for each in await world.log(mail) if each.event == "resolved"]
    assert sorted(str(each.reason) for each in ends) == ["None", "None", *["it waits for the next summary"] * 3]
    await send_summaries(world)
    said = await world.pool.fetchval("SELECT notice FROM outstanding WHERE event = 'notice' AND id <> $1", summary.id)
    assert said == "3 incidents are over: cpu on web-3; cpu on web-4; cpu on web-5."
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE held IS NOT NULL") == 0


async def test_a_resource_that_flaps_holds_back_no_other(world: World) -> None:
    mail = await world.attach_mail("ann@example.com")
    await flood(world, mail, incidents=2)
    [other] = await further_servers(world, 1)
    for _ in range(4):
        await world.open("cpu")
        await world.decide()
        await world.resolve("cpu")
    await open_each(world, [other])
    await world.decide()
    [about_other] = [
        each for each in await world.log(mail)
        if each.event == "opened" and each.status == "pending" and each.reason is None
    ][-1:]  # fmt: skip
    resource = await world.pool.fetchval(
        "SELECT resource_id FROM incidents WHERE id = $1", about_other.incident_id
    )
    assert resource == other


async def test_one_that_is_alone_over_the_limit_is_told_by_itself(world: World) -> None:
    mail = await world.attach_mail("ann@example.com")
    await flood(world, mail, incidents=1)
    servers = await further_servers(world, 2)
    await open_each(world, servers)
    await world.decide()
    await send_summaries(world)
    assert [(event, reason) for event, _, reason in await told(world, mail)] == [("opened", None)] * 2
    await resolve_each(world, servers)
    assert [event for event, _, _ in await told(world, mail)].count("resolved") == 2


async def test_what_ends_before_its_summary_is_in_none(world: World) -> None:
    mail = await world.attach_mail("ann@example.com")
    await flood(world, mail, incidents=1)
    servers = await further_servers(world, 3)
    await open_each(world, servers)
    await world.decide()
    await resolve_each(world, servers[1:])
    await send_summaries(world)
    assert [event for event, status, _ in await told(world, mail) if status != "suppressed"] == ["opened"]
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE held IS NOT NULL") == 0
