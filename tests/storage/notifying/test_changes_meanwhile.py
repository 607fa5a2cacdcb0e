"""What changes while something waits for its turn: who is on duty, silences, severity, snoozes."""

from __future__ import annotations

from datetime import timedelta

from tests.turns import URL, acknowledge, delivered, mail, on_call, only, silence, told
from tests.world import World, world
from tocsin.domain.attachments import Attachment
from tocsin.engine import sweep
from tocsin.storage.channels import posted
from tocsin.storage.channels.posted import Message
from tocsin.storage.delivery import incidents

__all__ = ["world"]


async def test_whoever_is_on_duty_is_told_and_so_is_whoever_comes_on_duty_while_it_lasts(world: World) -> None:
    ann, bob = await mail(world, "ann@example.com"), await mail(world, "bob@example.com")
    duty = await on_call(world, ann, bob)
    await world.open("cpu")
    await world.decide()
    [first] = await world.log(ann)
    assert (first.event, first.status, first.on_behalf_of) == ("opened", "pending", duty)
    [waits] = await world.log(duty)
    assert str(waits.reason).startswith("the hand-over at ")
    await world.decide(later=86_400)
    [second] = await world.log(bob)
    assert (second.event, second.on_behalf_of) == ("opened", duty)
    await world.resolve("cpu")
    assert [[each.event for each in await world.log(to)] for to in (ann, bob)] == [["opened", "resolved"]] * 2
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE held IS NOT NULL") == 0


async def test_an_acknowledgement_does_not_keep_what_lasts_from_whoever_comes_on_duty(world: World) -> None:
    ann, bob = await mail(world, "ann@example.com"), await mail(world, "bob@example.com")
    await on_call(world, ann, bob)
    [opened] = await world.open("cpu")
    await world.decide()
    await acknowledge(world, opened.incident.id)
    await world.decide(later=86_400)
    assert [each.event for each in await world.log(bob)] == ["opened"]


async def test_a_hand_over_begins_no_second_chain_of_reminders(world: World) -> None:
    ann, bob = await mail(world, "ann@example.com"), await mail(world, "bob@example.com")
    await on_call(world, ann, bob, how=Attachment(repeat=30 * 86_400))
    await world.open("cpu")
    await world.decide()
    await world.decide(later=86_400)
    assert await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE event = 'reminder'") == 1


async def test_a_change_elsewhere_brings_no_reminder_forward(world: World) -> None:
    again = await world.attach(URL, Attachment(repeat=3600))
    await world.open("cpu")
    await world.decide()
    await silence(world, timedelta(days=2), timedelta(days=3))
    await world.decide()
    assert [each.event for each in await world.log(again)] == ["opened", "reminder"]
    assert await world.pool.fetchval("SELECT due_at > now() FROM outstanding WHERE event = 'reminder'")


async def test_a_raised_incident_is_not_held_by_a_silence_of_milder_ones(world: World) -> None:
    hook = await world.attach(URL)
    await silence(world, timedelta(hours=-1), timedelta(hours=1), severity="warning")
    await world.open("cpu", severity="warning")
    await world.decide()
    assert str((await only(world, hook)).reason).startswith("silence ")
    await world.open("cpu", severity="critical")
    await world.decide()
    assert await told(world, hook) == [("opened", "pending", None)]


async def test_the_end_of_a_snooze_reminds_also_where_reminders_are_far_apart(world: World) -> None:
    again = await world.attach(URL, Attachment(repeat=86_400))
    await world.open("cpu")
    await world.decide()
    await delivered(world, again)
    await world.pool.execute("UPDATE ongoing SET remind_at = now()")
    async with world.pool.acquire() as tx, tx.transaction():
        assert await incidents.remind(tx, 10) == 1
    await world.decide()
    reminders = [each for each in await world.log(again) if each.event == "reminder"]
    assert [each.reason is None for each in reminders].count(True) == 1
    assert len(reminders) == 2


async def test_an_acknowledgement_that_runs_out_is_taken_out_of_messages_about_the_incident(world: World) -> None:
    chat = await world.attach(URL)
    [opened] = await world.open("cpu")
    await delivered(world, chat)
    await acknowledge(world, opened.incident.id)
    async with world.pool.acquire() as tx, tx.transaction():
        await posted.note(tx, chat, opened.incident.id, Message("C1", "1.2"))
        await tx.execute("UPDATE ongoing SET rearm_at = now()")
        assert await sweep.rearm(tx) == 1
    assert ("acknowledged", "pending", None) in await told(world, chat)


async def test_quiet_hours_that_outlast_a_hand_over_hold_only_whoever_asked_for_them(world: World) -> None:
    ann, bob = await mail(world, "ann@example.com"), await mail(world, "bob@example.com")
    duty = await on_call(world, ann, bob)
    await silence(world, timedelta(hours=-1), timedelta(days=3), integrations=(ann,))
    await world.open("cpu")
    await world.decide()
    assert str((await only(world, duty)).reason).startswith('silence "Sunday" until ')
    await world.decide(later=86_400)
    assert [(each.event, each.on_behalf_of) for each in await world.log(bob)] == [("opened", duty)]
    assert await world.log(ann) == []
