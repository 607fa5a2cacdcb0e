"""Deliveries that wait for their turn: told when it comes, and never where something came before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.turns import URL, acknowledge, delivered, only, silence, told
from tests.world import World, world
from tocsin.domain import hours, ids, notifying
from tocsin.domain.attachments import Attachment
from tocsin.domain.notifying import Candidate, Occasion, Tell
from tocsin.domain.silences import ScopedSpan
from tocsin.storage.channels import attachments
from tocsin.storage.delivery import acknowledgements, deliveries, outstanding
from tocsin.storage.notifying import silences

__all__ = ["world"]


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
    await delivered(world, at_once)
    await world.decide()
    await acknowledge(world, opened.incident.id, until=datetime.now(UTC) - timedelta(seconds=1))
    async with world.pool.acquire() as tx, tx.transaction():
        assert len(await acknowledgements.rearm(tx, 10)) == 1
        assert await acknowledgements.rearm(tx, 10) == []
    await world.decide()
    assert await told(world, at_once) == [("opened", "delivered", None), ("reminder", "pending", None)]
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


async def test_nobody_is_reminded_of_a_server_that_is_gone_for_good_until_it_reports_again(world: World) -> None:
    await world.pool.execute(
        "INSERT INTO server_states (server_id, seen_at, downtime_check_at) VALUES ($1, now(), now())", world.server_id
    )
    again = await world.attach(URL, Attachment(repeat=60))
    await world.open("downtime")
    await world.decide()
    week = 7 * 86_400
    for later in (week - 60, week + 60, week + 600):
        await world.decide(later)
    assert [(event, reason) for event, _, reason in await told(world, again)] == [
        ("opened", None), ("reminder", None), ("reminder", "its server has not reported for 7 days"),
    ]  # fmt: skip
    await world.pool.execute("UPDATE server_states SET seen_at = now() + interval '8 days'")
    await world.decide(9 * 86_400)
    assert len(await told(world, again)) == 4


async def test_from_the_moment_of_the_opening_it_says_when_its_turn_is(world: World) -> None:
    later = await world.attach(URL, Attachment(after=600))
    [opened] = await world.open("cpu")
    turn = opened.incident.created_at + timedelta(seconds=600)
    before = await only(world, later)
    assert (before.reason, before.due_at) == (f"its turn is at {turn:%Y-%m-%dT%H:%M:%SZ}, unless acknowledged", turn)
    async with world.pool.acquire() as tx:
        assert await deliveries.one(tx, world.project_id, before.id) == before
    await world.decide()
    assert await only(world, later) == before


def test_what_is_told_after_a_silence_names_the_time_in_the_silence_s_zone() -> None:
    began = datetime(2026, 6, 7, 0, 10, tzinfo=UTC)
    hook, over = uuid4(), began + timedelta(hours=2)
    sunday = ScopedSpan(uuid4(), "Sunday", began - timedelta(minutes=10), over, timezone="Europe/Vienna")
    occasion = Occasion("cpu", "critical", began)
    decision = notifying.decide("opened", Candidate(hook, "Ann", attachment=Attachment()), occasion, {}, [sunday], over)
    assert decision == Tell(hook, "began 02:10, during the silence Sunday")


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
    assert note == f"began {long.incident.created_at:%H:%M}, during the silence Sunday"


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


async def test_a_silence_that_does_not_concern_what_opens_keeps_nobody_waiting(world: World) -> None:
    await world.attach(URL)
    hour = timedelta(hours=1)
    await silence(world, -hour, hour, integrations=(ids.new(),))
    await silence(world, -hour, hour, incident_types=("disk",))
    await silence(world, -hour, hour, severity="info")
    await world.open("cpu")
    assert await world.pool.fetchval("SELECT held IS NULL FROM outstanding")


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
        ("opened", "suppressed", outstanding.RESOLVED_FIRST), ("resolved", "pending", None),
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
