"""Sources: creating, reading, changing and deleting them, their addresses, and what was sent to them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import delete, get, patch, post

from tocsin.actions import sources as actions
from tocsin.actions.base import Actor
from tocsin.actions.sources import SourceFields
from tocsin.api import intake
from tocsin.api.schemas import Listed, Page, millis, seconds
from tocsin.api.service import Service
from tocsin.domain.alerts import Alert
from tocsin.domain.errors import not_found
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.domain.sources.base import MASK, Unreadable, types
from tocsin.storage.monitoring import source_bodies, sources
from tocsin.storage.monitoring.sources import Source
from tocsin.storage.postgres.database import transaction

MAX_PREVIEW = 192 * 1024
SHOWN = 100
"""Alerts that a preview shows."""


class SourceGiven(msgspec.Struct):
    source: SourceFields


class SourceShown(msgspec.Struct):
    """A source. Its `url` has its key, which readers see masked; `alerts_ongoing` counts up to 1,000."""

    uuid: str
    name: str
    type: Literal["alertmanager", "generic", "grafana", "pagerduty", "uptime_kuma"]
    url: str
    settings: dict[str, Any]
    signing_secret: str | None
    stale_after: int | None
    depends_on: list[str | list[str]]
    alerts_ongoing: int
    last_body_at: str | None
    created_at: str
    updated_at: str


class BodyShown(msgspec.Struct):
    """A body that was sent, up to 64 KiB of it, and what became of it."""

    at: str
    kind: Literal["taken", "refused", "note"]
    became: str
    body: str
    size: int


class Bodies(msgspec.Struct):
    data: list[BodyShown]


class ToPreview(msgspec.Struct):
    """A source, which is not stored, and a body as text."""

    source: SourceFields
    body: str


class AlertShown(msgspec.Struct):
    """An alert as it would be taken."""

    dedup_key: str
    status: str
    incident_type: str
    message: str
    severity: str
    url: str | None
    details: dict[str, Any]


class Previewed(msgspec.Struct):
    """What would be read from a body, and what of it could not be taken."""

    alerts: list[AlertShown]
    refused: list[str]
    notes: list[str]


def url_of(service: Service, source: Source, *, masked: bool) -> str:
    """The address that its sender posts to."""
    return f"{service.public_url}/in/{MASK if masked else source.key}"


def _shown(service: Service, caller: Actor, source: Source | None) -> SourceShown:
    if source is None:
        raise not_found("source")
    wanted = source.wanted
    return SourceShown(
        uuid=SOURCE.public(source.id),
        name=wanted.name,
        type=wanted.type,  # type: ignore[arg-type]
        url=url_of(service, source, masked=caller.role == "reader"),
        settings=dict(wanted.settings),
        signing_secret=None if wanted.signing_secret is None else MASK,
        stale_after=wanted.stale_after,
        depends_on=source.depends_on,
        alerts_ongoing=source.ongoing,
        last_body_at=seconds(source.last_body_at),
        created_at=seconds(source.created_at),
        updated_at=seconds(source.updated_at),
    )


@get("/api/v1/sources")
async def list_(caller: Actor, service: Service, asked: Page) -> Listed[SourceShown]:
    """List sources

    By name.
    """
    async with service.pool.acquire() as tx:
        found, total = await sources.list_(
            tx, service.vault, caller.project_id, limit=asked.per_page, offset=asked.offset
        )
    return Listed([_shown(service, caller, each) for each in found], asked.meta(total))


@post("/api/v1/sources", status_code=201)
async def create(data: SourceGiven, caller: Actor, service: Service) -> SourceShown:
    """Create a source

    Another system that sends its alerts to the answer's `url`: each becomes an incident of the source, kept apart by
    its own key.
    """
    wanted = actions.wanted(data.source, None)
    async with transaction(service.pool) as tx:
        made = await actions.create(tx, caller, service.vault, wanted, data.source.depends_on or None)
    return _shown(service, caller, made)


@post("/api/v1/sources/preview", status_code=200, request_max_body_size=MAX_PREVIEW)
async def preview(data: ToPreview, caller: Actor, service: Service) -> Previewed:
    """Preview what a source would read from a body

    Nothing is stored. Errors are those of creation, and of sending that body.
    """
    wanted = actions.wanted(data.source, None)
    try:
        value = intake.parsed(data.body.encode())
        found = await intake.read(service, types()[wanted.type].read(value, wanted.settings, intake.now()))
    except Unreadable as error:
        return Previewed([], [str(error)], [])
    return Previewed([_previewed(each) for each in found.alerts[:SHOWN]], found.wrong[:SHOWN], found.notes[:SHOWN])


def _previewed(alert: Alert) -> AlertShown:
    return AlertShown(
        alert.dedup_key, alert.status, alert.type, alert.message, alert.severity, alert.url, dict(alert.details)
    )


@get("/api/v1/sources/{uuid:str}")
async def one(uuid: str, caller: Actor, service: Service) -> SourceShown:
    """Get a source"""
    async with service.pool.acquire() as tx:
        found = await sources.one(tx, service.vault, caller.project_id, SOURCE.key_of(uuid))
    return _shown(service, caller, found)


@patch("/api/v1/sources/{uuid:str}")
async def change(uuid: str, data: SourceGiven, caller: Actor, service: Service) -> SourceShown:
    """Change a source

    What is given; `settings` as a whole.
    """
    async with transaction(service.pool) as tx:
        changed = await actions.change(tx, caller, service.vault, SOURCE.key_of(uuid), data.source)
    return _shown(service, caller, changed)


@post("/api/v1/sources/{uuid:str}/rotate", status_code=200)
async def rotate(uuid: str, caller: Actor, service: Service) -> SourceShown:
    """Give a source a new address

    The old one stops working within a second.
    """
    async with transaction(service.pool) as tx:
        changed = await actions.rotate(tx, caller, service.vault, SOURCE.key_of(uuid))
    return _shown(service, caller, changed)


@get("/api/v1/sources/{uuid:str}/bodies")
async def bodies(uuid: str, caller: Actor, service: Service) -> Bodies:
    """List the last bodies that were sent to a source

    Newest first, with what became of each: up to 20 that were not understood, 20 notes, and some of those that were
    taken.
    """
    async with service.pool.acquire() as tx:
        source = await sources.one(tx, service.vault, caller.project_id, SOURCE.key_of(uuid))
        if source is None:
            raise not_found("source")
        found = await source_bodies.latest(tx, source.id)
    return Bodies([BodyShown(millis(each.at), each.kind, each.became, each.body, each.size) for each in found])


@delete("/api/v1/sources/{uuid:str}")
async def remove(uuid: str, caller: Actor, service: Service) -> None:
    """Delete a source

    Its incidents are resolved, and its address is known no more.
    """
    async with transaction(service.pool) as tx:
        await actions.delete(tx, caller, service.vault, SOURCE.key_of(uuid))


routes = [list_, create, preview, one, change, rotate, bodies, remove]
