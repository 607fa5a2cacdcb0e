"""Attachments: which integrations are notified of a resource's incidents."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from tocsin.actions.base import Actor, Change, action
from tocsin.actions.integrations import changed, existing, locked
from tocsin.domain import attachments as rules
from tocsin.domain import ids
from tocsin.domain.attachments import Attachment
from tocsin.domain.errors import not_found
from tocsin.domain.resources.base import Resource
from tocsin.integrations import base
from tocsin.storage.channels import attachments as stored
from tocsin.storage.channels import integrations
from tocsin.storage.channels.attachments import Attached
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

NOTHING: Mapping[str, Any] = MappingProxyType({})


@action("attached integration")
async def attach(
    tx: Tx, actor: Actor, vault: Vault, kind: Resource, resource: str, integration: str,
    given: Mapping[str, Any] = NOTHING,
) -> tuple[tuple[Attached, bool], Change | None]:  # fmt: skip
    """How it is attached, and whether it was not before. What is `given` of `domain.attachments` is changed.

    `resource` and `integration` are public identifiers. Raises `Refused` (404, 422).
    """
    resource_id = await locked_resource(tx, actor.project_id, kind, resource)
    key = ids.key_of(ids.INTEGRATION, integration)
    found = await locked(tx, actor, vault, key)
    before = await stored.one(tx, resource_id, key)
    return await _set(tx, found, resource_id, resource, before, given)


@action("changed attachment")
async def change(
    tx: Tx, actor: Actor, vault: Vault, kind: Resource, resource: str, integration: str, given: Mapping[str, Any]
) -> tuple[Attached, Change | None]:
    """Change how an attached integration is notified. Raises `Refused` (404 also where it is not attached)."""
    resource_id = await locked_resource(tx, actor.project_id, kind, resource)
    key = ids.key_of(ids.INTEGRATION, integration)
    found = await locked(tx, actor, vault, key)
    before = await stored.one(tx, resource_id, key)
    if before is None:
        raise not_found("integration")
    (attached, _), change = await _set(tx, found, resource_id, resource, before, given)
    return attached, change


async def _set(
    tx: Tx, found: Integration, resource_id: UUID, resource: str, before: Attachment | None, given: Mapping[str, Any]
) -> tuple[tuple[Attached, bool], Change | None]:
    kind = base.of(found.type)
    wanted = rules.changed(before or Attachment(), given, repeatable=kind.repeatable)
    if before is not None and wanted == before:
        return (Attached(found, before), False), None
    wanted = replace(wanted, to_everything=False)
    await stored.attach(tx, resource_id, found.id, wanted, for_people=kind.for_people)
    return (Attached(found, wanted), before is None), _change(found, to=resource)


@action("detached integration")
async def detach(
    tx: Tx, actor: Actor, vault: Vault, kind: Resource, resource: str, integration: str
) -> tuple[tuple[Integration, bool], Change | None]:
    """The integration, and whether it was attached."""
    resource_id = await locked_resource(tx, actor.project_id, kind, resource)
    key = ids.key_of(ids.INTEGRATION, integration)
    found = existing(await integrations.one(tx, vault, actor.project_id, key))
    if not await stored.detach(tx, actor.project_id, resource_id, key):
        return (found, False), None
    return (found, True), _change(found, **{"from": resource})


@action("attached integration to everything")
async def attach_all(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, given: Mapping[str, Any] = NOTHING
) -> tuple[Integration, Change]:
    """To every server and monitor, future ones included. Raises `Refused` (404, 422)."""
    await stored.lock_all(tx, actor.project_id)
    found = await locked(tx, actor, vault, key)
    kind = base.of(found.type)
    wanted = rules.changed(Attachment(), given, repeatable=kind.repeatable)
    made = await stored.attach_all(tx, vault, actor.project_id, key, wanted, for_people=kind.for_people)
    return existing(made), changed(found)


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
