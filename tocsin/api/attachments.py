"""Which integrations are notified of a server's or a monitor's incidents."""

from __future__ import annotations

import msgspec
from litestar import Response, delete, get, post

from tocsin.actions import attachments
from tocsin.actions.base import Actor
from tocsin.api.integrations import IntegrationShown, reveals, shown
from tocsin.api.service import Service
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.storage import integrations
from tocsin.storage.database import transaction
from tocsin.storage.integrations import Resource


class ToAttach(msgspec.Struct):
    """`integration_id` is the integration's uuid, `INT…`."""

    integration_id: str


async def _attached(service: Service, caller: Actor, kind: Resource, uuid: str) -> list[IntegrationShown]:
    async with transaction(service.pool) as tx:
        resource = await attachments.held_resource(tx, caller.project_id, kind, uuid)
        found = await integrations.attached(tx, service.vault, caller.project_id, resource)
    return [shown(each, reveal=reveals(caller, service)) for each in found]


async def _attach(
    service: Service, caller: Actor, kind: Resource, uuid: str, integration_id: str
) -> Response[IntegrationShown]:
    key = ids.key_of(ids.INTEGRATION, integration_id)
    async with transaction(service.pool) as tx:
        found, new = await attachments.attach(tx, caller, service.vault, kind, uuid, key)
    return Response(shown(found, reveal=reveals(caller, service)), status_code=201 if new else 200)


async def _detach(service: Service, caller: Actor, kind: Resource, uuid: str, integration_id: str) -> None:
    key = ids.key_of(ids.INTEGRATION, integration_id)
    async with transaction(service.pool) as tx:
        _, was_attached = await attachments.detach(tx, caller, service.vault, kind, uuid, key)
    if not was_attached:
        raise not_found("integration")


@get("/api/v1/servers/{uuid:str}/integrations")
async def of_server(uuid: str, caller: Actor, service: Service) -> list[IntegrationShown]:
    """List integrations on a server"""
    return await _attached(service, caller, "server", uuid)


@post("/api/v1/servers/{uuid:str}/integrations", status_code=201)
async def attach_to_server(
    uuid: str, data: ToAttach, caller: Actor, service: Service
) -> Response[IntegrationShown]:
    """Attach an integration to a server

    200 where it was attached before.
    """
    return await _attach(service, caller, "server", uuid, data.integration_id)


@delete("/api/v1/servers/{uuid:str}/integrations/{integration_id:str}", status_code=204)
async def detach_from_server(uuid: str, integration_id: str, caller: Actor, service: Service) -> None:
    """Detach an integration from a server"""
    await _detach(service, caller, "server", uuid, integration_id)


@get("/api/v1/network_monitors/{uuid:str}/integrations")
async def of_monitor(uuid: str, caller: Actor, service: Service) -> list[IntegrationShown]:
    """List integrations on a network monitor"""
    return await _attached(service, caller, "network_monitor", uuid)


@post("/api/v1/network_monitors/{uuid:str}/integrations", status_code=201)
async def attach_to_monitor(
    uuid: str, data: ToAttach, caller: Actor, service: Service
) -> Response[IntegrationShown]:
    """Attach an integration to a network monitor

    200 where it was attached before.
    """
    return await _attach(service, caller, "network_monitor", uuid, data.integration_id)


@delete("/api/v1/network_monitors/{uuid:str}/integrations/{integration_id:str}", status_code=204)
async def detach_from_monitor(uuid: str, integration_id: str, caller: Actor, service: Service) -> None:
    """Detach an integration from a network monitor"""
    await _detach(service, caller, "network_monitor", uuid, integration_id)


routes = [of_server, attach_to_server, detach_from_server, of_monitor, attach_to_monitor, detach_from_monitor]
