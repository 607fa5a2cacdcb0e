"""Reading bodies: JSON whatever the content type says, in one pass, into a handler's own shape, or refused in words."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

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

COMPRESSED = "The body is compressed; send it as plain JSON, without Content-Encoding"

Reader = Callable[[bytes], Any]

_NUL = rb"\u0000"
_TO_ZERO, _ZEROS = bytes.maketrans(b"123456789", b"000000000"), b"0" * 19
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<at>.+)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.+)`$")
_UNKNOWN = re.compile(r"^Invalid enum value (?P<got>.+)$", re.DOTALL)
_NO_NUMBER = re.compile(r"^(Integer value|Number) out of range")
_LENGTH = re.compile(r"^of length (?P<sign>[<>]=) (?P<number>\d+)$")
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and deflate begin (RFC 1952, RFC 8878, RFC 1950); no JSON does."""
_EXPECTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`(?: (?P<limit>[^,]+))?(?:, got `(?P<got>.+)`)?$")


def reader(shape: Any) -> Reader:
    """A function that reads a body into `shape`, a `msgspec.Struct` or an optional one; unknown fields are ignored.

    It raises `Refused`: 400 where the body is no JSON or lacks its root object, 422 with the field's path (root object
    left out) for values of the wrong type, numbers beyond 64 bits and strings with a NUL. A shape's `LOOSE` names what
    its handler judges piece by piece, so that one bad piece does not spoil the whole: there, numbers that nothing can
    hold are infinite.
    """
    decoder = msgspec.json.Decoder(shape)
    roots, loose = _roots(shape), getattr(shape, "LOOSE", ())

    def read(body: bytes) -> Any:
        if not body:
            raise body_needed()
        try:
            try:
                value = decoder.decode(body)
                whole = msgspec.json.decode(body) if _suspect(body) else None
            except msgspec.ValidationError as error:
                if not loose or not _NO_NUMBER.match(str(error)):
                    raise
                whole = json.loads(body, parse_int=_integer, parse_constant=_no_json)
                value = msgspec.convert(whole, shape)
            _check_values(whole, roots, loose)
        except msgspec.ValidationError as error:
            raise _refusal(str(error), roots, shape) from None
        except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError):
            if body.startswith(_COMPRESSED):
                raise Refused(400, "invalid_request", COMPRESSED) from None
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


def _integer(digits: str) -> int | float:
    """An integer, or an infinite number in the place of one that is too long to be read."""
    return int(digits) if len(digits) < 300 else float(digits)


def _no_json(word: str) -> Any:
    raise json.JSONDecodeError(f"{word} is no JSON", word, 0)


def _refusal(text: str, roots: frozenset[str], shape: Any) -> Refused:
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
    return _invalid(field(path or "$", roots), problem(what, choices(shape, path or "$")))


def body_needed() -> Refused:
    """400: there is no body at all."""
    return Refused(400, "invalid_request", "The request needs a JSON object as its body")


def missing_root(*names: str) -> Refused:
    """400: the body lacks what holds everything else, which goes by one of these names."""
    named = " or ".join(f'"{name}"' for name in names)
    return Refused(400, "invalid_request", f"The body must be a JSON object with {named} in it")


def field(path: str, roots: frozenset[str]) -> str:
    """A path as callers are told it: `$.integration.settings.webhook_url` is `settings.webhook_url`."""
    path = path.removeprefix("$").removeprefix(".").replace("[...]", "")
    root, dot, rest = path.partition(".")
    return rest if dot and root in roots else path


def _invalid(name: str, problem: str) -> Refused:
    return invalid(f"{name} {problem}", Detail(name, problem))


def choices(annotation: Any, path: str = "$") -> list[str]:
    """The values that may stand at a path such as `$.incidents[...].resource_type`, where they can be counted."""
    here = [annotation]
    for step in _STEP.findall(path):
        here = [inner for each in here for inner in _inside(each, step)]
    return [str(value) for each in here for kind in _kinds(each) if get_origin(kind) is Literal
            for value in get_args(kind)]  # fmt: skip


_STEP = re.compile(r"\[[^\]]*\]|[^.$\[]+")


def _kinds(annotation: Any) -> Iterator[Any]:
    """What a value may be: the members of a union, without what only annotates them."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _kinds(each)
    else:
        yield annotation


def _inside(annotation: Any, step: str) -> Iterator[Any]:
    """What may stand one step further in: in a field, or in a list."""
    for kind in _kinds(annotation):
        if step.startswith("["):
            yield from get_args(kind)[:1] if get_origin(kind) is list else ()
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hints = get_type_hints(kind, include_extras=True)
            yield from (hints[each.name] for each in msgspec.structs.fields(kind) if each.encode_name == step)


def problem(words: str, choices: Collection[str] = ()) -> str:
    """What is wrong with one value: msgspec's "Expected `int`, got `str`" is "must be an integer, not a string".

    `choices` are the values that could stand there, where they can be counted.
    """
    if said := _PLAIN.get(words):
        return said
    if unknown := _UNKNOWN.match(words):
        named = ", ".join(choices) if choices else "the values that /api/docs names"
        return f"must be one of: {named}; not {unknown['got']}"
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


def _suspect(body: bytes) -> bool:
    """Whether there may be a NUL, or a number of 19 digits. A regular expression takes four times as long."""
    return _NUL in body or _ZEROS in body.translate(_TO_ZERO)


def _check_values(value: Any, roots: frozenset[str], loose: Collection[str]) -> None:
    """Refuse what the database could not hold: NUL in text, numbers beyond 64 bits."""
    if loose and isinstance(value, dict):
        value = {name: inner for name, inner in value.items() if name not in loose}
    for path, leaf in _leaves(value, "$"):
        if isinstance(leaf, str) and "\0" in leaf:
            raise _invalid(field(path, roots), "must not contain a NUL character")
        if (isinstance(leaf, int) and leaf not in INT64) or (isinstance(leaf, float) and math.isinf(leaf)):
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
