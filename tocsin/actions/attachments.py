"""Attachments: which integrations are notified of a resource's incidents."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import Actor, Change, action
from tocsin.actions.integrations import changed, existing, locked
from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.domain.resources.base import Resource
from tocsin.integrations import base
from tocsin.storage.channels import integrations as stored
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault


@action("attached integration")
async def attach(
    tx: Tx, actor: Actor, vault: Vault, kind: Resource, resource: str, integration: str
) -> tuple[tuple[Integration, bool], Change | None]:
    """The integration, and whether it was not attached before. `resource` and `integration` are public identifiers."""
    resource_id = await locked_resource(tx, actor.project_id, kind, resource)
    key = ids.key_of(ids.INTEGRATION, integration)
    found = await locked(tx, actor, vault, key)
    if not await stored.attach(tx, resource_id, key):
        return (found, False), None
    return (found, True), _change(found, to=resource)


@action("detached integration")
async def detach(
    tx: Tx, actor: Actor, vault: Vault, kind: Resource, resource: str, integration: str
) -> tuple[tuple[Integration, bool], Change | None]:
    """The integration, and whether it was attached."""
    resource_id = await locked_resource(tx, actor.project_id, kind, resource)
    key = ids.key_of(ids.INTEGRATION, integration)
    found = existing(await stored.one(tx, vault, actor.project_id, key))
    if not await stored.detach(tx, actor.project_id, resource_id, key):
        return (found, False), None
    return (found, True), _change(found, **{"from": resource})


@action("attached integration to everything")
async def attach_all(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Integration, Change]:
    """To every server and monitor, future ones included."""
    found = existing(await stored.attach_all(tx, vault, actor.project_id, key))
    return found, changed(found)


@action("stopped attaching integration to new resources")
async def stop_attach_all(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Integration, Change]:
    """Existing attachments stay; servers and monitors created later are no longer attached."""
    found = await locked(tx, actor, vault, key)
    await stored.stop_attach_all(tx, actor.project_id, key)
    return found, changed(found)


async def locked_resource(tx: Tx, project_id: UUID, kind: Resource, uuid: str) -> UUID:
    """The key of the project's resource, which cannot be deleted until the transaction ends. Raises `Refused` (404)."""
    key = kind.key_of(uuid)
    if not await stored.hold_resource(tx, project_id, kind, key):
        raise not_found(kind.noun)
    return key


def _change(found: Integration, **where: str) -> Change:
    return Change(base.display_name(found), {"uuid": ids.public(ids.INTEGRATION, found.id), **where})
