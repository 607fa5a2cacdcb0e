"""On-call schedules in the database: read in one query, and their gaps warned of once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest_asyncio

from tests.storage.notifying.held import held_delivery, is_due
from tocsin.domain import ids
from tocsin.domain.on_call import TYPE, Override
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Facts
from tocsin.storage.notifying import on_call, on_call_gaps

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest_asyncio.fixture
async def tx(pool: asyncpg.Pool) -> AsyncIterator[Any]:
    async with pool.acquire() as tx:
        yield tx


@pytest_asyncio.fixture
async def now(tx: Any) -> datetime:
    return await tx.fetchval("SELECT date_trunc('second', now())")


async def person(tx: Any, vault: Any, project: Any, name: str) -> UUID:
    made = await integrations.create(
        tx, vault, project.id, "Integrations::EmailIntegration", Facts(True, True), name=name,
        settings={"email": f"{name.lower()}@example.com"}, secret=(),
    )  # fmt: skip
    return made.id


async def schedule(tx: Any, vault: Any, project: Any, *members: UUID, rotation: str = "daily") -> UUID:
    settings = {
        "timezone": "UTC", "rotation": rotation, "handover": "09:00",
        "integrations": [ids.public(ids.INTEGRATION, each) for each in members],
    }  # fmt: skip
    made = await integrations.create(
        tx, vault, project.id, TYPE, Facts(True, True), name="Operations", settings=settings, secret=()
    )
    return made.id


async def notices(tx: Any) -> list[str]:
    rows = await tx.fetch("SELECT notice FROM deliveries WHERE event = 'notice' ORDER BY id")
    return [row["notice"] for row in rows]


async def look(tx: Any) -> None:
    await tx.execute("UPDATE on_call_schedules SET looked_at = NULL")
    async with tx.transaction():
        await on_call_gaps.warn(tx, 500)


async def test_schedules_are_read_with_the_overrides_that_have_not_ended(
    tx: Any, vault: Any, project: Any, now: datetime
) -> None:
    ann, ben = [await person(tx, vault, project, name) for name in ("Ann", "Ben")]
    made = await schedule(tx, vault, project, ann, ben)
    past, present, later = (Override(ben, now + n * HOUR, now + (n + 2) * HOUR) for n in (-3, -1, 24))
    for each in (past, later, present):
        await on_call.add_override(tx, project.id, made, each)
    found = await on_call.schedules(tx, project.id)
    assert [*found] == [made]
    assert found == await on_call.schedule(tx, [made, ann])
    assert (found[made].integrations, found[made].overrides) == ((ann, ben), (later, present))
    whole = await on_call.schedule_with_past(tx, made)
    assert whole is not None
    assert whole.overrides == (past, later, present)
    assert await on_call.schedule(tx, []) == {}


async def test_duties_of_all_schedules_are_listed_for_a_calendar(
    tx: Any, vault: Any, project: Any, now: datetime
) -> None:
    ann, ben = [await person(tx, vault, project, name) for name in ("Ann", "Ben")]
    made = await schedule(tx, vault, project, ann, ben)
    duties = await on_call.duties(tx, project.id, now, now + 2 * DAY)
    assert [each.title for each in duties][:2] == ["Operations: Ann", "Operations: Ben"]
    assert {each.href for each in duties} == {f"/integrations/{ids.public(ids.INTEGRATION, made)}"}


async def test_what_waits_is_decided_anew_when_somebody_takes_over(
    tx: Any, vault: Any, project: Any, now: datetime
) -> None:
    ann = await person(tx, vault, project, "Ann")
    made = await schedule(tx, vault, project, ann)
    held = await held_delivery(tx, project.id)
    override = await on_call.add_override(tx, project.id, made, Override(ann, now, now + DAY))
    assert await is_due(tx, held)
    await tx.execute("UPDATE outstanding SET due_at = now() + interval '1 h'")
    await on_call.remove_override(tx, project.id, made, override.id)
    assert await is_due(tx, held)


async def test_people_are_warned_once_of_each_gap_of_the_next_two_weeks(
    tx: Any, vault: Any, project: Any, now: datetime
) -> None:
    ann, ben = [await person(tx, vault, project, name) for name in ("Ann", "Ben")]
    await schedule(tx, vault, project, ann, ben)
    await look(tx)
    assert await notices(tx) == [], "everybody can be notified"
    await tx.execute("UPDATE integrations SET disabled_at = now() WHERE id = $1", ben)
    await look(tx)
    found, = await notices(tx)
    assert "Operations" in found
    assert "Ben is on duty, who cannot be notified" in found
    assert "and 2 more times" in found
    await look(tx)
    assert len(await notices(tx)) == 1, "they know"
    await tx.execute("UPDATE integrations SET disabled_at = NULL WHERE id = $1", ben)
    await look(tx)
    await tx.execute("UPDATE integrations SET disabled_at = now() WHERE id = $1", ben)
    await look(tx)
    assert len(await notices(tx)) == 2, "it is another gap, after there was none"


async def test_a_gap_without_end_is_one_gap_however_often_it_is_looked_at(
    tx: Any, vault: Any, project: Any
) -> None:
    ann, ben = [await person(tx, vault, project, name) for name in ("Ann", "Ben")]
    await schedule(tx, vault, project, ann, rotation="none")
    await integrations.delete(tx, project.id, ann)
    for _ in range(3):
        await look(tx)
    found, = await notices(tx)
    assert "nobody is on duty" in found
    assert await tx.fetchval("SELECT integration_id FROM deliveries WHERE event = 'notice'") == ben


async def test_schedules_are_looked_at_once_an_hour(tx: Any, vault: Any, project: Any) -> None:
    ann = await person(tx, vault, project, "Ann")
    await schedule(tx, vault, project, ann)
    async with tx.transaction():
        assert await on_call_gaps.warn(tx, 500) == 1
        assert await on_call_gaps.warn(tx, 500) == 0
