"""Attaching integrations to a server or a monitor, and detaching them, on its page."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from tocsin.actions import attachments as actions
from tocsin.domain import ids
from tocsin.domain.resources.base import Resource, kinds
from tocsin.integrations import base
from tocsin.storage.channels import attachments as stored
from tocsin.storage.channels import integration_list
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.postgres.database import Tx, transaction
from tocsin.web.session import AnyRequest, Service, Viewer, fields, redirect

MAX_OFFERED = 100
"""Integrations offered for attaching; others are attached on their own pages."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """An integration on the page of a server or monitor."""

    uuid: str
    name: str
    label: str
    attached: bool
    system: bool
    everywhere: bool
    problem: str


async def recipients(tx: Tx, service: Service, project_id: UUID, resource_id: UUID) -> list[Recipient]:
    """What is attached to this server or monitor, then what could be, oldest first."""
    attached = await stored.attached(tx, service.vault, project_id, resource_id)
    free = await integration_list.attachable(tx, service.vault, project_id, resource_id, limit=MAX_OFFERED)
    return [_recipient(each.integration, True) for each in attached] + [_recipient(each, False) for each in free]


def _route(kind: Resource) -> HTTPRouteHandler:
    @post(f"{kind.path}/{{uuid:str}}/integrations", include_in_schema=False)
    async def change(uuid: str, request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
        return await _change(uuid, kind, request, viewer, service)

    return change


async def _change(
    uuid: str, kind: Resource, request: AnyRequest, viewer: Viewer, service: Service
) -> Response[str]:
    """`do` is `attach`, `attach_all` (including future ones) or `detach`."""
    form = await fields(request, viewer)
    integration, wanted = form.get("integration", ""), form.get("do", "")
    async with transaction(service.pool) as tx:
        await actions.locked_resource(tx, viewer.project_id, kind, uuid)
        if wanted == "attach_all":
            found = await actions.attach_all(tx, viewer.actor, service.vault, ids.key_of(ids.INTEGRATION, integration))
            message = "is now notified about all servers and monitors, including future ones."
        elif wanted == "detach":
            found, _ = await actions.detach(tx, viewer.actor, service.vault, kind, uuid, integration)
            message = "will no longer be notified."
        else:
            (found, _), _ = await actions.attach(tx, viewer.actor, service.vault, kind, uuid, integration)
            message = "will be notified."
    return redirect(f"{kind.path}/{uuid}#recipients", f"{base.display_name(found)} {message}")


def _recipient(found: Integration, attached: bool) -> Recipient:
    problem = (
        f"disabled: {found.disabled_reason or 'manually'}"
        if found.disabled_at
        else ("failing" if found.failing_since else "")
    )
    return Recipient(
        ids.public(ids.INTEGRATION, found.id), base.display_name(found), base.of(found.type).label, attached,
        found.system, found.attach_all, problem,
    )  # fmt: skip


routes = [_route(kind) for kind in kinds().values()]
