"""RDAP, as far as the end of a domain's registration needs it. Pure.

RFC 9224 (which service knows which domains), RFC 9082 (how it is asked), RFC 9083 (what it answers), RFC 7095 (jCard).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from tocsin.domain import names, urls

MEDIA_TYPE = "application/rdap+json"
MEDIA_TYPES = frozenset((MEDIA_TYPE, "application/json"))
"""What an answer may call itself: the first is the standard's, the other is in use."""
MAX_SERVICES = 10_000
"""Suffixes in the list of services; it had some 1,200 in 2025."""
MAX_CARD = 8 << 10
"""Bytes of a registrar's card that is read."""
MAX_NAME = 100


class Unreadable(ValueError):
    """It is not what the standard says. The text says why, after "its answer"."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry says of a domain. `expires_at` is None where it does not say."""

    expires_at: datetime | None
    registrar: str | None


class _Event(msgspec.Struct, gc=False):
    action: str = msgspec.field(name="eventAction", default="")
    date: str = msgspec.field(name="eventDate", default="")


class _Entity(msgspec.Struct, gc=False):
    roles: list[str] = []
    card: msgspec.Raw = msgspec.field(name="vcardArray", default=msgspec.Raw())


class _Domain(msgspec.Struct, gc=False):
    object_class: str = msgspec.field(name="objectClassName", default="")
    name: str = msgspec.field(name="ldhName", default="")
    events: list[_Event] = []
    entities: list[_Entity] = []


class _Bootstrap(msgspec.Struct, gc=False):
    services: list[list[list[str]]]


def services(document: bytes) -> dict[str, str]:
    """The base addresses of the services by the suffix that they know (RFC 9224, 4). Raises `Unreadable`."""
    try:
        given = msgspec.json.decode(document, type=_Bootstrap).services
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Unreadable(f"is no list of services (RFC 9224): {_line(error)}") from None
    found: dict[str, str] = {}
    for each in given:
        if len(each) == 2 and (base := _best(each[1])) is not None:
            found |= dict.fromkeys((suffix.lower().removesuffix(".") for suffix in each[0]), base)
    if not found or len(found) > MAX_SERVICES:
        raise Unreadable(f"is no list of services (RFC 9224): it names {len(found)}")
    return found


def service_of(name: str, known: Mapping[str, str]) -> str | None:
    """The service for a domain: that of the longest suffix of whole labels (RFC 9224, 4). None if there is none."""
    labels = name.split(".")
    return next((found for start in range(len(labels)) if (found := known.get(".".join(labels[start:])))), None)


def address(service: str, name: str) -> str:
    """Where a service is asked about a domain (RFC 9082, 3.1.3)."""
    return f"{service.rstrip('/')}/domain/{name}"


def read(document: bytes, name: str) -> Answer:
    """What an answer says of that domain (RFC 9083, 5.3). Raises `Unreadable`.

    Of several ends the last one counts: events may be past ones. Dates that cannot be read are none.
    """
    try:
        given = msgspec.json.decode(document, type=_Domain)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Unreadable(f"is not of the form that RFC 9083 says: {_line(error)}") from None
    if given.object_class.lower() != "domain":
        raise Unreadable("is not about a domain (RFC 9083)")
    if given.name and given.name.lower().removesuffix(".") != name:
        raise Unreadable(f"is about another domain: {_shown(given.name)}")
    ends = [found for each in given.events if each.action.lower() == "expiration" and (found := _date(each.date))]
    registrars = [each for each in given.entities if "registrar" in each.roles]
    return Answer(max(ends, default=None), next(filter(None, map(_name, registrars)), None))


def _best(addresses: Sequence[str]) -> str | None:
    """The first by https, else the first that can be used."""
    usable = []
    for each in addresses:
        try:
            if (url := urls.read(each)).scheme in urls.PORTS and not url.has_login:
                usable.append(each)
        except ValueError:
            continue
    return next((each for each in usable if each.startswith("https:")), usable[0] if usable else None)


def _date(text: str) -> datetime | None:
    """RFC 3339; some leave the zone out, and mean UTC."""
    try:
        found = datetime.fromisoformat(text[:40])
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _name(entity: _Entity) -> str | None:
    """The formatted name in a card, such as `["vcard", [["fn", {}, "text", "Example Inc."]]]`."""
    if not 0 < len(bytes(entity.card)) <= MAX_CARD:
        return None
    try:
        _, properties = msgspec.json.decode(entity.card, type=tuple[str, list[list[msgspec.Raw]]])
        formatted = [each[3] for each in properties if len(each) > 3 and bytes(each[0]) == b'"fn"']
        texts = [msgspec.json.decode(each, type=str) for each in formatted]
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return next(filter(None, map(_shown, texts)), None)


def _shown(text: str) -> str:
    return names.cut("".join(each if each.isprintable() else " " for each in text).strip(), MAX_NAME)


def _line(error: Any) -> str:
    return (str(error).splitlines() or ["it cannot be read"])[0][:200]
