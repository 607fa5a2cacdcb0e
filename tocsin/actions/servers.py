"""Servers: reports of their agents, alerts, and deletion."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import SYSTEM, Actor, Change, action, unrecorded
from tocsin.actions.batches import ReportBatch
from tocsin.domain.errors import not_found
from tocsin.domain.reports import Recorded, Report
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.monitoring import downtime
from tocsin.storage.monitoring import servers as stored
from tocsin.storage.monitoring.servers import Server
from tocsin.storage.postgres.database import Tx


@unrecorded("the samples are its record")
async def report(batch: ReportBatch, actor: Actor, given: Report) -> Recorded:
    """Store a report's samples, judge them, and open or resolve incidents. The first report creates the server."""
    return await batch(given)


@unrecorded("a sign of life", by=SYSTEM)
async def record_api_alive(tx: Tx, actor: Actor) -> None:
    """Record that reports are accepted here: without it, no server counts as down."""
    await downtime.record_api_alive(tx)


@action("changed server")
async def change_alerts(tx: Tx, actor: Actor, key: UUID, given: object) -> tuple[Server, Change]:
    """Change when its samples, or its downtime, open an incident. Omitted alerts stay; null switches an alert off.

    Raises `Refused` (404, or 422 with the field).
    """
    found = await stored.change_alerts(tx, actor.project_id, key, given)
    if found is None:
        raise not_found("server")
    return found, _change(found, alerts=given)


@action("deleted server")
async def delete(tx: Tx, actor: Actor, key: UUID) -> tuple[Server, Change]:
    """Delete a server and resolve its incidents. The next report creates it again. Returns its last state."""
    found = await stored.one(tx, actor.project_id, key)
    if found is None or not await stored.delete(tx, actor.project_id, key):
        raise not_found("server")
    return found, _change(found)


def _change(found: Server, **details: object) -> Change:
    uuid = SERVER.public(found.id)
    return Change(found.hostname or uuid, {"uuid": uuid, **details})
