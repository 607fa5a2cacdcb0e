"""Values of a JSON document that a path selects (RFC 9535), at a cost that is bounded whatever path and document are.

The standard's `match` and `search` are refused: a regular expression may run for ever.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import msgspec
from jsonpath import JSONPathEnvironment
from jsonpath.exceptions import JSONPathError

MAX_PATH_LENGTH = 500
MAX_BRACKETS = 30
"""Brackets and parentheses in a path: the parser recurses into each."""
MAX_DOCUMENT = 128 << 10
"""Bytes of a document: it takes less than 5 ms to decode."""
MAX_MEMBERS = 20_000
"""Lists, objects and commas in it."""
MAX_DEPTH = 64
MAX_STEPS = 1_000
"""Looks at members of lists and objects: each costs up to 8 µs, so that a path takes 20 ms at the very most."""

_BRACKETS = frozenset("[(")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))
_decoder = msgspec.json.Decoder(float_hook=float)
"""Fractions are parsed by the interpreter: the decoder takes up to 17 µs for one such as `9e295`."""


class BadPath(ValueError):
    """It is no JSON path; the text says why."""


class Unselectable(Exception):
    """Nothing can be selected from the document; the text says why."""


class _Steps:
    """How many are left."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise Unselectable(f"the path needs more than {MAX_STEPS:,} steps in it; use a narrower one, without '..'")


class _Object(Mapping[str, Any]):
    """An object of the document, whose use is counted. What it contains is wrapped as it is looked at."""

    __slots__ = ("plain", "steps")

    def __init__(self, plain: dict[str, Any], steps: _Steps) -> None:
        self.plain, self.steps = plain, steps

    def __getitem__(self, name: str) -> Any:
        self.steps.take()
        return _wrapped(self.plain[name], self.steps)

    def __iter__(self) -> Iterator[str]:
        for name in self.plain:
            self.steps.take()
            yield name

    def __len__(self) -> int:
        return len(self.plain)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Object) and _equal(self.plain, other.plain, self.steps)

    __hash__ = None  # type: ignore[assignment]


class _Array(Sequence[Any]):
    """As `_Object`."""

    __slots__ = ("plain", "steps")

    def __init__(self, plain: list[Any], steps: _Steps) -> None:
        self.plain, self.steps = plain, steps

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            self.steps.take(len(range(*place.indices(len(self.plain)))))
            return [_wrapped(each, self.steps) for each in self.plain[place]]
        self.steps.take()
        return _wrapped(self.plain[place], self.steps)

    def __iter__(self) -> Iterator[Any]:
        for each in self.plain:
            self.steps.take()
            yield _wrapped(each, self.steps)

    def __len__(self) -> int:
        return len(self.plain)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Array) and _equal(self.plain, other.plain, self.steps)

    __hash__ = None  # type: ignore[assignment]


def check(path: str) -> None:
    """Raises `BadPath`."""
    _compiled(path)


def select(document: bytes, path: str) -> list[Any]:
    """The values that the path selects. Raises `Unselectable`, and `BadPath`."""
    compiled = _compiled(path)
    plain = _decoded(document)
    if not isinstance(plain, dict | list):  # the library would decode a text once more
        return [] if compiled.segments else [plain]
    steps = _Steps(MAX_STEPS)
    found = []
    try:
        for match in compiled.finditer(_wrapped(plain, steps)):
            steps.take()
            found.append(match.obj.plain if isinstance(match.obj, _Object | _Array) else match.obj)
    except (JSONPathError, RecursionError) as error:
        raise Unselectable(f"the path cannot be applied to it: {_reason(error)}") from None
    return found


def equals(value: Any, wanted: str | int | float | bool) -> bool:
    """Whether a value is what is wanted. A text also means the number, `true`, `false` or `null` that it spells."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted or (isinstance(wanted, str) and wanted == spelled(value))
    if value == wanted:
        return True
    return isinstance(wanted, str) and not isinstance(value, str | dict | list) and wanted == spelled(value)


def spelled(value: Any) -> str:
    """As JSON writes it."""
    return msgspec.json.encode(value).decode()


def _wrapped(value: Any, steps: _Steps) -> Any:
    if type(value) is dict:
        return _Object(value, steps)
    return _Array(value, steps) if type(value) is list else value


def _equal(one: Any, other: Any, steps: _Steps) -> bool:
    """As RFC 9535, 2.3.5.2.2, has it: `true` is not 1."""
    steps.take()
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(each, other[name], steps) for name, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(lambda a, b: _equal(a, b, steps), one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


@lru_cache(maxsize=1024)
def _compiled(path: str) -> Any:
    if not 1 <= len(path) <= MAX_PATH_LENGTH:
        raise BadPath(f"must have from 1 to {MAX_PATH_LENGTH} characters")
    if sum(each in _BRACKETS for each in path) > MAX_BRACKETS:
        raise BadPath(f"may have at most {MAX_BRACKETS} brackets")
    try:
        return _environment().compile(path)
    except (JSONPathError, RecursionError, ValueError) as error:
        raise BadPath(f"must be a JSON path (RFC 9535) such as $.status: {_reason(error)}") from None


@lru_cache(maxsize=1)
def _environment() -> JSONPathEnvironment:
    made = JSONPathEnvironment(strict=True)
    for name in ("match", "search"):
        made.function_extensions.pop(name, None)
    return made


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (str(error).splitlines() or ["it cannot be read"])[0][:200]


def _decoded(document: bytes) -> Any:
    if len(document) > MAX_DOCUMENT:
        raise Unselectable(f"it is longer than {MAX_DOCUMENT >> 10} KiB")
    if document.count(b"[") + document.count(b"{") + document.count(b",") > MAX_MEMBERS:
        raise Unselectable(f"it has more than {MAX_MEMBERS:,} members")
    if _is_deep(document):
        raise Unselectable(f"it is nested more than {MAX_DEPTH} deep")
    try:
        return _decoder.decode(document.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as error:
        raise Unselectable(f"it is no JSON: {_reason(error)}") from None


def _is_deep(document: bytes) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects are open at once."""
    if document.count(b"[") + document.count(b"{") <= MAX_DEPTH:
        return False
    steps = _STRING.sub(b"", document).translate(_STEPS, _OTHERS)
    return max(accumulate(array("b", steps)), default=0) > MAX_DEPTH
