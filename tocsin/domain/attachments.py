"""What an attachment asks for: of which incidents an integration is told, after how long, how often again, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tocsin.domain import hours
from tocsin.domain.errors import Detail, invalid
from tocsin.domain.hours import Hours
from tocsin.domain.incidents import SEVERITIES

MAX_AFTER = 7 * 86_400
MIN_REPEAT, MAX_REPEAT = 60, 30 * 86_400
MAX_TYPES, MAX_TYPE_LENGTH = 50, 64

FIELDS = ("after", "repeat", "incident_types", "severity", "hours")


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """`after` and `repeat` are seconds; None means no reminders, all types, all severities, and any hour."""

    after: int = 0
    repeat: int | None = None
    incident_types: tuple[str, ...] | None = None
    severity: str | None = None
    hours: Hours | None = None
    to_everything: bool = False

    @property
    def plain(self) -> bool:
        """Whether it asks for nothing but to be told."""
        return self == Attachment(to_everything=self.to_everything)


def changed(before: Attachment, given: Mapping[str, Any], *, repeatable: bool) -> Attachment:
    """The attachment with what was `given`. `repeatable`: whether its integration may be told twice.

    Raises `Refused` (422) naming each field. Unknown fields are ignored.
    """
    problems: list[Detail] = []
    values: dict[str, Any] = {name: getattr(before, name) for name in FIELDS}
    for name in FIELDS:
        if name in given:
            value, problem = _read(name, given[name])
            values[name] = value
            if problem:
                problems.append(Detail(name, problem))
    if not problems and values["repeat"] is not None and not repeatable:
        problems.append(Detail("repeat", "must be null: a restart is never repeated"))
    if problems:
        raise invalid(f"{problems[0].field} {problems[0].message}", *problems)
    return Attachment(**values, to_everything=before.to_everything)


def _read(name: str, value: object) -> tuple[Any, str | None]:
    """The value as it is kept, and what is wrong with it."""
    match name:
        case "after":
            return _seconds(value, 0, MAX_AFTER) if value is not None else (0, None)
        case "repeat":
            return _seconds(value, MIN_REPEAT, MAX_REPEAT) if value is not None else (None, None)
        case "incident_types":
            return _types(value)
        case "severity":
            known = value is None or (isinstance(value, str) and value in SEVERITIES)
            return value, None if known else f"must be null or one of: {', '.join(SEVERITIES)}"
        case _:
            return (None if value is None else hours.parse(value, "hours")), None


def _seconds(value: object, least: int, most: int) -> tuple[int, str | None]:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= most:  # type: ignore[operator]
        return 0, f"must be whole seconds from {least} to {most}"
    return value, None  # type: ignore[return-value]


def _types(value: object) -> tuple[tuple[str, ...] | None, str | None]:
    if value is None:
        return None, None
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TYPES:
        return None, f"must be null or a list of 1 to {MAX_TYPES} types, such as [\"disk\"]"
    for each in value:
        fits = isinstance(each, str) and 0 < len(each) <= MAX_TYPE_LENGTH and each.isascii() and each.isprintable()
        if not fits or " " in each:
            return None, f"must hold types of incidents of at most {MAX_TYPE_LENGTH} ASCII characters, without spaces"
    return tuple(dict.fromkeys(value)), None
