"""Network monitors: created, changed, paused, deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from tocsin.actions import dependencies
from tocsin.actions.base import Actor, Change, action
from tocsin.checks import base
from tocsin.checks.base import MASK, CheckType
from tocsin.domain import monitors as domain
from tocsin.domain import names, places, urls
from tocsin.domain.errors import Detail, invalid, invalid_field, not_found
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.places import Locations
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.monitoring import monitors as stored
from tocsin.storage.monitoring import places as stored_places
from tocsin.storage.monitoring.monitors import Monitor
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.guard import Guard

Number = int | float

OF_TARGET = ("url", "check_type", "timeout", *base.options())
"""Fields that are validated together if one of them is given, and not otherwise: rules may have become stricter."""


class _Common(msgspec.Struct):
    """A monitor's configuration. Omitted or null: the default; on a change, what is omitted stays.

    `interval` and `timeout` are seconds. So many failed checks in a row as `confirmations` says open an incident, so
    many good ones as `recoveries` end it. What a type of check does not know is refused. Secret fields are answered as
    `********`, and what is sent back like that stays as it is; when `url` leads to another host or port, they must be
    given again. A keyword is looked for in the page's own charset and with its HTML entities decoded. While any of
    those that it `depends_on` is down, it is unreachable and nobody is notified of it; of an inner list, all must be
    down. `locations` are the places that it is checked from: `here`, and names of probes; most of those that live must
    agree before an incident opens or ends. Null: only here, without a vote.
    """

    name: str | UnsetType | None = UNSET
    url: str | UnsetType = UNSET
    check_type: str | UnsetType | None = UNSET
    interval: Number | UnsetType | None = UNSET
    timeout: Number | UnsetType | None = UNSET
    confirmations: int | UnsetType | None = UNSET
    recoveries: int | UnsetType | None = UNSET
    paused: bool | UnsetType | None = UNSET
    depends_on: list[str | list[str]] | UnsetType | None = UNSET
    locations: list[str] | UnsetType | None = UNSET


if TYPE_CHECKING:
    MonitorFields = _Common
else:
    _KINDS = [each for each in base.types().values() if each.option_names]
    _ABOUT = [f"\n\nOf `{each.check_type}`: {each.options.__doc__}" for each in _KINDS]
    MonitorFields = msgspec.defstruct(
        "MonitorFields",
        [(name, annotation | UnsetType | None, UNSET) for name, annotation in base.options().items()],
        bases=(_Common,), module=__name__, namespace={"__doc__": f"{_Common.__doc__}{''.join(_ABOUT)}"},
    )  # fmt: skip


def wanted(given: MonitorFields, stored_: MonitorConfig | None, *, production: bool) -> MonitorConfig:
    """The resulting configuration. Raises `Refused` (422), naming each field that cannot be accepted."""
    if stored_ is None and given.url is UNSET:
        raise invalid_field("url", "is required")
    start = stored_ or _default(str(given.url))
    target, domain_ = start.target, start.domain
    if stored_ is None or any(getattr(given, field) is not UNSET for field in OF_TARGET):
        target = _target(given, start, stored_)
        domain_ = base.domain_of(target)
    made = MonitorConfig(
        name=_name(given.name, target.url, start),
        target=target,
        interval=_or(given.interval, start.interval, domain.DEFAULT_INTERVAL),
        confirmations=_or(given.confirmations, start.confirmations, domain.DEFAULT_CONFIRMATIONS),
        recoveries=_or(given.recoveries, start.recoveries, domain.DEFAULT_RECOVERIES),
        paused=_or(given.paused, start.paused, False),
        domain=domain_,
        locations=_locations(given.locations, start.locations),
    )
    wrong = domain.check_numbers(made, least_interval(production=production))
    if stored_ is not None:  # rules may have become stricter for what stays as it is
        wrong = [detail for detail in wrong if getattr(given, detail.field) is not UNSET]
    if wrong:
        raise invalid("; ".join(f"{detail.field} {detail.message}" for detail in wrong), *wrong)
    return made


def _locations(given: list[str] | UnsetType | None, before: Locations | None) -> Locations | None:
    """As they were given: whether there are such places is for the database to say."""
    if isinstance(given, UnsetType):
        return before
    return None if given is None else tuple(given)


def _target(given: MonitorFields, start: MonitorConfig, stored_: MonitorConfig | None) -> Target:
    url = _or(given.url, start.target.url, None)
    named = _or(given.check_type, start.target.check_type if stored_ else None, None)
    kind = base.of(named, url)
    same_kind = stored_ is not None and kind.check_type == start.target.check_type
    return kind.validate(
        Target(
            url=url,
            check_type=kind.check_type,
            timeout=_or(given.timeout, start.target.timeout, domain.DEFAULT_TIMEOUT),
            options=_options(
                given, kind, start.target.options if same_kind else {}, moved=_leads_elsewhere(start.target.url, url)
            ),
        )
    )


def _options(
    given: MonitorFields, kind: CheckType, stored_: Mapping[str, Any], *, moved: bool
) -> dict[str, Any]:
    """The resulting options. Raises `Refused` (422) for those that the type does not know, and for secrets that would
    go to another place than the one that they were given for (`moved`).
    """
    options = dict(stored_)
    for name in base.options():
        value = getattr(given, name)
        if name in kind.secret_options and name in stored_ and _keeps(value):
            if moved:
                raise invalid_field(name, "must be given again, or be null, because the address leads somewhere else")
            if value is not UNSET and value != MASK:
                options[name] = _unmasked(name, value, stored_[name])
            continue
        if value is UNSET or (value == MASK and name in kind.secret_options):
            continue
        options.pop(name, None)
        if value is not None:
            options[name] = value
    unknown = options.keys() - set(kind.option_names)
    if unknown:
        known = f"knows only {', '.join(kind.option_names)}" if kind.option_names else "has no options"
        why = f"is not for {kind.check_type} checks: this type {known}"
        raise invalid(f"{', '.join(sorted(unknown))} {why}", *(Detail(name, why) for name in sorted(unknown)))
    return options


def _keeps(value: Any) -> bool:
    """Whether what is given leaves a stored secret, or a part of it, as it is."""
    return value is UNSET or value == MASK or (isinstance(value, dict) and MASK in value.values())


def _unmasked(name: str, given: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """Headers with the stored value in place of each mask."""
    known = {each.lower(): value for each, value in before.items()}
    unknown = [each for each, value in given.items() if value == MASK and each.lower() not in known]
    if unknown:
        raise invalid_field(name, f"have no stored value for {unknown[0]}: give it")
    return {each: known[each.lower()] if value == MASK else value for each, value in given.items()}


def _leads_elsewhere(before: str, after: str) -> bool:
    """Whether two addresses differ in more than their path."""
    try:
        was, now = urls.read(before), urls.read(after)
    except ValueError:  # refused by the type
        return False
    return (was.scheme, was.host, was.port) != (now.scheme, now.host, now.port)


def secret_options(made: MonitorConfig) -> Collection[str]:
    """The names of the options that are stored encrypted."""
    return base.types()[made.target.check_type].secret_options


def least_interval(*, production: bool) -> float:
    """Seconds."""
    return domain.MIN_INTERVAL if production else domain.MIN_INTERVAL_IN_DEVELOPMENT


async def reachable(made: MonitorConfig, networks: Sequence[IPv4Network | IPv6Network]) -> str | None:
    """Refuse a host that may never be checked; if it cannot be reached at present, return why.

    It queries name servers: call it outside a transaction. What is only checked elsewhere is for the guards there.
    """
    if not made.checked_here:
        return None
    guard, host = Guard(networks), base.types()[made.target.check_type].host(made.target)
    if host is None:
        return None
    guard.check_given(host, "url")
    return await guard.warning(host)


@action("made network monitor")
async def create(
    tx: Tx, actor: Actor, vault: Vault, made: MonitorConfig, depends_on: object = None
) -> tuple[Monitor, Change]:
    """Create a monitor; the first check follows at once. Raises `Refused` (422) for places that there are not."""
    await _check_places(tx, actor, made.locations)
    key = await stored.create(tx, vault, actor.project_id, made, secret_options(made))
    if depends_on:
        await dependencies.change(tx, actor, NETWORK_MONITOR, key, depends_on)
    found = await stored.one(tx, vault, actor.project_id, key)
    assert found is not None
    return found, Change(made.name, {"uuid": NETWORK_MONITOR.public(key)})


@action("changed network monitor")
async def change(
    tx: Tx, actor: Actor, vault: Vault, key: UUID, given: MonitorFields, *, production: bool
) -> tuple[Monitor, Change | None]:
    """Change what is given. Changes that concern the checks restart them at once; pausing resolves its incidents."""
    if given.depends_on is not UNSET:
        await dependencies.change(tx, actor, NETWORK_MONITOR, key, given.depends_on)
    before = await stored.changing(tx, vault, actor.project_id, key)
    if before is None:
        raise not_found("network_monitor")
    after = wanted(given, before, production=production)
    if after.locations != before.locations:
        await _check_places(tx, actor, after.locations)
    differing = _differing(before, after)
    if differing:
        await stored.change(tx, vault, actor.project_id, key, before, after, secret_options(after))
    found = await stored.one(tx, vault, actor.project_id, key)
    assert found is not None
    change_ = Change(before.name, {"uuid": NETWORK_MONITOR.public(key), "fields": differing})
    return found, change_ if differing else None


async def _check_places(tx: Tx, actor: Actor, locations: Locations | None) -> None:
    if locations is not None:
        places.checked(locations, await stored_places.known(tx, actor.project_id))


@action("deleted network monitor")
async def delete(tx: Tx, actor: Actor, vault: Vault, key: UUID) -> tuple[Monitor, Change]:
    """Delete a monitor and resolve its incidents. Returns its last state."""
    found = await stored.one(tx, vault, actor.project_id, key)
    if found is None or not await stored.delete(tx, actor.project_id, key):
        raise not_found("network_monitor")
    return found, Change(found.wanted.name, {"uuid": NETWORK_MONITOR.public(key)})


def _differing(before: MonitorConfig, after: MonitorConfig) -> list[str]:
    """The names of the fields that differ."""
    was, now = _fields(before), _fields(after)
    return [name for name in now if now[name] != was[name]]


def _fields(each: MonitorConfig) -> dict[str, Any]:
    target = each.target
    return {
        "name": each.name, "url": target.url, "check_type": target.check_type, "interval": each.interval,
        "timeout": target.timeout, "confirmations": each.confirmations,
        "recoveries": each.recoveries, "paused": each.paused, "locations": each.locations,
        **{name: target.options.get(name) for name in base.options()},
    }  # fmt: skip


def _default(url: str) -> MonitorConfig:
    return MonitorConfig(url, Target(url, "", domain.DEFAULT_TIMEOUT))


def _or(given: Any, before: Any, default: Any) -> Any:
    return before if given is UNSET else default if given is None else given


def _name(given: str | UnsetType | None, url: str, start: MonitorConfig) -> str:
    """The name, which is the URL unless its owner chose another."""
    if isinstance(given, UnsetType):
        return url if start.name == start.target.url else start.name
    return names.checked("name", given) if given and given.strip() else url
