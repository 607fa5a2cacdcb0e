"""Validation messages: translates msgspec's errors into ours."""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from tocsin.api.schemas import PATTERNS
from tocsin.domain import names
from tocsin.domain.errors import Detail, Refused, invalid

MAX_LENGTH = 200
"""Maximum characters of a caller's text that are quoted back."""

_MISSING = re.compile(r"^Object missing required field `(?P<name>.+)`$")
_UNKNOWN = re.compile(r"^Invalid enum value (?P<got>.+)$", re.DOTALL)
_LENGTH = re.compile(r"^of length (?P<sign>[<>]=) (?P<number>\d+)$")
_EXPECTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`(?: (?P<limit>[^,]+))?(?:, got `(?P<got>.+)`)?$")
_STEP = re.compile(r"\[[^\]]*\]|[^.$\[]+")
_TYPE = re.compile(r"^Expected `(object|array)`, got ")


def refusal(text: str, roots: frozenset[str], shape: Any) -> Refused:
    """The error for msgspec's message, such as "Expected `str`, got `int` - at `$.integration.name`": 400 for the root
    object that is missing or of another type, 422 for the values in it.
    """
    if len(text) > 4 * MAX_LENGTH:  # it quotes the input
        text = f"{text[: 2 * MAX_LENGTH]}…{text[-2 * MAX_LENGTH :]}"
    what, at, path = text.rpartition(" - at `") if text.endswith("`") else (text, "", "")
    what, path = (what, path[:-1]) if at else (text, "")
    missing = _MISSING.match(what)
    if not path and missing is None:
        return Refused(400, "invalid_request", "The body must be a JSON object")
    if not path and missing and missing["name"] in roots:
        return missing_root(missing["name"])
    if path.removeprefix("$.") in roots and _TYPE.match(what):
        name = path.removeprefix("$.")
        return Refused(400, "invalid_request", f'In the body, "{name}" {problem(what)}')
    if missing:
        return wrong(field(f"{path or '$'}.{missing['name']}", roots), "is required")
    return wrong(field(path, roots), problem(what, choices(shape, path)))


def body_needed() -> Refused:
    """400: there is no body at all."""
    return Refused(400, "invalid_request", "The request needs a JSON object as its body")


def missing_root(*names: str) -> Refused:
    """400: the body lacks its root object, which has one of these names."""
    named = " or ".join(f'"{name}"' for name in names)
    return Refused(400, "invalid_request", f"The body must be a JSON object with {named} in it")


def wrong(name: str, problem: str) -> Refused:
    """422 for one field."""
    return invalid(f"{name} {problem}", Detail(name, problem))


def field(path: str, roots: frozenset[str]) -> str:
    """A path as callers see it: `$.integration.settings.webhook_url` is `settings.webhook_url`."""
    path = names.cut(path.removeprefix("$").removeprefix(".").replace("[...]", ""), MAX_LENGTH)
    root, dot, rest = path.partition(".")
    return rest if dot and root in roots else path


def choices(annotation: Any, path: str = "$") -> list[str]:
    """The allowed values at a path such as `$.incidents[...].resource_type`, if they are enumerable."""
    here = [annotation]
    for step in _STEP.findall(path):
        here = [inner for each in here for inner in _inside(each, step)]
    return [str(value) for each in here for kind in _kinds(each) if get_origin(kind) is Literal
            for value in get_args(kind)]  # fmt: skip


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types of a value: the members of a union, without what only annotates them."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _kinds(each)
    else:
        yield annotation


def _inside(annotation: Any, step: str) -> Iterator[Any]:
    """The types one level deeper: of a field, or of a list's items."""
    for kind in _kinds(annotation):
        if step.startswith("["):
            yield from get_args(kind)[:1] if get_origin(kind) is list else ()
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hints = get_type_hints(kind, include_extras=True)
            yield from (hints[each.name] for each in msgspec.structs.fields(kind) if each.encode_name == step)


def problem(words: str, choices: Collection[str] = ()) -> str:
    """What is wrong with one value: msgspec's "Expected `int`, got `str`" is "must be an integer, not a string".

    `choices` are the allowed values, if they are enumerable.
    """
    if said := _PLAIN.get(words):
        return said
    if unknown := _UNKNOWN.match(words):
        named = ", ".join(choices) if choices else "the values that /api/docs names"
        return f"must be one of: {named}; not {names.cut(unknown['got'], MAX_LENGTH)}"
    expected = _EXPECTED.match(words)
    if expected is None:
        return words[:1].lower() + words[1:]
    if length := _LENGTH.match(expected["limit"] or ""):
        least = "at least" if length["sign"] == ">=" else "at most"
        what = "entries" if expected["wanted"] == "array" else "characters"
        return f"must have {least} {length['number']} {what}"
    limit = f" {expected['limit']}" if expected["limit"] else ""
    but = f", not {_kind(expected['got'])}" if expected["got"] else ""
    return f"must be {_kind(expected['wanted'])}{limit}{but}"


_KINDS = {"str": "a string", "int": "an integer", "float": "a number", "bool": "true or false", "array": "a list",
          "object": "an object", "null": "null", "datetime": "a time such as 2024-01-01T00:00:00Z"}  # fmt: skip


_PLAIN = {
    "Invalid RFC3339 encoded datetime": f"must be {_KINDS['datetime']}",
    "Expected `datetime` with a timezone component": f"must be {_KINDS['datetime']}, with its zone",
    **{f"Expected `str` matching regex {pattern!r}": said for pattern, said in PATTERNS.items()},
}


def _kind(words: str) -> str:
    """`str | null` for people: `a string or null`."""
    kinds = words.split(" | ")
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds if kind != "int" or "float" not in kinds)
