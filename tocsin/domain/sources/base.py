"""What a type of source is: the smallest contract that the API and the console need. One file is one type.

A type reads a body that was sent to it, already parsed, into alerts. It sees no database and no request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeAlias

from tocsin.domain import discovery
from tocsin.domain.alerts import Alert
from tocsin.domain.errors import invalid_field

KEY_FIELD, SIGNING_FIELD = "source_key", "source_signing_secret"
"""Under which a source's key, and the secret that its sender signs with, are sealed."""

KEY_LENGTH = 32
MASK = "********"

_YEARS = range(1970, 9000)
_LENGTHS = range(10, 40)


class Unreadable(ValueError):
    """Why a body is not one of this source's, in words for whoever sent it."""


class Wrong(NamedTuple):
    """Why one alert of a body cannot be taken; its neighbours are."""

    reason: str


class Left(NamedTuple):
    """So many alerts were left out of a body by its sender."""

    alerts: int


class Note(NamedTuple):
    """A body that says something, but nothing about an alert."""

    text: str


Said: TypeAlias = Alert | Wrong | Left | Note
"""One thing that a body says."""

Settings: TypeAlias = Mapping[str, Any]


class Snippet(NamedTuple):
    """What to paste where, so that another system sends to a source. In `text`, `{url}` is its address, `{key}` its
    key, and `{host}`, `{scheme}` and `{base}` are host, scheme and beginning of our own address.
    """

    title: str
    about: str
    text: str


class SourceType(ABC):
    """One type of source."""

    type: ClassVar[str]
    """Its name in the API."""
    label: ClassVar[str]
    """Its name for people."""
    about: ClassVar[str]
    """What it takes, in one sentence."""
    settings: ClassVar[tuple[str, ...]] = ()
    """The names of the settings that it knows."""
    signed: ClassVar[bool] = False
    """Whether its sender can sign with a secret."""
    snippets: ClassVar[tuple[Snippet, ...]] = ()

    @abstractmethod
    def read(self, body: object, settings: Settings, now: datetime) -> Iterator[Said]:
        """What a body says, in order. Raises `Unreadable` before the first if it is not one of these at all."""

    def checked(self, given: Settings) -> dict[str, Any]:
        """The settings as they are stored. Raises `Refused` (422)."""
        for name in given:
            if name not in self.settings:
                known = f"knows {', '.join(self.settings)}" if self.settings else "has none"
                raise invalid_field(f"settings.{name}"[:200], f"is not a setting of this type, which {known}")
        return dict(given)


@cache
def types() -> Mapping[str, SourceType]:
    """Every type that a file next to this one defines, by its name."""
    found = discovery.kinds(__name__.rpartition(".")[0], SourceType)  # type: ignore[type-abstract]
    return {each.type: each for each in found}


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """An object. Raises `Unreadable`."""
    if not isinstance(value, dict):
        raise Unreadable(f"{what} must be an object")
    return value


def texts(value: object, what: str) -> dict[str, str]:
    """An object of texts; none where it is absent. Raises `Unreadable`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"{what} must be an object")
    for name, each in value.items():
        if not isinstance(each, str):
            raise Unreadable(f"{what}.{name[:60]} must be a string")
    return value


def moment(value: object, what: str) -> datetime | None:
    """A time; None where it is absent, or before all times as Go writes it. Raises `Unreadable`."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and len(value) in _LENGTHS:
        if value.startswith("0001-01-01T"):
            return None
        try:
            found = datetime.fromisoformat(value)
            if found.year in _YEARS:
                return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            pass
    raise Unreadable(f"{what} must be a time such as 2024-01-01T08:00:00Z")
