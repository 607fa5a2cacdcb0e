"""Reading bodies: JSON whatever the content type says, in one pass, into a handler's own shape, or refused in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any

import msgspec
from litestar.dto import AbstractDTO, DTOConfig
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from tocsin.api.shapes import PATTERNS
from tocsin.domain.errors import Detail, Refused, invalid

LIMIT = 1024 * 1024
"""Bytes of a body that are read, where a route does not say otherwise."""

INT64 = range(-(2**63), 2**63)

Reader = Callable[[bytes], Any]

_SUSPECT = re.compile(rb"\\u0000|\d{19}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<at>.+)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.+)`$")
_UNKNOWN = re.compile(r"^Invalid enum value (?P<got>.+)$", re.DOTALL)
_LENGTH = re.compile(r"^of length (?P<sign>[<>]=) (?P<number>\d+)$")
_EXPECTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`(?: (?P<limit>[^,]+))?(?:, got `(?P<got>.+)`)?$")


def reader(shape: Any) -> Reader:
    """A function that reads a body into `shape`, a `msgspec.Struct` or an optional one; unknown fields are ignored.

    It raises `Refused`: 400 where the body is no JSON or lacks its root object, 422 with the field's path (root object
    left out) for values of the wrong type, numbers beyond 64 bits and strings with a NUL. A shape's `LOOSE` names what
    its handler judges piece by piece, so that one bad piece does not spoil the whole.
    """
    decoder = msgspec.json.Decoder(shape)
    roots, loose = _roots(shape), getattr(shape, "LOOSE", ())

    def read(body: bytes) -> Any:
        if not body:
            raise body_needed()
        try:
            value = decoder.decode(body)
            if _SUSPECT.search(body):
                _check_values(msgspec.json.decode(body), roots, loose)
        except msgspec.ValidationError as error:
            raise _refusal(str(error), roots) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            if _SURROGATE.search(body) and _is_json(body):
                raise invalid("The body has half of a surrogate pair in a string, which is no character") from None
            raise Refused(400, "invalid_request", "The body is not valid JSON in UTF-8") from None
        except RecursionError:
            raise Refused(400, "invalid_request", "The body is nested too deeply") from None
        return value

    return read


def _roots(shape: Any) -> frozenset[str]:
    """The names of the object that wraps a body's fields: its `ROOTS`, or its only field where that is an object."""
    kinds = [shape, *getattr(shape, "__args__", ())]
    struct = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)
    if struct is None:
        return frozenset()
    if hasattr(struct, "ROOTS"):
        return frozenset(struct.ROOTS)
    fields = msgspec.inspect.type_info(struct).fields  # type: ignore[attr-defined]
    only = fields[0] if len(fields) == 1 else None
    return frozenset({only.encode_name} if only and isinstance(only.type, msgspec.inspect.StructType) else ())


def _refusal(text: str, roots: frozenset[str]) -> Refused:
    """msgspec's words, such as "Expected `str`, got `int` - at `$.integration.name`", in ours."""
    found = _WHERE.match(text)
    assert found
    what, path = found["what"], found["at"]
    missing = _MISSING.match(what)
    if path is None and missing is None:
        return Refused(400, "invalid_request", "The body must be a JSON object")
    if path is None and missing and missing["name"] in roots:
        return missing_root(missing["name"])
    if missing:
        path = f"{path or '$'}.{missing['name']}"
        return _invalid(field(path or "$", roots), "is required")
    return _invalid(field(path or "$", roots), problem(what))


def body_needed() -> Refused:
    """400: there is no body at all."""
    return Refused(400, "invalid_request", "The request needs a JSON object as its body")


def missing_root(name: str) -> Refused:
    """400: the body lacks the object that holds everything else."""
    return Refused(400, "invalid_request", f'The body must be a JSON object with "{name}" in it')


def field(path: str, roots: frozenset[str]) -> str:
    """A path as callers are told it: `$.integration.settings.webhook_url` is `settings.webhook_url`."""
    path = path.removeprefix("$").removeprefix(".").replace("[...]", "")
    root, dot, rest = path.partition(".")
    return rest if dot and root in roots else path


def _invalid(name: str, problem: str) -> Refused:
    return invalid(f"{name} {problem}", Detail(name, problem))


def problem(words: str) -> str:
    """What is wrong with one value: msgspec's "Expected `int`, got `str`" is "must be an integer, not a string"."""
    if said := _PLAIN.get(words):
        return said
    if unknown := _UNKNOWN.match(words):
        return f"must be one of the values that /api/docs names, not {unknown['got']}"
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


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _check_values(value: Any, roots: frozenset[str], loose: Collection[str]) -> None:
    """Refuse what the database could not hold: NUL in text, integers beyond 64 bits."""
    if loose and isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if name not in loose}
    for path, leaf in _leaves(value, "$"):
        if isinstance(leaf, str) and "\0" in leaf:
            raise _invalid(field(path, roots), "must not contain a NUL character")
        if isinstance(leaf, int) and leaf not in INT64:
            raise _invalid(field(path, roots), "is a number beyond 64 bits")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield path, name
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


class JsonBody(AbstractDTO[Any]):
    """Puts `reader` in the place of Litestar's own reading, which is lax about types and minds the content type."""

    config = DTOConfig()
    model_type = object
    readers: dict[str, Reader] = {}  # noqa: RUF012  (of the class by intention: one for each handler)

    def decode_bytes(self, value: bytes) -> Any:
        return self.readers[self.asgi_connection.route_handler.handler_id](value)

    @classmethod
    def create_for_field_definition(
        cls, field_definition: FieldDefinition, handler_id: str, backend_cls: Any = None
    ) -> None:
        cls.readers[handler_id] = reader(field_definition.annotation)

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Reference | Schema:
        shown: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return shown

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        return False
