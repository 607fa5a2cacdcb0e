"""Sources: made, changed, given a new address, deleted; and what they send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from tocsin.actions import dependencies, incidents
from tocsin.actions.base import SYSTEM, Actor, Change, action, unrecorded
from tocsin.actions.batches import AlertBatch
from tocsin.domain import names
from tocsin.domain.errors import Refused, invalid_field, not_found
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.domain.sources.base import MASK, SourceType, types
from tocsin.storage.monitoring import source_bodies
from tocsin.storage.monitoring import sources as stored
from tocsin.storage.monitoring.alerts import Became, Taken
from tocsin.storage.monitoring.source_bodies import Kind
from tocsin.storage.monitoring.sources import Source, SourceConfig
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

MIN_STALE, MAX_STALE = 60, 30 * 86_400
"""Seconds."""
MIN_SECRET, MAX_SECRET = 8, 200
"""Characters of what a sender signs with."""


class SourceFields(msgspec.Struct):
    """A source's configuration. Omitted or null: the default; on a change, what is omitted stays, and so does the
    `type`.

    `settings`: of `alertmanager`, `ignore_labels`, labels that do not tell two alerts apart, such as `replica`; of
    `generic`, `map`, a JSON path (RFC 9535) for each of `dedup_key`, `status`, `title`, `message`, `severity` and `url`
    (what does not begin with `$` is the value itself), and `each`, the path to the alerts of a body with several.
    `signing_secret` is what Grafana signs with. What is not mentioned for `stale_after` seconds ends.
    """

    name: str | UnsetType | None = UNSET
    type: str | UnsetType = UNSET
    settings: dict[str, Any] | UnsetType | None = UNSET
    signing_secret: str | UnsetType | None = UNSET
    stale_after: int | UnsetType | None = UNSET
    depends_on: list[str | list[str]] | UnsetType | None = UNSET


def wanted(given: SourceFields, before: SourceConfig | None) -> SourceConfig:
    """The resulting configuration. Raises `Refused` (422), naming the field."""
    kind = _kind(given, before)
    name = before.name if before else kind.label
    settings: Mapping[str, Any] = before.settings if before else {}
    signing = before.signing_secret if before else None
    stale_after = before.stale_after if before else None
    if not isinstance(given.name, UnsetType):
        name = names.checked("name", given.name) if given.name and given.name.strip() else kind.label
    if not isinstance(given.settings, UnsetType):
        settings = kind.checked(given.settings or {})
    if not isinstance(given.signing_secret, UnsetType) and given.signing_secret != MASK:
        signing = _signing(kind, given.signing_secret)
    if not isinstance(given.stale_after, UnsetType):
        stale_after = given.stale_after
        if stale_after is not None and not MIN_STALE <= stale_after <= MAX_STALE:
            raise invalid_field("stale_after", f"must be from {MIN_STALE} to {MAX_STALE} seconds, or null")
    return SourceConfig(name, kind.type, settings, signing, stale_after)


def _kind(given: SourceFields, before: SourceConfig | None) -> SourceType:
    known = ", ".join(types())
    if before is not None:
        if given.type not in (UNSET, before.type):
            raise invalid_field("type", "cannot be changed: make another source")
        return types()[before.type]
    if isinstance(given.type, UnsetType):
        raise invalid_field("type", f"is required: one of {known}")
    if given.type not in types():
        raise invalid_field("type", f"must be one of {known}")
    return types()[given.type]


def _signing(kind: SourceType, given: str | None) -> str | None:
    if not given:
        return None
    if not kind.signed:
        raise invalid_field("signing_secret", "is not known to this type of source")
    if not MIN_SECRET <= len(given) <= MAX_SECRET or not given.isascii() or not given.isprintable():
        raise invalid_field("signing_secret", f"must have {MIN_SECRET} to {MAX_SECRET} ASCII characters")
    return given


@action("made source")
async def create(
    tx: Tx, actor: Actor, vault: Vault, made: SourceConfig, depends_on: object = None
) -> tuple[Source, Change]:
    """Create a source, with an address of its own."""
    key = await stored.create(tx, vault, actor.project_id, made)
    if depends_on:
        await dependencies.change(tx, actor, SOURCE, key, depends_on)
    found = await _existing(tx, actor, vault, key)
    return found, _change(found)


@action("changed source")
async def change(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, given: SourceFields
) -> tuple[Source, Change | None]:
    """Change what is given."""
    if given.depends_on is not UNSET:
        await dependencies.change(tx, actor, SOURCE, key, given.depends_on)
    before = await _changing(tx, actor, vault, key)
    after = wanted(given, before.wanted)
    differing = [name for name in SourceConfig.__slots__ if getattr(after, name) != getattr(before.wanted, name)]
    if differing:
        await stored.change(tx, vault, before, after)
    found = await _existing(tx, actor, vault, key)
    return found, _change(before, fields=differing) if differing else None


@action("changed the source's address")
async def rotate(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Source, Change]:
    """The old address stops working within a second."""
    before = await _changing(tx, actor, vault, key)
    await stored.rotate(tx, vault, before)
    return await _existing(tx, actor, vault, key), _change(before)


@action("deleted source")
async def delete(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Source, Change]:
    """Delete a source and resolve its incidents. Returns its last state."""
    found = await stored.one(tx, vault, actor.project_id, key)
    if found is None or not await stored.delete(tx, vault, actor.project_id, key):
        raise not_found("source")
    return found, _change(found)


@unrecorded("the incidents are its record", by=SYSTEM)
async def take(batch: AlertBatch, actor: Actor, given: Taken) -> Became:
    """Take the alerts of one body, all in one transaction with those of other bodies."""
    return await batch(given)


@unrecorded("acknowledging the incident is on record", by=SYSTEM)
async def acknowledge(tx: Tx, actor: Actor, vault: Vault, incident_id: UUID, by: str) -> bool:
    """A source says that somebody has an alert. Whether its incident was ongoing."""
    try:
        await incidents.acknowledge(tx, actor, vault, incident_id, by=by)
    except Refused:  # resolved meanwhile
        return False
    return True


@unrecorded("it changes nothing: people see what was sent", by=SYSTEM)
async def keep_body(
    tx: Tx, actor: Actor, source: Source, kind: Kind, became: str, body: bytes
) -> None:
    """Keep a body to be looked at, and what became of it."""
    await source_bodies.keep(tx, source.id, kind, became, body, source.key)


async def _existing(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> Source:
    found = await stored.one(tx, vault, actor.project_id, key)
    if found is None:
        raise not_found("source")
    return found


async def _changing(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> Source:
    found = await stored.changing(tx, vault, actor.project_id, key)
    if found is None:
        raise not_found("source")
    return found


def _change(found: Source, **details: object) -> Change:
    return Change(found.wanted.name, {"uuid": SOURCE.public(found.id), "type": found.wanted.type, **details})
