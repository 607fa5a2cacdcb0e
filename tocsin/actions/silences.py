"""Silences: created, changed, ended, deleted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tocsin.actions.base import Actor, Change, action
from tocsin.domain import ids, names, silences
from tocsin.domain.errors import Detail, forbidden_state, invalid, invalid_field, not_found
from tocsin.domain.resources.base import kinds
from tocsin.domain.silences import Recurring, Rule, Span
from tocsin.storage.notifying import scope
from tocsin.storage.notifying import silences as stored
from tocsin.storage.notifying.silences import Silence, Stored
from tocsin.storage.postgres.database import Tx

MAX_SILENCES = 10_000
"""Of one project."""
MAX_NAMED = 1_000
"""Resources, or integrations, that one silence can name."""
MAX_TYPES = 50
MAX_TYPE_LENGTH = 64

_TYPE = re.compile(r"[!-~]{1,64}", re.ASCII)

Moment = Annotated[datetime, Meta(tz=True)]
Uuids = Annotated[list[str], Meta(min_length=1, max_length=MAX_NAMED)]
Types = Annotated[list[str], Meta(min_length=1, max_length=MAX_TYPES)]


class RecurrenceFields(msgspec.Struct):
    """Spans that begin by a rule of RFC 5545, in wall-clock times of the zone, and last `duration` seconds each."""

    rrule: str
    duration: int
    timezone: str


class SilenceFields(msgspec.Struct):
    """A silence. Null in `resources`, `integrations`, `incident_types` and `severity` stands for all.

    `starts_at` is now unless given. `ends_at` is needed where there is no recurrence; where there is one, it ends that.
    `severity` is the worst that it silences. On a change, what is omitted stays.
    """

    name: str | UnsetType = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    recurrence: RecurrenceFields | UnsetType | None = UNSET
    resources: Uuids | UnsetType | None = UNSET
    integrations: Uuids | UnsetType | None = UNSET
    incident_types: Types | UnsetType | None = UNSET
    severity: Literal["critical", "warning", "info"] | UnsetType | None = UNSET
    public: bool | UnsetType | None = UNSET


def wanted(given: SilenceFields, before: Silence | None, now: datetime) -> Silence:
    """The resulting silence. Raises `Refused` (422), naming the field that cannot be accepted.

    That its resources and integrations exist is checked when it is stored.
    """
    rule = _rule(given, before, now)
    if before is None or rule != before.rule:
        _check_future(rule, silences.check(rule), now)
    return Silence(
        name=_name(given, before),
        rule=rule,
        resources=_keys("resources", given.resources, before.resources if before else None),
        integrations=_keys("integrations", given.integrations, before.integrations if before else None),
        incident_types=_types(given, before),
        severity=_or(given.severity, before.severity if before else None, None),
        public=bool(_or(given.public, before.public if before else None, False)),
    )


def _rule(given: SilenceFields, before: Silence | None, now: datetime) -> Rule:
    start = before.rule if before else Rule(now.replace(microsecond=0), None)
    recurrence: Recurring | None
    if isinstance(given.recurrence, UnsetType):
        recurrence = start.recurrence
    elif given.recurrence is None:
        recurrence = None
    else:
        rule = given.recurrence
        recurrence = Recurring(rule.rrule.strip().upper().removeprefix("RRULE:"), rule.duration, rule.timezone)
    begins = start.starts_at if given.starts_at in (UNSET, None) else _moment("starts_at", given.starts_at)
    ends = start.ends_at if given.ends_at is UNSET else given.ends_at and _moment("ends_at", given.ends_at)
    return Rule(begins, ends, recurrence)


def _moment(field: str, at: Any) -> datetime:
    """In UTC, to the second."""
    if not silences.FIRST_YEAR <= at.year < silences.LAST_YEAR:  # before a zone can take it beyond what a date can be
        raise invalid_field(field, f"must be a time between {silences.FIRST_YEAR} and {silences.LAST_YEAR}")
    moment: datetime = at.astimezone(UTC).replace(microsecond=0)
    return moment


def _check_future(rule: Rule, first: Span, now: datetime) -> None:
    if rule.ends_at is not None and rule.ends_at <= now:
        raise invalid_field("ends_at", "must be in the future")
    if rule.recurrence is None:
        return
    if first.ends_at <= now and not silences.next_spans(rule, now, 1):
        raise invalid_field("recurrence.rrule", "must have a span that is still to come")
    if rule.ends_at is not None and (rule.ends_at - first.starts_at).total_seconds() <= rule.recurrence.duration:
        raise invalid_field(
            "ends_at", "must be after the first span, since it ends the recurrence; leave it out to have no end"
        )


def _name(given: SilenceFields, before: Silence | None) -> str:
    if isinstance(given.name, UnsetType):
        if before is None:
            raise invalid_field("name", "is required")
        return before.name
    return names.checked("name", given.name)


def _keys(field: str, given: Any, before: tuple[UUID, ...] | None) -> tuple[UUID, ...] | None:
    """The keys behind public identifiers, each once."""
    if given is UNSET or given is None:
        return before if given is UNSET else None
    _check_length(field, given, MAX_NAMED)
    prefixes = [ids.INTEGRATION] if field == "integrations" else [kind.prefix for kind in kinds().values()]
    found = [next((key for prefix in prefixes if (key := ids.parse(prefix, each))), None) for each in given]
    if None in found:
        raise _unknown(field, [index for index, key in enumerate(found) if key is None])
    return tuple(dict.fromkeys(key for key in found if key is not None))


def _types(given: SilenceFields, before: Silence | None) -> tuple[str, ...] | None:
    if isinstance(given.incident_types, UnsetType) or given.incident_types is None:
        return before.incident_types if before and given.incident_types is UNSET else None
    _check_length("incident_types", given.incident_types, MAX_TYPES)
    for index, each in enumerate(given.incident_types):
        if not _TYPE.fullmatch(each):
            raise invalid_field(f"incident_types[{index}]", "must be a type such as disk: ASCII, without spaces")
    return tuple(dict.fromkeys(given.incident_types))


def _check_length(field: str, given: Sequence[str], most: int) -> None:
    if not 1 <= len(given) <= most:
        raise invalid_field(field, f"must have 1 to {most:,} entries, or be null for all")


def _unknown(field: str, indexes: Sequence[int]) -> Exception:
    what = "an integration" if field == "integrations" else f"a {' or '.join(k.label for k in kinds().values())}"
    details = [Detail(f"{field}[{index}]", f"is not the uuid of {what} of this project") for index in indexes]
    return invalid(f"{details[0].field} {details[0].message}", *details)


def _or(given: Any, before: Any, default: Any) -> Any:
    return (default if before is None else before) if given is UNSET else default if given is None else given


@action("made silence")
async def create(tx: Tx, actor: Actor, given: SilenceFields) -> tuple[Stored, Change]:
    """Create a silence. Whoever it silences is not notified from its first span on. Raises `Refused` (422)."""
    if await stored.locked_count(tx, actor.project_id) >= MAX_SILENCES:
        raise forbidden_state(f"A project can have {MAX_SILENCES:,} silences: delete some that have ended")
    made = wanted(given, None, await _now(tx))
    await _check_named(tx, actor.project_id, given, made)
    found = await existing(tx, actor, await stored.create(tx, actor.project_id, made))
    return found, _change(found)


@action("changed silence")
async def change(tx: Tx, actor: Actor, key: UUID, given: SilenceFields) -> tuple[Stored, Change | None]:
    """Change what is given. Raises `Refused` (404, 422)."""
    now = await _now(tx)
    await _check_named(tx, actor.project_id, given, wanted(given, (await existing(tx, actor, key)).silence, now))
    before = await _locked(tx, actor, key)  # after what it names, as where that is deleted
    after = wanted(given, before.silence, now)
    fields = _differing(before.silence, after)
    if not fields:
        return before, None
    await stored.change(tx, actor.project_id, key, after)
    return await existing(tx, actor, key), _change(before, fields=fields)


@action("ended silence")
async def end(tx: Tx, actor: Actor, key: UUID) -> tuple[Stored, Change | None]:
    """End it now, for good. Who was not notified because of it is notified of what lasts. Raises `Refused` (404)."""
    before = await _locked(tx, actor, key)
    if before.state == "ended":
        return before, None
    await stored.end_now(tx, actor.project_id, key)
    return await existing(tx, actor, key), _change(before)


@action("deleted silence")
async def delete(tx: Tx, actor: Actor, key: UUID) -> tuple[Stored, Change]:
    """Delete it, as if it had been ended. Returns its last state. Raises `Refused` (404)."""
    found = await _locked(tx, actor, key)
    await stored.delete(tx, actor.project_id, key)
    return found, _change(found)


async def existing(tx: Tx, actor: Actor, key: UUID) -> Stored:
    """The project's silence, or 404."""
    found = await stored.one(tx, actor.project_id, key)
    if found is None:
        raise not_found("silence")
    return found


async def _locked(tx: Tx, actor: Actor, key: UUID) -> Stored:
    found = await stored.changing(tx, actor.project_id, key)
    if found is None:
        raise not_found("silence")
    return found


async def _now(tx: Tx) -> datetime:
    now: datetime = await tx.fetchval("SELECT now()")
    return now


async def _check_named(tx: Tx, project_id: UUID, given: SilenceFields, made: Silence) -> None:
    """Refuse what is not the project's, by its place in the lists that were given."""
    if isinstance(given.resources, list):
        by_kind: dict[str, set[UUID]] = {}
        for uuid in given.resources:
            for kind in kinds().values():
                if key := ids.parse(kind.prefix, uuid):
                    by_kind.setdefault(kind.type, set()).add(key)
        found = await scope.held(tx, project_id, by_kind)
        prefixes = [kind.prefix for kind in kinds().values()]
        _refuse_missing("resources", given.resources, prefixes, found)
    if isinstance(given.integrations, list):
        found = await scope.held_integrations(tx, project_id, made.integrations or ())
        _refuse_missing("integrations", given.integrations, [ids.INTEGRATION], found)


def _refuse_missing(field: str, given: Sequence[str], prefixes: Sequence[str], found: set[UUID]) -> None:
    missing = [
        index for index, uuid in enumerate(given) if not any(ids.parse(prefix, uuid) in found for prefix in prefixes)
    ]
    if missing:
        raise _unknown(field, missing)


def _differing(before: Silence, after: Silence) -> list[str]:
    """The names of the fields that differ."""
    was, now = _fields(before), _fields(after)
    return [name for name in now if now[name] != was[name]]


def _fields(each: Silence) -> dict[str, Any]:
    return {
        "name": each.name, "starts_at": each.rule.starts_at, "ends_at": each.rule.ends_at,
        "recurrence": each.rule.recurrence, "resources": each.resources, "integrations": each.integrations,
        "incident_types": each.incident_types, "severity": each.severity, "public": each.public,
    }  # fmt: skip


def _change(found: Stored, **details: Any) -> Change:
    return Change(found.silence.name, {"uuid": ids.public(ids.SILENCE, found.id), **details})
