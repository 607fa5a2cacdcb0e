"""JSON paths of people (RFC 9535): what they select, at a cost that is bounded whatever path and document are.

The standard's `match` and `search` are refused: a regular expression may run for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonpath import JSONPathEnvironment

MAX_LENGTH = 500
"""Characters of one path."""
MAX_BRACKETS = 30
"""Brackets and parentheses in a path: the parser recurses into each."""
MAX_COST = 12_000
"""Microseconds that looking at members of lists and objects takes at the very most, by what each costs."""
LOOK, LOOK_BY_NAME = 8, 1
"""What a look costs at most: with the library, and where a path has only names and indices."""

_BRACKETS = frozenset("[(")


class Faulty(ValueError):
    """Why a path cannot be accepted."""


class Unselectable(Exception):
    """Nothing can be selected; the text says why."""


class Steps:
    """What may be spent on the paths that share it."""

    __slots__ = ("left",)

    def __init__(self, cost: int = MAX_COST) -> None:
        self.left = cost

    def take(self, cost: int = LOOK) -> None:
        self.left -= cost
        if self.left < 0:
            raise Unselectable("the path needs too many steps in it; use a narrower one, without '..'")


def found(path: str, value: object, steps: Steps) -> Iterator[Any]:
    """What a path selects in plain JSON, in order. Raises `Unselectable`, and `Faulty`."""
    compiled = _compiled(path)
    if compiled.singular_query():
        return _followed(compiled.segments, value, steps)
    # the library would decode a text once more
    return _selected(compiled, value, steps) if isinstance(value, dict | list) else iter(())


def check(path: str) -> None:
    """Raises `Faulty`."""
    _compiled(path)


@lru_cache(maxsize=1024)
def _compiled(path: str) -> Any:
    if not 1 <= len(path) <= MAX_LENGTH:
        raise Faulty(f"must have from 1 to {MAX_LENGTH} characters")
    if sum(each in _BRACKETS for each in path) > MAX_BRACKETS:
        raise Faulty(f"may have at most {MAX_BRACKETS} brackets")
    from jsonpath.exceptions import JSONPathError

    try:
        return _environment().compile(path)
    except (JSONPathError, RecursionError, ValueError) as error:
        raise Faulty(f"must be a JSON path (RFC 9535) such as $.status: {reason(error)}") from None


@lru_cache(maxsize=1)
def _environment() -> JSONPathEnvironment:
    from jsonpath import JSONPathEnvironment  # loaded by those who need it: it takes a while

    made = JSONPathEnvironment(strict=True)
    for name in ("match", "search"):
        made.function_extensions.pop(name, None)
    return made


def reason(error: Exception) -> str:
    """An error of a parser in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (str(error).splitlines() or ["it cannot be read"])[0][:200]


def _followed(segments: Sequence[Any], value: Any, steps: Steps) -> Iterator[Any]:
    """One name or index after another."""
    for segment in segments:
        steps.take(LOOK_BY_NAME)
        (selector,) = segment.selectors
        where = selector.name if hasattr(selector, "name") else selector.index
        if not isinstance(value, dict if isinstance(where, str) else list):
            return
        try:
            value = value[where]
        except (KeyError, IndexError):
            return
    yield value


def _selected(compiled: Any, value: object, steps: Steps) -> Iterator[Any]:
    from jsonpath.exceptions import JSONPathError

    try:
        for match in compiled.finditer(_wrapped(value, steps)):
            steps.take()
            yield match.obj.plain if isinstance(match.obj, _Object | _Array) else match.obj
    except (JSONPathError, RecursionError) as error:
        raise Unselectable(f"the path cannot be applied to it: {reason(error)}") from None


class _Object(Mapping[str, Any]):
    """An object of the document, whose use is counted. What it contains is wrapped as it is looked at."""

    __slots__ = ("plain", "steps")

    def __init__(self, plain: dict[str, Any], steps: Steps) -> None:
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

    def __init__(self, plain: list[Any], steps: Steps) -> None:
        self.plain, self.steps = plain, steps

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            self.steps.take(LOOK * len(range(*place.indices(len(self.plain)))))
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


def _wrapped(value: Any, steps: Steps) -> Any:
    if type(value) is dict:
        return _Object(value, steps)
    return _Array(value, steps) if type(value) is list else value


def _equal(one: Any, other: Any, steps: Steps) -> bool:
    """As RFC 9535, 2.3.5.2.2, has it: `true` is not 1."""
    steps.take()
    if isinstance(one, dict) and isinstance(other, dict):
        steps.take(len(one) // 16)  # names are compared without a look at what they name
        return one.keys() == other.keys() and all(_equal(each, other[name], steps) for name, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(lambda a, b: _equal(a, b, steps), one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)
