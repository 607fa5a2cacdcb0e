"""A delivery that was first tried late says what it waited for, as far as that is on record."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.delivery_record import Record
from tocsin.domain import ids
from tocsin.storage.delivery import deliveries, waits

WITHIN = 5.0


@pytest.fixture
def record(pool: asyncpg.Pool, project: Any) -> Record:
    return Record(pool, project.id)


async def said(record: Record, delivery_id: UUID) -> str | None:
    async with record.pool.acquire() as tx:
        delivery = await deliveries.one(tx, record.project_id, delivery_id)
        assert delivery is not None
        wait = await waits.late(tx, delivery, WITHIN)
    return wait and wait.words


async def ended(record: Record, ago: float, *, of: UUID | None = None) -> None:
    """Another delivery ended so many seconds ago, of that integration."""
    new = await record.finished(0, ago=ago + 1)
    await record.pool.execute(
        "UPDATE finished SET finished_at = now() - make_interval(secs => $2), integration_id = $3 WHERE id = $1",
        new, ago, of or ids.new(),
    )  # fmt: skip


async def test_what_was_tried_in_time_or_held_for_its_turn_is_not_late(record: Record) -> None:
    assert await said(record, await record.finished(3, ago=100)) is None
    assert await said(record, await record.finished(3, ago=7200, held=7000)) is None
    assert await said(record, await record.finished(None, ago=100)) is None


async def test_it_waited_for_a_slot_if_others_to_its_destination_ended_meanwhile(record: Record) -> None:
    late = await record.finished(40, ago=100)
    await ended(record, 90, of=record.integration_id)
    assert await said(record, late) == (
        "Waited 40 s for a free slot of its destination, where 1 other ended meanwhile"
    )
    await ended(record, 80, of=record.integration_id)
    await ended(record, 50, of=record.integration_id)
    assert await said(record, late) == (
        "Waited 40 s for a free slot of its destination, where 2 others ended meanwhile"
    )


async def test_it_waited_for_the_service_if_that_was_away_and_nothing_ended(record: Record, pool: asyncpg.Pool) -> None:
    late = await record.finished(40, ago=100)
    assert await said(record, late) == (
        "Waited 40 s for an engine or the database: no other delivery of that time is on record"
    )
    await pool.execute("INSERT INTO outages (began, ended) VALUES (now() - interval '95 s', now() - interval '65 s')")
    assert await said(record, late) == (
        "Waited 40 s for the service or its database, which was away for 30 s of that"
    )
    await ended(record, 80)
    assert await said(record, late) == (
        "Waited 40 s for a free slot of its destination or its engine; others were delivered meanwhile"
    )


async def test_it_says_how_often_it_was_given_back_untried(record: Record) -> None:
    words = await said(record, await record.finished(40, ago=100, attempt=2))
    assert words is not None
    assert words.endswith("; it was given back untried once")
    words = await said(record, await record.finished(40, ago=100, attempt=4))
    assert words is not None
    assert words.endswith("; it was given back untried 3 times")


async def test_the_log_of_a_delivery_says_it(record: Record, app_client: httpx.AsyncClient) -> None:
    late = await record.finished(40, ago=100)
    await ended(record, 80)
    found = (await app_client.get(f"/api/v1/deliveries/{ids.public(ids.DELIVERY, late)}")).json()
    assert found["late"].startswith("Waited 40 s for a free slot")
    prompt = await record.finished(1, ago=100)
    found = (await app_client.get(f"/api/v1/deliveries/{ids.public(ids.DELIVERY, prompt)}")).json()
    assert found["late"] is None
