"""Which integrations are notified of a resource's incidents."""

from __future__ import annotations

import msgspec
from litestar import Response, delete, get, post
from litestar.handlers import HTTPRouteHandler

from tocsin.actions import attachments
from tocsin.actions.base import Actor
from tocsin.api.integrations import IntegrationShown, reveals, shown
from tocsin.api.service import Service
from tocsin.domain.errors import not_found
from tocsin.domain.resources.base import Resource, kinds
from tocsin.storage.channels import integrations
from tocsin.storage.postgres.database import transaction


class ToAttach(msgspec.Struct):
    """`integration_id` is the integration's uuid, `INT…`."""

    integration_id: str


async def _attached(service: Service, caller: Actor, kind: Resource, uuid: str) -> list[IntegrationShown]:
    async with transaction(service.pool) as tx:
        resource = await attachments.locked_resource(tx, caller.project_id, kind, uuid)
        found = await integrations.attached(tx, service.vault, caller.project_id, resource)
    return [shown(each, reveal=reveals(caller, service)) for each in found]


async def _attach(
    service: Service, caller: Actor, kind: Resource, uuid: str, integration_id: str
) -> Response[IntegrationShown]:
    async with transaction(service.pool) as tx:
        found, new = await attachments.attach(tx, caller, service.vault, kind, uuid, integration_id)
    return Response(shown(found, reveal=reveals(caller, service)), status_code=201 if new else 200)


async def _detach(service: Service, caller: Actor, kind: Resource, uuid: str, integration_id: str) -> None:
    async with transaction(service.pool) as tx:
        _, was_attached = await attachments.detach(tx, caller, service.vault, kind, uuid, integration_id)
    if not was_attached:
        raise not_found("integration")


def _routes(kind: Resource) -> list[HTTPRouteHandler]:
    """The calls below one kind of resource."""
    path = f"/api/v1{kind.path}/{{uuid:str}}/integrations"

    @get(path, summary=f"List integrations on a {kind.label}", operation_id=f"list_integrations_of_{kind.noun}")
    async def list_(uuid: str, caller: Actor, service: Service) -> list[IntegrationShown]:
        """All that are notified of its incidents."""
        return await _attached(service, caller, kind, uuid)

    @post(
        path, status_code=201, summary=f"Attach an integration to a {kind.label}",
        operation_id=f"attach_integration_to_{kind.noun}",
    )  # fmt: skip
    async def attach(uuid: str, data: ToAttach, caller: Actor, service: Service) -> Response[IntegrationShown]:
        """200 if it was attached before."""
        return await _attach(service, caller, kind, uuid, data.integration_id)

    @delete(
        f"{path}/{{integration_id:str}}", status_code=204, summary=f"Detach an integration from a {kind.label}",
        operation_id=f"detach_integration_from_{kind.noun}",
    )  # fmt: skip
    async def detach(uuid: str, integration_id: str, caller: Actor, service: Service) -> None:
        """Incidents are no longer sent there."""
        await _detach(service, caller, kind, uuid, integration_id)

    return [list_, attach, detach]


routes = [route for kind in kinds().values() for route in _routes(kind)]
