"""Replays: what a receiver missed while it was down, sent again; watched and stopped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import get, post

from tocsin.actions import replays as actions
from tocsin.actions.base import Actor
from tocsin.api.schemas import Listed, Page, millis
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain import replays as rules
from tocsin.domain.errors import not_found
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import replays
from tocsin.storage.delivery.replays import Replay
from tocsin.storage.postgres.database import transaction

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ReplayOrder(msgspec.Struct, rename={"from_": "from"}):
    """Deliveries that were created at or after `from` and before `to` (default: now), with that status."""

    from_: Moment
    to: Moment | None = None
    status: rules.Status = "dead"


class ReplayShown(msgspec.Struct, rename={"from_": "from"}):
    """One replay. `total` are to be sent, of which `queued` so far; these are outstanding, or ended `delivered`, `dead`
    or `suppressed`. `skipped` had been sent again by other means before it was their turn. `reason` is what it waits
    for, or why it was stopped.
    """

    uuid: str
    integration_uuid: str
    state: rules.State
    reason: str | None
    from_: str
    to: str
    status: rules.Status
    total: int
    queued: int
    delivered: int
    dead: int
    suppressed: int
    skipped: int
    created_by: str
    created_at: str
    finished_at: str | None


def shown(replay: Replay) -> ReplayShown:
    return ReplayShown(
        uuid=ids.public(ids.REPLAY, replay.id),
        integration_uuid=ids.public(ids.INTEGRATION, replay.integration_id),
        state=replay.state,
        reason=replay.reason,
        from_=millis(replay.from_at),
        to=millis(replay.to_at),
        status=replay.status,
        total=replay.total,
        queued=replay.queued,
        delivered=replay.delivered,
        dead=replay.dead,
        suppressed=replay.suppressed,
        skipped=replay.skipped,
        created_by=replay.created_by,
        created_at=millis(replay.created_at),
        finished_at=millis(replay.finished_at),
    )


@post("/api/v1/integrations/{uuid:str}/redeliver", status_code=202)
async def create(uuid: str, data: ReplayOrder, caller: Actor, service: Service) -> ReplayShown:
    """Send again what an integration missed

    Everything of that range and status, in the order of its creation, each as a delivery of its own that names the
    old one; a few at a time, more while the receiver takes them, and never in the way of new incidents. Tests, notices
    and what was delivered by a redelivery since are left out. An incident's end follows its beginning, even from
    outside of the range. At most 100,000 deliveries, and one replay of an integration at a time. Never server restarts.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    selection = rules.selection(data.from_, data.to, data.status, datetime.now(UTC))
    async with transaction(service.pool) as tx:
        return shown(await actions.create(tx, caller, service.vault, key, selection))


@get("/api/v1/integrations/{uuid:str}/replays")
async def of_integration(uuid: str, caller: Actor, service: Service, asked: Page) -> Listed[ReplayShown]:
    """List an integration's replays

    Newest first.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        if await integrations.one(tx, service.vault, caller.project_id, key) is None:
            raise not_found("integration")
        found, total = await replays.of_integration(
            tx, caller.project_id, key, limit=asked.per_page, offset=asked.offset
        )
    return Listed([*map(shown, found)], asked.meta(total))


@get("/api/v1/replays/{uuid:str}")
async def read(uuid: str, caller: Actor, service: Service) -> ReplayShown:
    """Read one replay, and how far it is"""
    async with service.pool.acquire() as tx:
        replay = await replays.one(tx, caller.project_id, ids.key_of(ids.REPLAY, uuid))
    if replay is None:
        raise not_found("replay")
    return shown(replay)


@post("/api/v1/replays/{uuid:str}/stop", status_code=200)
async def stop(uuid: str, caller: Actor, service: Service) -> ReplayShown:
    """Stop a replay

    Nothing more is queued, and what waits for another attempt is suppressed. One that has ended is returned as it is.
    """
    async with transaction(service.pool) as tx:
        return shown(await actions.stop(tx, caller, ids.key_of(ids.REPLAY, uuid)))


routes = [create, of_integration, read, stop]
