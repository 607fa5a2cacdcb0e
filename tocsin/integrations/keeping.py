"""Keeping integrations: made, changed, deleted and tried out, each on record; for the API and the console alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any
from uuid import UUID

from tocsin.domain import ids, names
from tocsin.domain.errors import Refused, forbidden_state, not_found
from tocsin.integrations import base
from tocsin.integrations.base import IntegrationType, Maker
from tocsin.integrations.ssh_server_restart import SshServerRestartIntegration
from tocsin.storage import audit, deliveries, integrations
from tocsin.storage.database import Tx
from tocsin.storage.deliveries import Delivery
from tocsin.storage.integrations import Facts, Integration
from tocsin.storage.secrets import Vault
from tocsin.transports.guard import Guard

LONGEST_NAME = 255
CANNOT_BE_DELETED = "This integration cannot be deleted."


async def create(
    connection: Tx, vault: Vault, maker: Maker, who: UUID | str, kind: IntegrationType, given: Mapping[str, Any],
    settings: Mapping[str, Any], name: str | None,
) -> Integration:
    """A new integration with the `settings` that were parsed from what was `given`, in a transaction of its own.

    `name` is as `checked_name` gave it. Raises `Refused`.
    """
    async with base.making(connection) as tx:
        await kind.permit(tx, vault, maker, given)
        made = await integrations.create(
            tx, vault, maker.project_id, kind.type, Facts(kind.for_people, kind.repeatable),
            name=name, settings=settings, secret=kind.secret,
        )  # fmt: skip
        await note(tx, who, "made integration", made)
    return made


async def held(tx: Tx, vault: Vault, project_id: UUID, key: UUID) -> Integration:
    """The project's integration, held until the transaction ends; raises `Refused` (404)."""
    return there(await integrations.changing(tx, vault, project_id, key))


async def changeable(tx: Tx, vault: Vault, project_id: UUID, key: UUID) -> Integration:
    """As `held`, or 422 where its settings are not for people to change."""
    stored = await held(tx, vault, project_id, key)
    if stored.system:
        raise forbidden_state("This integration cannot be changed: it is the address of the project's owner")
    kind = base.of(stored.type)
    if not kind.editable:
        raise forbidden_state(f"A {kind.label} integration cannot be changed: delete it and make it anew")
    return stored


async def change(
    tx: Tx, vault: Vault, who: UUID | str, stored: Integration, given: Mapping[str, Any], name: str | None,
    fields: Collection[str],
) -> Integration:
    """Change what `changeable` holds; `fields` are the names that go on record, never the values."""
    kind = base.of(stored.type)
    settings = kind.parse(given, stored.settings) if given else stored.settings
    changed = await integrations.update(
        tx, vault, stored, name=checked_name(name), settings=settings, secret=kind.secret
    )
    await note(tx, who, "changed integration", changed, {"fields": [*fields]})
    return changed


async def delete(tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, key: UUID) -> Integration:
    """What is outstanding for it is suppressed. Raises `Refused` (404, and 422 for the project's own)."""
    stored = await held(tx, vault, project_id, key)
    if stored.system:
        raise Refused(422, "unprocessable_entity", CANNOT_BE_DELETED, body={"error": CANNOT_BE_DELETED})
    await integrations.delete(tx, project_id, key)
    await note(tx, who, "deleted integration", stored)
    return stored


async def try_out(tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, key: UUID, public_url: str) -> Delivery:
    """A test notification, through the real path."""
    await note(tx, who, "tested integration", await held(tx, vault, project_id, key))
    return await deliveries.enqueue_test(tx, key, public_url)


async def attach(tx: Tx, who: UUID | str, found: Integration, resource_id: UUID, place: str) -> bool:
    """Attach what are known to be of one project; `place` is the resource's public identifier. Whether it was news."""
    if not await integrations.attach(tx, resource_id, found.id):
        return False
    await _note_briefly(tx, who, "attached integration", found, {"to": place})
    return True


async def detach(tx: Tx, who: UUID | str, found: Integration, resource_id: UUID, place: str) -> bool:
    """Whether it was attached there."""
    if not await integrations.detach(tx, found.project_id, resource_id, found.id):
        return False
    await _note_briefly(tx, who, "detached integration", found, {"from": place})
    return True


async def attach_all(tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, key: UUID) -> Integration:
    """Attach to every server and monitor, those to come included. Raises `Refused`."""
    found = there(await integrations.attach_all(tx, vault, project_id, key))
    await note(tx, who, "attached integration to everything", found)
    return found


async def spare_new_ones(tx: Tx, who: UUID | str, found: Integration) -> None:
    """What it is attached to stays; servers and monitors that are made later are not attached any more."""
    await integrations.spare_new_ones(tx, found.project_id, found.id)
    await note(tx, who, "keeps integration from what is to come", found)


async def trust_host_key(
    tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, key: UUID, wished: str
) -> Integration:
    """Trust the host key that was offered last, named by its fingerprint. Raises `Refused`."""
    stored, kind = await held(tx, vault, project_id, key), SshServerRestartIntegration()
    if stored.type != kind.type:
        raise forbidden_state("Only an SSH server restart integration has a host key")
    settings = kind.trusting(stored.settings, wished)
    changed = await integrations.update(tx, vault, stored, name=stored.name, settings=settings, secret=kind.secret)
    await _note_briefly(tx, who, "trusted host key", changed, {"fingerprint": wished})
    return changed


async def _note_briefly(
    tx: Tx, who: UUID | str, action: str, found: Integration, details: Mapping[str, Any]
) -> None:
    """As `note`, without the type: it adds nothing to where or with which key."""
    said = {"uuid": ids.public(ids.INTEGRATION, found.id), **details}
    await audit.note(tx, found.project_id, who, action, base.called(found), said)


async def reachable(
    kind: IntegrationType, settings: Mapping[str, Any], networks: Sequence[IPv4Network | IPv6Network]
) -> str | None:
    """Refuse a host that may never be called; of one that cannot be called at present, say why."""
    host = kind.host(settings)
    if host is None:
        return None
    guard = Guard(networks)
    guard.check_given(host, f"settings.{kind.host_setting}")
    return await guard.warning(host)


async def note(
    tx: Tx, who: UUID | str, action: str, found: Integration, details: Mapping[str, Any] | None = None
) -> None:
    """Put on record who did what to it."""
    said = {"uuid": ids.public(ids.INTEGRATION, found.id), "type": found.type, **(details or {})}
    await audit.note(tx, found.project_id, who, action, base.called(found), said)


def there(found: Integration | None) -> Integration:
    """What was found, or 404."""
    if found is None:
        raise not_found("integration")
    return found


def checked_name(name: str | None) -> str | None:
    """A name as it is stored, or None for the type's own."""
    return None if name is None else names.checked("name", name, LONGEST_NAME)
