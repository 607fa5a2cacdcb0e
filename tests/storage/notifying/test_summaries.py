"""What is too much for people is told in one message, and so is its end."""

from __future__ import annotations

from datetime import timedelta

from tests.turns import flood, further_servers, mail, on_call, open_each, resolve_each, send_summaries, silence, told
from tests.world import World, world
from tocsin.domain import ids
from tocsin.domain.attachments import Attachment
from tocsin.storage.delivery import incidents

__all__ = ["world"]


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


async def test_what_was_over_before_anybody_decided_is_told_in_a_summary_where_it_is_too_much(world: World) -> None:
    """As after a night without an engine."""
    mail = await world.attach_mail("ann@example.com")
    await flood(world, mail, incidents=2)
    servers = await further_servers(world, 5)
    await open_each(world, servers)
    await resolve_each(world, servers)
    await world.decide()
    ends = [each for each in await world.log(mail) if each.event == "resolved"]
    assert sorted(str(each.reason) for each in ends) == ["None", "None", *[incidents.IN_NEXT_SUMMARY] * 3]
    await send_summaries(world)
    said = await world.pool.fetchval("SELECT notice FROM outstanding WHERE event = 'notice'")
    assert said.startswith("3 incidents are over: cpu on web-")
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE held IS NOT NULL") == 0


async def test_what_is_too_much_for_whoever_is_on_duty_goes_to_them_in_one_message(world: World) -> None:
    ann = await mail(world, "ann@example.com")
    await on_call(world, ann, rotation="none", how=Attachment(repeat=3600))
    await flood(world, ann, incidents=1)
    servers = await further_servers(world, 4)
    await open_each(world, servers)
    await world.decide()
    await send_summaries(world)
    log = await world.log(ann)
    assert [each.event for each in log if each.status == "pending" and each.reason is None] == ["opened", "notice"]
    assert [each.status for each in log].count("suppressed") == 3
    reminders = "SELECT count(*) FROM outstanding WHERE event = 'reminder' AND held IS NOT NULL"
    assert await world.pool.fetchval(reminders) == 4
    await resolve_each(world, servers)
    assert await world.pool.fetchval(reminders) == 0



async def test_a_silence_holds_what_waits_for_a_summary(world: World) -> None:
    mailbox = await world.attach_mail("ann@example.com")
    await flood(world, mailbox, incidents=1)
    await open_each(world, await further_servers(world, 3))
    await world.decide()
    await silence(world, timedelta(hours=-1), timedelta(hours=1))
    await world.decide()
    await send_summaries(world)
    assert not [each for each in await world.log(mailbox) if each.event == "notice"]
