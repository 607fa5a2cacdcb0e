"""Integrations: making, reading, changing, deleting and testing them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from msgspec import UNSET, UnsetType

from tocsin.api import deliveries
from tocsin.api.caller import Caller
from tocsin.api.service import Service
from tocsin.api.shapes import seconds
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.integrations import base, keeping
from tocsin.integrations.base import MASK, IntegrationType, Maker
from tocsin.storage import health as fitness
from tocsin.storage import integrations
from tocsin.storage.integrations import Integration

SECRET_HEADER = "Tocsin-Webhook-Secret"  # noqa: S105  (the header's name)
WARNING_HEADER = "Tocsin-Warning"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=keeping.LONGEST_NAME)]


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


def reveals(caller: Caller, service: Service) -> bool:
    """Whether answers show stored secrets in clear: where the operator said so, and never to readers."""
    return service.settings.reveal_secrets and caller.role != "reader"


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
    return [shown(each, reveal=reveals(caller, service)) for each in found]


@post("/api/v1/integrations", status_code=201)
async def create(data: IntegrationToCreate, caller: Caller, service: Service) -> Response[IntegrationShown]:
    """Create an integration

    A webhook's signing secret is in the response header `Tocsin-Webhook-Secret`, this once. Where what it names cannot
    be reached at present, the header `Tocsin-Warning` says why.
    """
    given = data.integration
    kind = base.of(given.type)
    settings, name = kind.parse(given.settings), keeping.checked_name(given.name)
    headers = await _warning(service, kind, settings)
    maker = Maker(caller.project_id, caller.plan, service.settings.production)
    async with service.pool.acquire() as connection:
        made = await keeping.create(
            connection, service.vault, maker, caller.who, kind, given.settings, settings, name
        )
    if kind.signing:
        headers[SECRET_HEADER] = made.settings[kind.signing]
    answer = shown(made, reveal=reveals(caller, service), sent=given.settings)
    return Response(answer, status_code=201, headers=headers)


@get("/api/v1/integrations/{uuid:str}")
async def read(uuid: str, caller: Caller, service: Service) -> IntegrationShown:
    """Read one integration"""
    async with service.pool.acquire() as tx:
        found = await integrations.one(tx, service.vault, caller.project_id, ids.key_of(ids.INTEGRATION, uuid))
    return shown(keeping.there(found), reveal=reveals(caller, service))


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
        before = keeping.there(await integrations.one(tx, service.vault, caller.project_id, key))
    given: dict[str, Any] = {}
    if not before.system and base.of(before.type).editable and not isinstance(wished.settings, UnsetType):
        kind = base.of(before.type)
        given = {name: value for name, value in wished.settings.items() if not (name in kind.secret and value == MASK)}
        # Looked up before the transaction: no row is held while a name server thinks.
        headers = await _warning(service, kind, kind.parse(given, before.settings))
    async with service.pool.acquire() as tx, tx.transaction():
        stored = await keeping.changeable(tx, service.vault, caller.project_id, key)
        named = not isinstance(wished.name, UnsetType)
        name = wished.name if not isinstance(wished.name, UnsetType) else stored.name
        fields = [*given, *(["name"] if named else [])]
        changed = await keeping.change(tx, service.vault, caller.who, stored, given, name, fields)
    return Response(shown(changed, reveal=reveals(caller, service), sent=given), headers=headers)


@delete("/api/v1/integrations/{uuid:str}", status_code=204)
async def delete_(uuid: str, caller: Caller, service: Service) -> None:
    """Delete an integration

    What is outstanding for it is suppressed.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx, tx.transaction():
        await keeping.delete(tx, service.vault, caller.project_id, caller.who, key)


@post("/api/v1/integrations/{uuid:str}/test", status_code=202)
async def test(uuid: str, caller: Caller, service: Service) -> deliveries.DeliveryShown:
    """Send a test notification

    Through the real path; the answer is the delivery, to be followed by its own address.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx, tx.transaction():
        made = await keeping.try_out(tx, service.vault, caller.project_id, caller.who, key, service.public_url)
    return deliveries.shown(made)


@post("/api/v1/integrations/{uuid:str}/rotate_secret", status_code=200)
async def rotate_secret(uuid: str, caller: Caller, service: Service) -> Secret:
    """Give a webhook a new signing secret

    For 24 hours deliveries carry the signatures of both, so that receivers can change over.
    """
    async with service.pool.acquire() as tx, tx.transaction():
        stored = await keeping.changeable(
            tx, service.vault, caller.project_id, ids.key_of(ids.INTEGRATION, uuid)
        )
        kind = base.of(stored.type)
        settings = kind.rotated(stored.settings, time.time())
        await integrations.update(tx, service.vault, stored, name=stored.name, settings=settings, secret=kind.secret)
        await keeping.note(tx, caller.who, "rotated the signing secret", stored)
    assert kind.signing is not None
    return Secret(settings[kind.signing])


@post("/api/v1/integrations/{uuid:str}/attach_all", status_code=200)
async def attach_all(uuid: str, caller: Caller, service: Service) -> IntegrationShown:
    """Attach an integration to all servers and monitors

    Those that are made later are attached too.
    """
    async with service.pool.acquire() as tx, tx.transaction():
        key = ids.key_of(ids.INTEGRATION, uuid)
        found = await keeping.attach_all(tx, service.vault, caller.project_id, caller.who, key)
    return shown(found, reveal=reveals(caller, service))


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
        found = keeping.there(await integrations.one(tx, service.vault, caller.project_id, key))
        await keeping.note(tx, caller.who, "enabled integration", found)
    return shown(found, reveal=reveals(caller, service))


async def _warning(service: Service, kind: IntegrationType, settings: Mapping[str, Any]) -> dict[str, str]:
    warning = await keeping.reachable(kind, settings, service.settings.allow_networks)
    return {} if warning is None else {WARNING_HEADER: warning}


routes = [list_, create, read, change, delete_, test, rotate_secret, attach_all, health, enable]
