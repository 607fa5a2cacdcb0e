"""Integrations: creating, reading, changing, deleting and testing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, patch, post
from msgspec import UNSET, UnsetType

from tocsin.actions import attachments
from tocsin.actions import integrations as actions
from tocsin.actions.base import Actor
from tocsin.api import deliveries
from tocsin.api.schemas import seconds
from tocsin.api.service import Service
from tocsin.domain import attachments as rules
from tocsin.domain import floods, ids
from tocsin.domain.errors import not_found
from tocsin.integrations import base
from tocsin.integrations.base import IntegrationType
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.postgres.database import transaction

SECRET_HEADER = "Tocsin-Webhook-Secret"  # noqa: S105  (the header's name)
WARNING_HEADER = "Tocsin-Warning"

def _schema(*types: str) -> msgspec.Meta:
    """The JSON types of a value that the handler validates itself."""
    return msgspec.Meta(extra_json_schema={"type": list(types)})


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=actions.MAX_NAME_LENGTH)]


class AttachmentGiven(msgspec.Struct):
    """How an integration is notified of incidents; what is left out stays, or is as it is by default.

    `after`: seconds that an incident must have lasted, unacknowledged, before it is told (0). `repeat`: seconds between
    reminders while it lasts unacknowledged (null: none; at least 60). `incident_types`: only these (null: all).
    `severity`: only this one or worse (null: all). `hours`: outside of them it waits until they begin (null: any),
    such as `{"timezone": "Europe/Vienna", "days": "MO-FR", "from": "08:00", "to": "20:00"}`.
    """

    after: Annotated[Any, _schema("integer")] = UNSET
    repeat: Annotated[Any, _schema("integer", "null")] = UNSET
    incident_types: Annotated[Any, _schema("array", "null")] = UNSET
    severity: Annotated[Any, _schema("string", "null")] = UNSET
    hours: Annotated[Any, _schema("object", "null")] = UNSET

    def given(self) -> dict[str, Any]:
        """What was given, by its name."""
        values = {name: getattr(self, name) for name in rules.FIELDS}
        return {name: value for name, value in values.items() if value is not UNSET}


class FloodShown(msgspec.Struct):
    """At most so many incidents one by one in so many seconds; the rest of them in one message."""

    incidents: int
    seconds: int


class IntegrationShown(msgspec.Struct):
    """`flood` is left out where it is the usual: 10 incidents in 300 seconds for those that people read."""

    uuid: str
    type: str
    name: str
    settings: dict[str, Any]
    editable: bool
    deletable: bool
    created_at: str
    updated_at: str
    flood: FloodShown | UnsetType | None = UNSET


Flood = Annotated[Any, _schema("object", "null")]


class NewIntegration(msgspec.Struct):
    """`settings` are those of the type; unknown ones are ignored.

    `flood`, only for those that people read: at most `incidents` are told one by one in `seconds`, and the rest in one
    message; null: all of them one by one. Left out: `{"incidents": 10, "seconds": 300}`. SMS has a rule of its own.
    """

    type: str
    settings: dict[str, Any]
    name: Name | None = None
    flood: Flood = UNSET


class IntegrationToCreate(msgspec.Struct):
    integration: NewIntegration


class IntegrationChange(msgspec.Struct):
    """What is left out stays. A `name` of null restores the default name."""

    name: Name | UnsetType | None = UNSET
    settings: dict[str, Any] | UnsetType = UNSET
    flood: Flood = UNSET


class IntegrationToChange(msgspec.Struct):
    integration: IntegrationChange


class PreviewShown(msgspec.Struct):
    """What would be sent for one event. `method`, `url` and `headers` are those of a webhook's request; the headers
    that sign it, and that tell of its incident, come on top.
    """

    event: str
    method: str | None
    url: str | None
    headers: dict[str, str]
    body: str


class Previews(msgspec.Struct):
    data: list[PreviewShown]


class Secret(msgspec.Struct):
    secret: str


class HealthShown(msgspec.Struct):
    status: Literal["ok", "failing", "disabled"]
    reason: str | None
    last_delivered_at: str | None
    failing_since: str | None
    outstanding: int


def reveals(caller: Actor, service: Service) -> bool:
    """Whether responses show stored secrets in clear: only if the operator enabled it, and never to readers."""
    return service.settings.reveal_secrets and caller.role != "reader"


def shown(integration: Integration, *, reveal: bool, sent: Mapping[str, Any] | None = None) -> IntegrationShown:
    """An integration as responses show it: secrets masked, but for those that this very call has `sent`."""
    kind = base.of(integration.type)
    settings = kind.public_settings(integration.settings, reveal=reveal)
    for name in (kind.secret_settings & settings.keys() & (sent or {}).keys()) - kind.internal_settings:
        stored = integration.settings[name]
        settings[name] = (sent or {})[name] if isinstance(stored, dict) else stored  # of which some may be masked
    return IntegrationShown(
        uuid=ids.public(ids.INTEGRATION, integration.id),
        type=integration.type,
        name=base.display_name(integration),
        settings=settings,
        editable=not integration.system and kind.editable,
        deletable=not integration.system,
        created_at=seconds(integration.created_at),
        updated_at=seconds(integration.updated_at),
        flood=_flood(integration, kind),
    )


def _flood(integration: Integration, kind: IntegrationType) -> FloodShown | UnsetType | None:
    if integration.flood == floods.USUAL or not actions.has_flood(kind):
        return UNSET
    rule = integration.flood
    return None if rule is None else FloodShown(rule.incidents, rule.seconds)


@get("/api/v1/integrations")
async def list_(caller: Actor, service: Service) -> list[IntegrationShown]:
    """List integrations

    All of the project's, oldest first.
    """
    async with service.pool.acquire() as tx:
        found = await integrations.list_(tx, service.vault, caller.project_id)
    return [shown(each, reveal=reveals(caller, service)) for each in found]


@post("/api/v1/integrations", status_code=201)
async def create(data: IntegrationToCreate, caller: Actor, service: Service) -> Response[IntegrationShown]:
    """Create an integration

    A webhook's signing secret is in the response header `Tocsin-Webhook-Secret`, this once. If its destination cannot
    be reached at present, the header `Tocsin-Warning` says why.
    """
    given = data.integration
    settings = await base.of(given.type).consult(given.settings, None, service.apprise)
    wanted = actions.new(given.type, settings, given.name, given.flood)
    headers = await _warning(service, wanted.kind, wanted.settings)
    wanted = await actions.looked_up(wanted, service.settings)
    async with transaction(service.pool) as tx:
        made = await actions.create(tx, caller, service.vault, wanted, production=service.settings.production)
    if wanted.kind.signing_setting:
        headers[SECRET_HEADER] = made.settings[wanted.kind.signing_setting]
    answer = shown(made, reveal=reveals(caller, service), sent=given.settings)
    return Response(answer, status_code=201, headers=headers)


@post("/api/v1/integrations/preview", status_code=200)
async def preview(data: IntegrationToCreate, caller: Actor, service: Service) -> Previews:
    """Preview what settings would send

    For an example of each event; nothing is stored or sent. Errors are those of creation, and name the place in a
    template's settings. Secrets in the result are masked.
    """
    found = actions.previews(data.integration.type, data.integration.settings, service.public_url)
    return Previews([PreviewShown(each.event, each.method, each.url, dict(each.headers), each.body) for each in found])


@get("/api/v1/integrations/{uuid:str}")
async def read(uuid: str, caller: Actor, service: Service) -> IntegrationShown:
    """Read one integration"""
    async with service.pool.acquire() as tx:
        found = await integrations.one(tx, service.vault, caller.project_id, ids.key_of(ids.INTEGRATION, uuid))
    return shown(actions.existing(found), reveal=reveals(caller, service))


@patch("/api/v1/integrations/{uuid:str}")
async def change(
    uuid: str, data: IntegrationToChange, caller: Actor, service: Service
) -> Response[IntegrationShown]:
    """Change an integration's name, settings or flood control

    A secret that is sent masked, as it is shown, stays as it is. Flood control can be changed of all that people read,
    also where nothing else can be.
    """
    requested = data.integration
    headers: dict[str, str] = {}
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with service.pool.acquire() as tx:
        before = actions.existing(await integrations.one(tx, service.vault, caller.project_id, key))
    kind, given = base.of(before.type), dict[str, Any]()
    if not before.system and kind.editable and not isinstance(requested.settings, UnsetType):
        given = actions.without_masked(kind, requested.settings)
        given = dict(await kind.consult(given, before.settings, service.apprise))
        headers = await _warning(service, kind, kind.parse(given, before.settings))
    renamed = not isinstance(requested.name, UnsetType)
    name = None if isinstance(requested.name, UnsetType) else requested.name
    only_flood = requested.flood is not UNSET and not renamed and isinstance(requested.settings, UnsetType)
    async with transaction(service.pool) as tx:
        if not only_flood:
            changed = await actions.change(tx, caller, service.vault, key, given, name=name, renamed=renamed)
        if requested.flood is not UNSET:
            changed = await actions.change_flood(tx, caller, service.vault, key, requested.flood)
    return Response(shown(changed, reveal=reveals(caller, service), sent=given), headers=headers)


@delete("/api/v1/integrations/{uuid:str}", status_code=204)
async def delete_(uuid: str, caller: Actor, service: Service) -> None:
    """Delete an integration

    What is outstanding for it is suppressed.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        await actions.delete(tx, caller, service.vault, key)


@post("/api/v1/integrations/{uuid:str}/test", status_code=202)
async def test(uuid: str, caller: Actor, service: Service) -> deliveries.DeliveryShown:
    """Send a test notification

    Through the real path; returns the delivery, which can be polled at its own address.
    """
    key = ids.key_of(ids.INTEGRATION, uuid)
    async with transaction(service.pool) as tx:
        made = await actions.test(tx, caller, service.vault, key, service.public_url)
    return deliveries.shown(made)


@post("/api/v1/integrations/{uuid:str}/rotate_secret", status_code=200)
async def rotate_secret(uuid: str, caller: Actor, service: Service) -> Secret:
    """Give a webhook a new signing secret

    For 24 hours deliveries carry the signatures of both, so that receivers can change over.
    """
    async with transaction(service.pool) as tx:
        return Secret(await actions.rotate_secret(tx, caller, service.vault, ids.key_of(ids.INTEGRATION, uuid)))


@post("/api/v1/integrations/{uuid:str}/attach_all", status_code=200)
async def attach_all(
    uuid: str, caller: Actor, service: Service, data: AttachmentGiven | None = None
) -> IntegrationShown:
    """Attach an integration to all servers and monitors

    Those that are created later are attached too. Where it is attached directly, that stays as it is.
    """
    key, given = ids.key_of(ids.INTEGRATION, uuid), {} if data is None else data.given()
    async with transaction(service.pool) as tx:
        found = await attachments.attach_all(tx, caller, service.vault, key, given)
    return shown(found, reveal=reveals(caller, service))


@get("/api/v1/integrations/{uuid:str}/health")
async def health(uuid: str, caller: Actor, service: Service) -> HealthShown:
    """Get an integration's health"""
    async with service.pool.acquire() as tx:
        found = await integrations.health(tx, caller.project_id, ids.key_of(ids.INTEGRATION, uuid))
    if found is None:
        raise not_found("integration")
    return HealthShown(
        found.status, found.reason, seconds(found.last_delivered_at), seconds(found.failing_since), found.outstanding
    )


@post("/api/v1/integrations/{uuid:str}/enable", status_code=200)
async def enable(uuid: str, caller: Actor, service: Service) -> IntegrationShown:
    """Enable an integration that was disabled

    Its past failures are reset.
    """
    async with transaction(service.pool) as tx:
        found = await actions.enable(tx, caller, service.vault, ids.key_of(ids.INTEGRATION, uuid))
    return shown(found, reveal=reveals(caller, service))


async def _warning(service: Service, kind: IntegrationType, settings: Mapping[str, Any]) -> dict[str, str]:
    warning = await actions.reachable(kind, settings, service.settings.allow_networks)
    return {} if warning is None else {WARNING_HEADER: warning}


routes = [list_, create, preview, read, change, delete_, test, rotate_secret, attach_all, health, enable]
