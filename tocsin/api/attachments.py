"""Attachments: which integrations are notified of a resource's incidents, of which ones, when, and how often."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from tocsin.actions import attachments as actions
from tocsin.actions.base import Actor
from tocsin.api.integrations import AttachmentGiven, IntegrationShown, reveals, shown
from tocsin.api.service import Service
from tocsin.domain import hours
from tocsin.domain.errors import not_found
from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.channels import attachments
from tocsin.storage.channels.attachments import Attached
from tocsin.storage.postgres.database import transaction


class ToAttach(AttachmentGiven, kw_only=True):
    """`integration_id` is the integration's uuid, `INT…`. What else is given is changed if it is attached already."""

    integration_id: str


class AttachmentShown(msgspec.Struct):
    """What an attachment asks for beside being told."""

    after: int
    repeat: int | None
    incident_types: list[str] | None
    severity: str | None
    hours: dict[str, str] | None


class AttachedShown(IntegrationShown):
    """An integration on a resource. `attachment` is left out where it asks for nothing."""

    attachment: AttachmentShown | UnsetType = UNSET


def _shown(service: Service, caller: Actor, each: Attached) -> AttachedShown:
    integration = shown(each.integration, reveal=reveals(caller, service))
    asks = each.attachment
    attachment: AttachmentShown | UnsetType = UNSET
    if not asks.plain:
        types = None if asks.incident_types is None else list(asks.incident_types)
        within = None if asks.hours is None else hours.shown(asks.hours)
        attachment = AttachmentShown(asks.after, asks.repeat, types, asks.severity, within)
    return AttachedShown(**msgspec.structs.asdict(integration), attachment=attachment)


def _routes(kind: Resource) -> list[HTTPRouteHandler]:
    """The calls below one kind of resource."""
    path = f"/api/v1{kind.path}/{{uuid:str}}/integrations"

    @get(path, summary=f"List integrations on a {kind.label}", operation_id=f"list_integrations_of_{kind.noun}")
    async def list_(uuid: str, caller: Actor, service: Service) -> list[AttachedShown]:
        """All that are notified of its incidents."""
        async with transaction(service.pool) as tx:
            resource = await actions.locked_resource(tx, caller.project_id, kind, uuid)
            found = await attachments.attached(tx, service.vault, caller.project_id, resource)
        return [_shown(service, caller, each) for each in found]

    @post(
        path, status_code=201, summary=f"Attach an integration to a {kind.label}",
        operation_id=f"attach_integration_to_{kind.noun}",
    )  # fmt: skip
    async def attach(uuid: str, data: ToAttach, caller: Actor, service: Service) -> Response[AttachedShown]:
        """200 if it was attached before; with other values, these are changed."""
        async with transaction(service.pool) as tx:
            found, new = await actions.attach(
                tx, caller, service.vault, kind, uuid, data.integration_id, data.given()
            )
        return Response(_shown(service, caller, found), status_code=201 if new else 200)

    @patch(
        f"{path}/{{integration_id:str}}", summary=f"Change how an integration is attached to a {kind.label}",
        operation_id=f"change_integration_of_{kind.noun}",
    )  # fmt: skip
    async def change(
        uuid: str, integration_id: str, data: AttachmentGiven, caller: Actor, service: Service
    ) -> AttachedShown:
        """What is left out stays. What waits for its turn is decided anew."""
        async with transaction(service.pool) as tx:
            found = await actions.change(tx, caller, service.vault, kind, uuid, integration_id, data.given())
        return _shown(service, caller, found)

    @delete(
        f"{path}/{{integration_id:str}}", status_code=204, summary=f"Detach an integration from a {kind.label}",
        operation_id=f"detach_integration_from_{kind.noun}",
    )  # fmt: skip
    async def detach(uuid: str, integration_id: str, caller: Actor, service: Service) -> None:
        """Incidents are no longer sent there."""
        async with transaction(service.pool) as tx:
            _, was_attached = await actions.detach(tx, caller, service.vault, kind, uuid, integration_id)
        if not was_attached:
            raise not_found("integration")

    return [list_, attach, change, detach]


routes: list[Any] = [route for kind in kinds().values() for route in _routes(kind)]
