"""What tests of turns do to a world: attach, silence, acknowledge, open many, let summaries go out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.world import PUBLIC_URL, World
from tocsin.domain import ids
from tocsin.domain.attachments import Attachment
from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.silences import Rule
from tocsin.storage.channels import attachments, integrations
from tocsin.storage.delivery import acknowledgements, incidents, openings
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.notifying import silences, summaries
from tocsin.storage.notifying.silences import Silence

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
        """INSERT INTO attachments (resource_id, integration_id, at_once, after, repeat)
           SELECT s, integration_id, at_once, after, repeat FROM unnest($1::uuid[]) AS s, attachments
           WHERE resource_id = $2""",
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
    for integration in await summaries.due(world.pool, 10):
        async with world.pool.acquire() as tx, tx.transaction():
            await summaries.send(tx, integration)


async def on_call(world: World, *members: UUID, how: Attachment = Attachment(), **settings: object) -> UUID:  # noqa: B008
    given = {"timezone": "UTC", "rotation": "daily", "handover": "00:00", **settings}
    async with world.pool.acquire() as tx, tx.transaction():
        made = await integrations.create(
            tx, world.vault, world.project_id, "Integrations::OnCallIntegration", integrations.Facts(True, True),
            name="Duty", settings={**given, "integrations": [ids.public(ids.INTEGRATION, each) for each in members]},
            secret=(),
        )  # fmt: skip
        await attachments.attach(tx, world.server_id, made.id, how, for_people=True)
    return made.id


async def mail(world: World, address: str) -> UUID:
    """A mailbox that is attached to nothing."""
    async with world.pool.acquire() as tx, tx.transaction():
        made = await integrations.create(
            tx, world.vault, world.project_id, "Integrations::EmailIntegration", integrations.Facts(True, True),
            name=None, settings={"email": address}, secret=(),
        )  # fmt: skip
    return made.id


async def delivered(world: World, integration: UUID) -> None:
    """What is outstanding for the integration arrives."""
    await world.pool.execute(
        """WITH gone AS (DELETE FROM outstanding WHERE integration_id = $1 AND held IS NULL RETURNING *)
           INSERT INTO finished (id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event,
                                 status, attempt, attempts, created_at, finished_at)
           SELECT id, project_id, integration_id, integration_type, on_behalf_of, incident_id, event, 'delivered', 1,
                  '[]', created_at, now() FROM gone""",
        integration,
    )  # fmt: skip
