"""Integrations: created, changed, tested, enabled, deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from tocsin.actions.base import SYSTEM, Actor, Change, action
from tocsin.domain import floods, ids, names, on_call
from tocsin.domain.errors import Refused, forbidden_state, invalid_field, not_found
from tocsin.domain.floods import Flood
from tocsin.domain.templates.names import samples
from tocsin.integrations import base
from tocsin.integrations.base import MASK, Creator, IntegrationType, Preview
from tocsin.integrations.ssh_server_restart import SshServerRestartIntegration
from tocsin.settings import Settings
from tocsin.storage.channels import attachments
from tocsin.storage.channels import integrations as stored
from tocsin.storage.channels.integrations import Facts, Integration
from tocsin.storage.delivery import deliveries, health
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.storage.notifying import on_call as schedules
from tocsin.storage.notifying import on_call_gaps
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.guard import Guard

MAX_NAME_LENGTH = 255
UNSUBSCRIBED = "unsubscribed by its reader"
CANNOT_BE_DELETED = "This integration cannot be deleted."


@dataclass(frozen=True, slots=True)
class New:
    """An integration to create. `settings` are what its type parsed from `given`; without a `flood` it has the usual.
    """

    kind: IntegrationType
    name: str | None
    given: Mapping[str, Any]
    settings: Mapping[str, Any]
    flood: Flood | UnsetType | None = UNSET


def new(type_name: str, given: Mapping[str, Any], name: str | None, flood: object = UNSET) -> New:
    """Raises `Refused` (422), naming each field that cannot be accepted."""
    kind = base.of(type_name)
    settings = kind.parse(given)
    return New(kind, checked_name(name), given, settings, UNSET if flood is UNSET else checked_flood(kind, flood))


def has_flood(kind: IntegrationType) -> bool:
    """Whether flood control can be set for integrations of that type."""
    return kind.for_people and not kind.why_no_flood


def checked_flood(kind: IntegrationType, given: object) -> Flood | None:
    """The flood control that a caller gave. Raises `Refused` (422)."""
    if not has_flood(kind):
        raise invalid_field("flood", kind.why_no_flood or "must be left out: only what people read is ever summed up")
    return floods.parse(given)


def previews(
    type_name: str, given: Mapping[str, Any], public_url: str, stored: Mapping[str, Any] | None = None
) -> list[Preview]:
    """What settings would send for an example of each event; with `stored` ones, those that a change would leave.

    Raises `Refused` (422). Headers are masked where some of them may be stored ones.
    """
    kind = base.of(type_name)
    settings = kind.parse(given, stored)
    examples = samples(datetime.now(UTC), public_url)
    return [kind.preview(settings, each, public_url, reveal=stored is None) for each in examples]


def without_masked(kind: IntegrationType, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, without secrets that were sent back masked: those stay as stored."""
    return {name: value for name, value in given.items() if not (name in kind.secret_settings and value == MASK)}


async def reachable(
    kind: IntegrationType, settings: Mapping[str, Any], networks: Sequence[IPv4Network | IPv6Network]
) -> str | None:
    """Refuse a host that may never be called; if it cannot be called at present, return why.

    It queries name servers: call it outside a transaction.
    """
    host = kind.host(settings)
    if host is None:
        return None
    guard = Guard(networks)
    guard.check_given(host, f"settings.{kind.host_setting}")
    return await guard.warning(host)


async def looked_up(wanted: New, configured: Settings) -> New:
    """It, completed by what its far end says. Call it outside a transaction. Raises `Refused` (422, 503)."""
    return replace(wanted, settings=await wanted.kind.look_up(wanted.settings, configured))


@action("made integration")
async def create(
    tx: Tx, actor: Actor, vault: Vault, wanted: New, *, production: bool
) -> tuple[Integration, Change]:
    """Raises `Refused`; for a wrong verification code with `keep`, so that the used attempt stays recorded."""
    kind = wanted.kind
    await kind.before_create(tx, vault, Creator(actor.project_id, actor.plan, production), wanted.given)
    made = await stored.create(
        tx, vault, actor.project_id, kind.type, Facts(kind.for_people, kind.repeatable),
        name=wanted.name, settings=wanted.settings, secret=kind.secret_settings,
    )  # fmt: skip
    if not isinstance(wanted.flood, UnsetType):
        made = await stored.set_flood(tx, vault, made, wanted.flood)
    return made, changed(made)


@action("made integration", by=SYSTEM)
async def create_system(tx: Tx, actor: Actor, email: str) -> tuple[None, Change]:
    """The address of the project's owner."""
    await attachments.create_system(tx, actor.project_id, email)
    return None, Change(email)


@action("unsubscribed from integration", by=SYSTEM)
async def unsubscribe(tx: Tx, actor: Actor, key: UUID) -> tuple[bool, Change | None]:
    """Disable it for good, on behalf of a reader of its mails. Returns whether it existed and was enabled."""
    disabled = await health.disable(tx, key, UNSUBSCRIBED, for_good=True)
    if disabled is None:
        return False, None
    project_id, name = disabled
    return True, Change(name, {"uuid": ids.public(ids.INTEGRATION, key)}, project_id)


@action("changed integration")
async def change(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, given: Mapping[str, Any], *, name: str | None, renamed: bool
) -> tuple[Integration, Change | None]:
    """Change the settings that are `given`, and the name if `renamed` (None: the type's own name for it)."""
    await schedules.lock(tx, actor.project_id)
    found, kind = await _changeable(tx, actor, vault, key)
    settings = kind.parse(given, found.settings) if given else found.settings
    named = checked_name(name) if renamed else found.name
    fields = [field for field in given if settings.get(field) != found.settings.get(field)]
    if named != found.name:
        fields.append("name")
    if not fields and settings == found.settings:
        return found, None
    if settings != found.settings:
        await kind.before_change(tx, found, settings)
    made = await stored.update(tx, vault, found, name=named, settings=settings, secret=kind.secret_settings)
    return made, changed(made, fields=fields)


@action("changed flood control")
async def change_flood(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, given: object
) -> tuple[Integration, Change | None]:
    """When the rest is told in one message; None for never. Also of those whose settings cannot be changed.

    Raises `Refused` (404, 422).
    """
    found = await locked(tx, actor, vault, key)
    flood = checked_flood(base.of(found.type), given)
    if flood == found.flood:
        return found, None
    made = await stored.set_flood(tx, vault, found, flood)
    return made, changed(made, flood=flood and msgspec.to_builtins(flood))


@action("deleted integration")
async def delete(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Integration, Change]:
    """What is outstanding for it is suppressed. Raises `Refused` (404, and 422 for the project's own)."""
    found = existing(await stored.deleting(tx, vault, actor.project_id, key))
    if found.system:
        raise Refused(422, "unprocessable_entity", CANNOT_BE_DELETED, body={"error": CANNOT_BE_DELETED})
    await stored.delete(tx, actor.project_id, key)
    return found, changed(found)


@action("tested integration")
async def test(tx: Tx, actor: Actor, vault: Vault, key: UUID, public_url: str) -> tuple[Delivery, Change]:
    """A test notification, through the real path. Of an on-call schedule, to whoever is on duty."""
    found = await locked(tx, actor, vault, key)
    to = await _on_duty(tx, key) if found.type == on_call.TYPE else key
    made = await deliveries.enqueue_test(tx, to, public_url)
    if to != key:
        await schedules.on_behalf(tx, made.id, key)
        made = replace(made, on_behalf_of=key)
    return made, changed(found)


@action("rotated the signing secret")
async def rotate_secret(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[str, Change]:
    """The new secret; for a day, the old one signs too."""
    found, kind = await _changeable(tx, actor, vault, key)
    settings = kind.rotate_secret(found.settings, time.time())
    await stored.update(tx, vault, found, name=found.name, settings=settings, secret=kind.secret_settings)
    assert kind.signing_setting is not None
    return settings[kind.signing_setting], changed(found)


@action("enabled integration")
async def enable(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Integration, Change]:
    """Its past failures are reset."""
    await locked(tx, actor, vault, key)
    await health.enable(tx, actor.project_id, key)
    found = await locked(tx, actor, vault, key)
    return found, changed(found)


@action("trusted host key")
async def trust_host_key(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, fingerprint: str
) -> tuple[Integration, Change]:
    """Trust the host key that was offered last, named by its fingerprint. Raises `Refused`."""
    found, kind = await locked(tx, actor, vault, key), SshServerRestartIntegration()
    if found.type != kind.type:
        raise forbidden_state("Only an SSH server restart integration has a host key")
    settings = kind.trust_host_key(found.settings, fingerprint)
    made = await stored.update(tx, vault, found, name=found.name, settings=settings, secret=kind.secret_settings)
    return made, Change(base.display_name(made), {"uuid": ids.public(ids.INTEGRATION, key), "fingerprint": fingerprint})


async def _on_duty(tx: Tx, key: UUID) -> UUID:
    """Who would be notified now in the place of an on-call schedule; raises `Refused` (422) where there is nobody."""
    schedule = (await schedules.schedule(tx, [key]))[key]
    candidates = on_call.order(schedule, await tx.fetchval("SELECT now()"))
    usable = await on_call_gaps.usable(tx, candidates)
    for each in candidates:
        if each in usable:
            return each
    raise forbidden_state("Nobody is on duty who can be notified")


async def locked(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> Integration:
    """The project's integration, locked until the transaction ends; raises `Refused` (404)."""
    return existing(await stored.changing(tx, vault, actor.project_id, key))


async def _changeable(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Integration, IntegrationType]:
    """As `locked`, or 422 if its settings cannot be changed."""
    found = await locked(tx, actor, vault, key)
    if found.system:
        raise forbidden_state("This integration cannot be changed: it is the address of the project's owner")
    kind = base.of(found.type)
    if not kind.editable:
        raise forbidden_state(f"A {kind.label} integration cannot be changed: delete it and create a new one")
    return found, kind


def changed(found: Integration, **details: Any) -> Change:
    """What was done to it, by its name and type."""
    return Change(
        base.display_name(found), {"uuid": ids.public(ids.INTEGRATION, found.id), "type": found.type, **details}
    )


def existing(found: Integration | None) -> Integration:
    """The integration, or 404."""
    if found is None:
        raise not_found("integration")
    return found


def checked_name(name: str | None) -> str | None:
    """A name as it is stored, or None for the type's own."""
    return None if name is None else names.checked("name", name, MAX_NAME_LENGTH)
