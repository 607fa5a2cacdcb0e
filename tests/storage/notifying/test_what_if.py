"""What the plan says is what happens: over random attachments, silences, hours, duties and times."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.world import World, world
from tocsin.domain import hours, ids
from tocsin.domain.attachments import Attachment
from tocsin.domain.incidents import SEVERITIES, Severity
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.domain.silences import Recurring, Rule
from tocsin.storage.channels import attachments, integrations
from tocsin.storage.notifying import plans, silences, turns
from tocsin.storage.notifying.plans import Planned
from tocsin.storage.notifying.silences import Silence
from tocsin.storage.postgres.database import key

__all__ = ["world"]

ZONES = ("Europe/Vienna", "America/New_York", "Australia/Lord_Howe")
NIGHTS = (
    datetime(2027, 3, 27, 20, tzinfo=UTC), datetime(2027, 3, 13, 20, tzinfo=UTC), datetime(2027, 4, 3, 10, tzinfo=UTC),
)  # fmt: skip
"""The evenings before clocks change in these zones."""
ON_CALL = "Integrations::OnCallIntegration"


def some_hours(luck: random.Random) -> hours.Hours | None:
    if luck.random() < 0.5:
        return None
    start, end = luck.sample(["00:00", "01:30", "02:30", "03:00", "08:00", "20:00", "23:59"], 2)
    days = luck.choice(["MO-SU", "MO-FR", "SA-SU", "SU"])
    return hours.parse({"timezone": luck.choice(ZONES), "days": days, "from": start, "to": end}, "hours")


def some_attachment(luck: random.Random) -> Attachment:
    return Attachment(
        after=luck.choice([0, 0, 60, 3600, 86_400]),
        repeat=luck.choice([None, None, 600]),
        incident_types=luck.choice([None, None, ("cpu",), ("disk", "ram")]),
        severity=luck.choice([None, None, *SEVERITIES]),
        hours=some_hours(luck),
    )


def some_silence(luck: random.Random, began: datetime, everybody: list[UUID]) -> Silence:
    start = began + timedelta(minutes=luck.randrange(-3000, 600))
    scope: dict[str, Any] = {
        "integrations": luck.choice([None, None, tuple(luck.sample(everybody, 2))]),
        "incident_types": luck.choice([None, None, ("cpu",)]),
        "severity": luck.choice([None, None, *SEVERITIES]),
    }
    if luck.random() < 0.5:
        rule = Rule(start, start + timedelta(minutes=luck.randrange(1, 2000)))
    else:
        rule = Rule(start, None, Recurring("FREQ=DAILY", luck.choice([600, 7200, 43_200]), luck.choice(ZONES)))
    return Silence("now and then", rule, **scope)


async def set_up(world: World, luck: random.Random, began: datetime) -> list[UUID]:
    """A few integrations, one of them on call, attached somehow, with some silences. Returns them."""
    await world.pool.execute("DELETE FROM integrations WHERE NOT system")
    await world.pool.execute("DELETE FROM silences")
    hooks = [await world.attach(f"http://127.0.0.1:9/{number}", some_attachment(luck)) for number in range(4)]
    if luck.random() < 0.3:
        await world.pool.execute("UPDATE integrations SET disabled_at = now() WHERE id = $1", luck.choice(hooks))
    settings = {
        "timezone": luck.choice(ZONES), "rotation": luck.choice(["daily", "weekly", "none"]), "handover": "SU 02:30",
        "integrations": [ids.public(ids.INTEGRATION, each) for each in luck.sample(hooks, luck.randrange(1, 4))],
        "anchor": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    if settings["rotation"] == "daily":
        settings["handover"] = "02:30"
    async with world.pool.acquire() as tx, tx.transaction():
        duty = await integrations.create(
            tx, world.vault, world.project_id, ON_CALL, integrations.Facts(for_people=True, repeatable=True),
            name="Duty", settings=settings, secret=(),
        )  # fmt: skip
        await attachments.attach(tx, world.server_id, duty.id, some_attachment(luck), for_people=True)
        everybody = [*hooks, duty.id]
        for _ in range(luck.randrange(0, 4)):
            await silences.create(tx, world.project_id, some_silence(luck, began, everybody))
    return everybody


async def what_happens(world: World, began: datetime, severity: Severity) -> dict[UUID, tuple[datetime | None, Any]]:
    """Open an incident that began then, and let time pass. When each was told, or why not; by who was attached."""
    [opened] = await world.open("cpu", severity=severity)
    incident = opened.incident.id
    await world.pool.execute("UPDATE incidents SET created_at = $2 WHERE id = $1", incident, began)
    await world.pool.execute(
        "UPDATE outstanding SET due_at = $2, held = 'opening', status = 'pending', engine = NULL, leased_until = NULL"
        " WHERE incident_id = $1",
        incident, began,
    )  # fmt: skip
    await world.pool.execute("UPDATE ongoing SET recipients = '{}'")
    happened: dict[UUID, tuple[datetime | None, Any]] = {}
    now = began
    for _ in range(300):
        async with world.pool.acquire() as tx, tx.transaction():
            await turns.decide_due(tx, 100, now)
            rows = await tx.fetch(
                "SELECT integration_id, on_behalf_of FROM outstanding WHERE held IS NULL AND event = 'opened'"
            )
            for row in rows:
                attached = key(row["on_behalf_of"] or row["integration_id"])
                happened.setdefault(attached, (now, key(row["integration_id"])))
            following = await tx.fetchval(
                "SELECT min(due_at) FROM outstanding WHERE held IS NOT NULL AND event = 'opened'"
                " AND held NOT LIKE 'the hand-over%'"
            )
        if following is None:
            break
        now = following
    for row in await world.pool.fetch("SELECT integration_id, reason FROM finished WHERE incident_id = $1", incident):
        happened.setdefault(key(row["integration_id"]), (None, row["reason"]))
    await world.resolve("cpu")
    left = await world.pool.fetchval("SELECT count(*) FROM outstanding WHERE held IS NOT NULL")
    assert left == 0, "when everything has ended, nothing waits"
    return happened


@pytest.mark.parametrize("seed", range(6))
async def test_what_the_plan_says_is_what_happens(world: World, seed: int) -> None:
    luck = random.Random(seed)
    for _ in range(8):
        began = luck.choice(NIGHTS) + timedelta(minutes=luck.randrange(0, 900))
        severity = luck.choice(SEVERITIES)
        everybody = await set_up(world, luck, began)
        async with world.pool.acquire() as tx, tx.transaction():
            planned = await plans.plan(tx, world.project_id, SERVER, world.server_id, "cpu", severity, began)
        happened = await what_happens(world, began, severity)
        by_integration: dict[UUID, Planned] = {each.integration_id: each for each in planned}
        for integration in everybody:
            plan = by_integration[integration]
            at, what = happened.get(integration, (None, "it waits still, or was told already"))
            if integration not in happened and plan.at is None:
                continue
            if at is None and plan.at is not None and "told already" in str(what):
                others = [each.on_duty or each.integration_id for each in planned if each.at and each is not plan]
                assert (plan.on_duty or integration) in others  # told once, by whichever way came first
                continue
            assert (at, None if at else what) == (plan.at, plan.why_not), (seed, integration, plan, what)
            if at and plan.on_duty:
                assert what == plan.on_duty
        order = [each.at for each in planned if each.at]
        assert order == sorted(order)
