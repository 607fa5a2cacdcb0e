"""Integrations: making, reading, changing, deleting and testing them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from msgspec import UNSET, UnsetType

from tocsin.api import deliveries
from tocsin.api.caller import Caller
from tocsin.api.service import Service
from tocsin.api.shapes import seconds
from tocsin.domain import ids
from tocsin.domain.errors import Refused, forbidden_state, invalid_field, not_found
from tocsin.integrations import base
from tocsin.integrations.base import MASK, IntegrationType, Maker
from tocsin.storage import audit, integrations
from tocsin.storage import deliveries as queued
from tocsin.storage import health as fitness
from tocsin.storage.database import Tx
from tocsin.storage.integrations import Facts, Integration
from tocsin.transports.guard import Guard

CANNOT_BE_DELETED = "This integration cannot be deleted."
SECRET_HEADER = "Tocsin-Webhook-Secret"  # noqa: S105  (the header's name)
WARNING_HEADER = "Tocsin-Warning"

LONGEST_NAME = 255

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]


class IntegrationShown(msgspec.Struct):
    uuid: str
    type: str
    name: str
    settings: dict[str, Any]
    editable: bool
    deletable: bool
    created_at: str
    updated_at: str


class NewIntegration(msgspec.Struct):
    """`settings` are those of the type; what it does not know is ignored."""

    type: str
    settings: dict[str, Any]
    name: Name | None = None


class IntegrationToCreate(msgspec.Struct):
    integration: NewIntegration


class IntegrationChange(msgspec.Struct):
    """What is left out stays. A `name` of null is the type's own name for it again."""

    name: Name | UnsetType | None = UNSET
    settings: dict[str, Any] | UnsetType = UNSET


class IntegrationToChange(msgspec.Struct):
    integration: IntegrationChange


class Secret(msgspec.Struct):
    secret: str


class HealthShown(msgspec.Struct):
    status: Literal["ok", "failing", "disabled"]
    reason: str | None
    last_delivered_at: str | None
    failing_since: str | None
    outstanding: int


def shown(integration: Integration, *, reveal: bool, sent: Mapping[str, Any] | None = None) -> IntegrationShown:
    """An integration as answers show it: secrets masked, but for those that this very call has `sent`."""
    kind = base.of(integration.type)
    settings = kind.shown(integration.settings, reveal=reveal)
    for name in (kind.secret & settings.keys() & (sent or {}).keys()) - kind.internal:
        settings[name] = integration.settings[name]
    return IntegrationShown(
        uuid=ids.public(ids.INTEGRATION, integration.id),
        type=integration.type,
        name=base.called(integration),
        settings=settings,
        editable=not integration.system and kind.editable,
        deletable=not integration.system,
        created_at=seconds(integration.created_at),
        updated_at=seconds(integration.updated_at),
    )


@get("/api/v1/integrations")
async def list_(caller: Caller, service: Service) -> list[IntegrationShown]:
    """List integrations

    All of the project's, oldest first.
    """
    async with service.pool.acquire() as tx:
        found = await integrations.list_(tx, service.vault, caller.project_id)
    return [shown(each, reveal=service.settings.reveal_secrets) for each in found]


@post("/api/v1/integrations", status_code=201)
async def create(data: IntegrationToCreate, caller: Caller, service: Service) -> Response[IntegrationShown]:
    """Create an integration

    A webhook's signing secret is in the response header `Tocsin-Webhook-Secret`, this once. Where what it names cannot
    be reached at present, the header `Tocsin-Warning` says why.
    """
    given = data.integration
    kind = base.of(given.type)
    settings = kind.parse(given.settings)
    name = _checked_name(given.name)
    headers = await _reachable(service, kind, settings)
    maker = Maker(caller.project_id, caller.plan, service.settings.production)
    async with service.pool.acquire() as connection, base.making(connection) as tx:
        await kind.permit(tx, service.vault, maker, given.settings)
        made = await integrations.create(
            tx,
            service.vault,
            caller.project_id,
            kind.type,
            Facts(kind.for_people, kind.repeatable),
            name=name,
            settings=settings,
            secret=kind.secret,
        )
        await _note(tx, caller, "made integration", made)
    if kind.signing:
        headers[SECRET_HEADER] = settings[kind.signing]
    answer = shown(made, reveal=service.settings.reveal_secrets, sent=given.settings)
    return Response(answer, status_code=201, headers=headers)


@get("/api/v1/integrations/{uuid:str}")
async def read(uuid: str, caller: Caller, service: Service) -> IntegrationShown:
    """Read one integration"""
    async with service.pool.acquire() as tx:
        found = await integrations.one(tx, service.vault, caller.project_id, ids.key_of(ids.INTEGRATION, uuid))
    return shown(_there(found), reveal=service.settings.reveal_secrets)


@patch("/api/v1/integrations/{uuid:str}")
async def change(
    uuid: str, data: IntegrationToChange, caller: Caller, service: Service
) -> Response[IntegrationShown]:
    """Change an integration's name or settings

    A secret that is sent as it is shown, masked, stays as it is.
    """
    wished = data.integration
    headers: dict[str, str] = {}
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx:
        before = _there(await integrations.one(tx, service.vault, caller.project_id, key))
    given: dict[str, Any] = {}
    if not before.system and base.of(before.type).editable and not isinstance(wished.settings, UnsetType):
        kind = base.of(before.type)
        given = {name: value for name, value in wished.settings.items() if not (name in kind.secret and value == MASK)}
        # Looked up before the transaction: no row is held while a name server thinks.
        headers = await _reachable(service, kind, kind.parse(given, before.settings))
    async with service.pool.acquire() as tx, tx.transaction():
        stored = await _changeable(tx, service, caller, key)
        kind = base.of(stored.type)
        changed = await integrations.update(
            tx,
            service.vault,
            stored,
            name=stored.name if isinstance(wished.name, UnsetType) else _checked_name(wished.name),
            settings=kind.parse(given, stored.settings) if given else stored.settings,
            secret=kind.secret,
        )
        fields = [*given, *([] if isinstance(wished.name, UnsetType) else ["name"])]
        await _note(tx, caller, "changed integration", changed, {"fields": fields})
    return Response(shown(changed, reveal=service.settings.reveal_secrets, sent=given), headers=headers)


@delete("/api/v1/integrations/{uuid:str}", status_code=204)
async def delete_(uuid: str, caller: Caller, service: Service) -> None:
    """Delete an integration

    What is outstanding for it is suppressed.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx, tx.transaction():
        stored = _there(await integrations.changing(tx, service.vault, caller.project_id, key))
        if stored.system:
            raise Refused(422, "unprocessable_entity", CANNOT_BE_DELETED, body={"error": CANNOT_BE_DELETED})
        await integrations.delete(tx, caller.project_id, key)
        await _note(tx, caller, "deleted integration", stored)


@post("/api/v1/integrations/{uuid:str}/test", status_code=202)
async def test(uuid: str, caller: Caller, service: Service) -> deliveries.DeliveryShown:
    """Send a test notification

    Through the real path; the answer is the delivery, to be followed by its own address.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx, tx.transaction():
        stored = _there(await integrations.changing(tx, service.vault, caller.project_id, key))
        await _note(tx, caller, "tested integration", stored)
        return deliveries.shown(await queued.enqueue_test(tx, key, service.public_url))


@post("/api/v1/integrations/{uuid:str}/rotate_secret", status_code=200)
async def rotate_secret(uuid: str, caller: Caller, service: Service) -> Secret:
    """Give a webhook a new signing secret

    For 24 hours deliveries carry the signatures of both, so that receivers can change over.
    """
    async with service.pool.acquire() as tx, tx.transaction():
        stored = await _changeable(tx, service, caller, ids.key_of(ids.INTEGRATION, uuid))
        kind = base.of(stored.type)
        settings = kind.rotated(stored.settings, time.time())
        await integrations.update(tx, service.vault, stored, name=stored.name, settings=settings, secret=kind.secret)
        await _note(tx, caller, "rotated the signing secret", stored)
    assert kind.signing is not None
    return Secret(settings[kind.signing])


@post("/api/v1/integrations/{uuid:str}/attach_all", status_code=200)
async def attach_all(uuid: str, caller: Caller, service: Service) -> IntegrationShown:
    """Attach an integration to all servers and monitors

    Those that are made later are attached too.
    """
    async with service.pool.acquire() as tx, tx.transaction():
        key = ids.key_of(ids.INTEGRATION, uuid)
        found = _there(await integrations.attach_all(tx, service.vault, caller.project_id, key))
        await _note(tx, caller, "attached integration to everything", found)
    return shown(found, reveal=service.settings.reveal_secrets)


@get("/api/v1/integrations/{uuid:str}/health")
async def health(uuid: str, caller: Caller, service: Service) -> HealthShown:
    """See how an integration fares"""
    async with service.pool.acquire() as tx:
        found = await integrations.health(tx, caller.project_id, ids.key_of(ids.INTEGRATION, uuid))
    if found is None:
        raise not_found("integration")
    return HealthShown(
        found.status, found.reason, seconds(found.last_delivered_at), seconds(found.failing_since), found.outstanding
    )


@post("/api/v1/integrations/{uuid:str}/enable", status_code=200)
async def enable(uuid: str, caller: Caller, service: Service) -> IntegrationShown:
    """Enable an integration that was disabled

    Its past failures are forgotten.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx, tx.transaction():
        await fitness.enable(tx, caller.project_id, key)
        found = _there(await integrations.one(tx, service.vault, caller.project_id, key))
        await _note(tx, caller, "enabled integration", found)
    return shown(found, reveal=service.settings.reveal_secrets)


async def _note(
    tx: Tx, caller: Caller, action: str, found: Integration, details: Mapping[str, Any] | None = None
) -> None:
    said = {"uuid": ids.public(ids.INTEGRATION, found.id), "type": found.type, **(details or {})}
    await audit.note(tx, caller.project_id, caller.who, action, base.called(found), said)


def _there(found: Integration | None) -> Integration:
    if found is None:
        raise not_found("integration")
    return found


async def _changeable(tx: Tx, service: Service, caller: Caller, key: UUID) -> Integration:
    """The integration, held for a change, or 404, or 422 where it is the system's own."""
    stored = _there(await integrations.changing(tx, service.vault, caller.project_id, key))
    if stored.system:
        raise forbidden_state("This integration cannot be changed: it is the address of the project's owner")
    kind = base.of(stored.type)
    if not kind.editable:
        raise forbidden_state(f"A {kind.label} integration cannot be changed: delete it and make it anew")
    return stored


async def _reachable(service: Service, kind: IntegrationType, settings: Mapping[str, Any]) -> dict[str, str]:
    """Refuse a host that can never be called; for one that cannot be called at present, the header that says so."""
    host = kind.host(settings)
    if host is None:
        return {}
    guard = Guard(service.settings.allow_networks)
    guard.check_given(host, f"settings.{kind.host_setting}")
    warning = await guard.warning(host)
    return {} if warning is None else {WARNING_HEADER: warning}


def _checked_name(name: str | None) -> str | None:
    if name is None:
        return None
    if not name.isprintable() or not name.strip():
        raise invalid_field("name", "must be one line of text")
    return name.strip()


routes = [list_, create, read, change, delete_, test, rotate_secret, attach_all, health, enable]
