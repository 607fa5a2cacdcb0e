"""What templates are made of: parts that compute a value and know how long its text can be, and a budget for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

MAX_SIZE = 16 * 1024
"""Bytes of all templates of one integration in sum."""
MAX_TOKENS = 1_000
"""Words and signs of them, which bound the time to parse them to some 10 ms."""
MAX_LENGTH = 65_536
"""Characters that may become of all of them in sum."""
MAX_WORK = 524_288
"""Characters that may be read and written on the way there, which bounds the time to some ms."""
TEXT_OF_NUMBER, TEXT_OF_TIME = 24, 20

OMIT = object()
"""The value of the name `omit`: a field or an item with it is left out."""

Value = Any
"""Text, a number, a truth value, None, a time in UTC, an object, or `OMIT`."""
Values = Mapping[str, Value]
Run = Callable[[Values], Value]


class Faulty(ValueError):
    """Why a template cannot be accepted, in words for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a template: what computes it, and how many characters its text can have. `constant` is what it
    always is, if `is_constant`.
    """

    run: Run
    longest: int
    is_constant: bool = False
    constant: Value = None


class Budget:
    """What the templates of one integration may take together, and the names that they know with the most characters
    of each.
    """

    def __init__(self, names: Mapping[str, int]) -> None:
        self.names = names
        self._size, self._tokens, self._length, self._work = MAX_SIZE, MAX_TOKENS, MAX_LENGTH, MAX_WORK

    def read(self, size: int) -> None:
        self._size -= size
        if self._size < 0:
            raise Faulty(f"makes the templates larger than {MAX_SIZE:,} bytes in sum")

    def token(self) -> None:
        self._tokens -= 1
        if self._tokens < 0:
            raise Faulty(f"makes the templates too long: they may have {MAX_TOKENS:,} words and signs in sum")

    def write(self, length: int) -> None:
        self._length -= length
        if self._length < 0:
            raise Faulty(
                f"makes it possible that more than {MAX_LENGTH:,} characters are sent; cut values with truncate(200)"
            )

    def work(self, length: int) -> None:
        self._work -= length
        if self._work < 0:
            raise Faulty("makes the templates too expensive: cut values with truncate(200) before other filters")


def text(value: Value) -> str:
    """A value as text: nothing for None and `omit`, times as ISO 8601 in UTC, objects as JSON, else as Jinja2."""
    if isinstance(value, str):
        return value
    if value is None or value is OMIT:
        return ""
    if isinstance(value, Mapping):
        return msgspec.json.encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def constant(value: Value) -> Part:
    length = TEXT_OF_NUMBER if isinstance(value, int | float) else len(text(value))
    return Part(lambda values: value, length, True, value)


def checked(value: str) -> str:
    """Text that can be stored and sent. Raises `Faulty`."""
    if "\0" in value:
        raise Faulty("must not contain a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Faulty("has a lone surrogate, which is not a character") from None
    return value
