"""Silences in the database: what a resource is silenced by, now, later and at any time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest_asyncio

from tests.storage.notifying.held import held_delivery, is_due
from tocsin.domain.silences import Recurring, Rule, ScopedSpan
from tocsin.storage.notifying import silences
from tocsin.storage.notifying.silences import Silence

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest_asyncio.fixture
async def tx(pool: asyncpg.Pool) -> AsyncIterator[Any]:
    async with pool.acquire() as tx:
        yield tx


@pytest_asyncio.fixture
async def now(tx: Any) -> datetime:
    return await tx.fetchval("SELECT date_trunc('second', now())")


def daily(now: datetime, **more: Any) -> Silence:
    """Every day, from an hour before now, for two hours."""
    rule = Rule(now - HOUR, None, Recurring("FREQ=DAILY", 7200, "UTC"))
    return Silence("Nights", rule, **more)


def once(start: datetime, end: datetime, **more: Any) -> Silence:
    return Silence("Maintenance", Rule(start, end), **more)


async def over(tx: Any, project: Any, start: datetime, end: datetime, resource: UUID | None = None) -> list[ScopedSpan]:
    return await silences.spans_over(tx, project.id, resource or uuid4(), start, end)


async def test_a_silence_of_everything_includes_every_resource_while_it_lasts(
    tx: Any, project: Any, now: datetime
) -> None:
    new = await silences.create(tx, project.id, once(now - HOUR, now + HOUR, severity="warning"))
    found, = await over(tx, project, now, now + HOUR)
    assert found == ScopedSpan(new, "Maintenance", now - HOUR, now + HOUR, None, None, "warning")
    assert await over(tx, project, now + HOUR, now + 2 * HOUR) == []
    assert await over(tx, project, now - 2 * HOUR, now - HOUR) == []


async def test_a_silence_includes_only_the_resources_that_it_names(tx: Any, project: Any, now: datetime) -> None:
    router, shop, integration = uuid4(), uuid4(), uuid4()
    wanted = once(now - HOUR, now + HOUR, resources=(router,), integrations=(integration,), incident_types=("disk",))
    await silences.create(tx, project.id, wanted)
    found, = await over(tx, project, now, now + HOUR, router)
    assert (found.integrations, found.incident_types) == (frozenset({integration}), frozenset({"disk"}))
    assert await over(tx, project, now, now + HOUR, shop) == []


async def test_silences_of_another_project_include_nothing_of_this_one(
    tx: Any, project: Any, now: datetime
) -> None:
    other = await tx.fetchval("""INSERT INTO projects (name, plan, token_hash, token_sealed)
                                 VALUES ('Other', 'free', '1', '1') RETURNING id""")
    resource = uuid4()
    await silences.create(tx, other, once(now - HOUR, now + HOUR))
    await silences.create(tx, other, once(now - HOUR, now + HOUR, resources=(resource,)))
    assert await over(tx, project, now, now + HOUR, resource) == []
    assert await silences.computed_spans(tx, project.id, resource, now, now + HOUR) == []
    assert await silences.spans_of_project(tx, project.id, now, now + HOUR) == []


async def test_those_that_end_last_come_first(tx: Any, project: Any, now: datetime) -> None:
    for hours in (2, 3, 1):
        await silences.create(tx, project.id, once(now - HOUR, now + hours * HOUR))
    assert [span.ends_at for span in await over(tx, project, now, now + HOUR)] == [
        now + 3 * HOUR, now + 2 * HOUR, now + HOUR,
    ]  # fmt: skip


async def test_spans_are_written_down_for_thirty_days_and_computed_beyond(
    tx: Any, project: Any, now: datetime
) -> None:
    await silences.create(tx, project.id, daily(now))
    assert len(await over(tx, project, now, now + 60 * DAY)) == 30 + 1
    at = now + 100 * DAY
    found, = await silences.computed_spans(tx, project.id, uuid4(), at, at + HOUR)
    assert (found.starts_at, found.ends_at) == (at - HOUR, at + HOUR)


async def test_what_is_written_down_is_what_the_rule_says(tx: Any, project: Any, now: datetime) -> None:
    resource = uuid4()
    await silences.create(tx, project.id, daily(now))
    await silences.create(tx, project.id, once(now + 3 * DAY, now + 4 * DAY, resources=(resource,)))
    until = now + 20 * DAY
    assert sorted(await over(tx, project, now, until, resource), key=repr) == sorted(
        await silences.computed_spans(tx, project.id, resource, now, until), key=repr
    )


async def test_spans_are_added_before_they_run_out_and_none_is_added_twice(
    tx: Any, project: Any, now: datetime
) -> None:
    new = await silences.create(tx, project.id, daily(now))
    assert await silences.extend(tx, 500) == 0
    await tx.execute("DELETE FROM silence_spans WHERE lower(span) > now() + interval '10 d'")
    await tx.execute("UPDATE silences SET expanded_until = now() + interval '10 d'")
    assert await silences.extend(tx, 500) == 1
    assert await silences.extend(tx, 500) == 0
    starts = [span.starts_at for span in await over(tx, project, now, now + 60 * DAY)]
    assert len(starts) == len(set(starts)) == 30 + 1
    assert {span.silence_id for span in await over(tx, project, now, now + DAY)} == {new}


async def test_spans_that_were_over_a_week_ago_are_dropped_unless_a_status_page_shows_them(
    tx: Any, project: Any, now: datetime
) -> None:
    for public in (True, False):
        await silences.create(tx, project.id, daily(now, public=public))
    await tx.execute("""INSERT INTO silence_spans SELECT id, project_id, tstzrange(now() - interval '9 d',
                        now() - interval '8 d'), true FROM silences""")
    await silences.extend(tx, 500)
    assert await tx.fetchval("SELECT count(*) FROM silence_spans WHERE upper(span) < now()") == 1


async def test_a_silence_is_planned_then_active_then_ended(tx: Any, project: Any, now: datetime) -> None:
    states = {
        "planned": once(now + 40 * DAY, now + 41 * DAY), "active": daily(now), "ended": once(now - DAY, now - HOUR),
    }  # fmt: skip
    for state, wanted in states.items():
        new = await silences.create(tx, project.id, wanted)
        found = await silences.one(tx, project.id, new)
        assert found is not None
        assert (found.state, found.silence) == (state, wanted)
    for state in states:
        listed, total = await silences.list_(tx, project.id, state=state, limit=10, offset=0)
        assert [each.silence for each in listed] == [states[state]]
        assert total == 1


async def test_ending_a_silence_ends_it_now_and_keeps_on_record_that_it_has_been(
    tx: Any, project: Any, now: datetime
) -> None:
    new = await silences.create(tx, project.id, daily(now))
    async with tx.transaction():
        await silences.end_now(tx, project.id, new)
        at = await tx.fetchval("SELECT now()")
    found = await silences.one(tx, project.id, new)
    assert found is not None
    assert (found.state, found.silence.rule.ends_at) == ("ended", at)
    assert await over(tx, project, at, at + 60 * DAY) == []
    been, = await over(tx, project, now - 2 * HOUR, now)
    assert (been.starts_at, been.ends_at) == (now - HOUR, at)


async def test_ending_a_silence_before_it_begins_leaves_nothing_of_it(tx: Any, project: Any, now: datetime) -> None:
    new = await silences.create(tx, project.id, once(now + HOUR, now + 2 * HOUR))
    await silences.end_now(tx, project.id, new)
    found = await silences.one(tx, project.id, new)
    assert found is not None
    assert found.state == "ended"
    assert await over(tx, project, now, now + DAY) == []
    assert await silences.computed_spans(tx, project.id, uuid4(), now, now + DAY) == []


async def test_a_changed_silence_has_the_spans_of_its_new_rule_only(tx: Any, project: Any, now: datetime) -> None:
    new = await silences.create(tx, project.id, daily(now))
    wanted = once(now - HOUR, now + 3 * HOUR)
    await silences.change(tx, project.id, new, wanted)
    assert [(each.starts_at, each.ends_at) for each in await over(tx, project, now - DAY, now + 60 * DAY)] == [
        (now - HOUR, now + 3 * HOUR)
    ]


async def test_whatever_happens_to_a_silence_has_what_waits_decided_anew(
    tx: Any, project: Any, now: datetime
) -> None:
    waiting = await held_delivery(tx, project.id)
    new = await silences.create(tx, project.id, daily(now))
    assert await is_due(tx, waiting)
    await silences.change(tx, project.id, new, daily(now, severity="info"))
    assert await is_due(tx, waiting)
    await silences.end_now(tx, project.id, new)
    assert await is_due(tx, waiting)
    await silences.delete(tx, project.id, new)
    assert await is_due(tx, waiting)


async def test_a_deleted_resource_is_taken_out_and_a_silence_of_nothing_else_ends(
    tx: Any, project: Any, now: datetime
) -> None:
    router, shop = uuid4(), uuid4()
    both = await silences.create(tx, project.id, daily(now, resources=(router, shop)))
    alone = await silences.create(tx, project.id, daily(now, resources=(router,)))
    await silences.forget_resource(tx, project.id, router)
    left, ended = await silences.one(tx, project.id, both), await silences.one(tx, project.id, alone)
    assert left is not None
    assert ended is not None
    assert (left.state, left.silence.resources) == ("active", (shop,))
    assert (ended.state, ended.silence.resources) == ("ended", ())
    later = await tx.fetchval("SELECT now()")
    assert await over(tx, project, later, later + DAY, uuid4()) == []


async def test_a_deleted_integration_is_taken_out_and_a_silence_of_nothing_else_ends(
    tx: Any, project: Any, now: datetime
) -> None:
    integration = uuid4()
    new = await silences.create(tx, project.id, daily(now, integrations=(integration,)))
    await silences.forget_integration(tx, project.id, integration)
    found = await silences.one(tx, project.id, new)
    assert found is not None
    assert (found.state, found.silence.integrations) == ("ended", ())
