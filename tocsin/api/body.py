"""Reading bodies: JSON whatever the content type says, into a handler's own shape, or an error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from inspect import signature
from typing import Any

import msgspec
from litestar.dto import AbstractDTO, DTOConfig
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Reference, Schema
from litestar.types import Empty
from litestar.typing import FieldDefinition
from msgspec import inspect

from tocsin.api.bounded_json import check_extent, fault, is_json, may_fault, parse, says_nul
from tocsin.api.validation_messages import body_needed, field, refusal, wrong

OPEN_LIMIT = 8 * 1024
"""Maximum bytes of a body from anybody, unless the route sets another limit."""
LIMIT = 64 * 1024
"""The same for authenticated callers."""
LONG_LIMIT = 1024 * 1024
"""The same on routes for bulk data."""
BATCH_LIMIT = 9 * 256 * 1024
"""Of a batch: 1,000 incidents, each with the longest message, and the rest of their fields."""

KNOWN = frozenset({"caller", "user_id", "viewer", "person", "probe"})
"""Parameters of handlers that need authentication. They are resolved before the body is read."""

Reader = Callable[[bytes], Any]


def bounded(handler: HTTPRouteHandler) -> HTTPRouteHandler:
    """The handler, with the body limit that suits it."""
    if handler.request_max_body_size is Empty:
        known = KNOWN & signature(handler.fn).parameters.keys()
        handler.request_max_body_size = LIMIT if known else OPEN_LIMIT
    return handler


def reader(shape: Any) -> Reader:
    """A function that reads a body into `shape`, a `msgspec.Struct` or an optional one; unknown fields are ignored.

    It raises `Refused`: 400 if the body is not JSON or its root object is missing or something else, 413 if it is
    too large, 422 with the field's path (root object left out) for values of the wrong type, numbers beyond 64 bits and
    strings with a NUL. A shape's `LOOSE` names what its handler validates item by item, so that one bad item does not
    fail the whole: there, numbers out of range are infinite, and lone surrogates are U+FFFD.
    """
    struct = _struct(shape)
    decoder, textual = msgspec.json.Decoder(struct), _textual(inspect.type_info(struct))
    roots, loose = _roots(struct), frozenset(getattr(struct, "LOOSE", ()))

    def read(body: bytes) -> Any:
        if not body:
            raise body_needed()
        check_extent(body)
        if textual and not says_nul(body):
            try:
                return decoder.decode(body)
            except msgspec.ValidationError as error:
                if is_json(body):  # also after the value that does not fit
                    raise refusal(str(error), roots, struct) from None
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
        plain = parse(body, loose=bool(loose))
        if may_fault(body) and (found := fault(_without(plain, loose))):
            raise wrong(field(f"${found[0]}", roots), found[1])
        try:
            return msgspec.convert(plain, struct)
        except msgspec.ValidationError as error:
            raise refusal(str(error), roots, struct) from None

    return read


def _struct(shape: Any) -> Any:
    """The type of a present body: `null` is no object."""
    kinds = [shape, *getattr(shape, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), shape)


def _roots(struct: Any) -> frozenset[str]:
    """The names of the object that wraps a body's fields: its `ROOTS`, or its only field if that is an object."""
    if hasattr(struct, "ROOTS"):
        return frozenset(struct.ROOTS)
    known = inspect.type_info(struct)
    fields = known.fields if isinstance(known, inspect.StructType) else ()
    only = fields[0] if len(fields) == 1 else None
    return frozenset({only.encode_name} if only and isinstance(only.type, inspect.StructType) else ())


def _textual(kind: inspect.Type) -> bool:
    """Whether a shape has only text: then no number can be out of range, and it can be decoded in one pass."""
    match kind:
        case inspect.StructType():
            return all(_textual(each.type) for each in kind.fields)
        case inspect.UnionType():
            return all(map(_textual, kind.types))
        case inspect.ListType():
            return _textual(kind.item_type)
        case inspect.Metadata():
            return _textual(kind.type)
    return isinstance(kind, inspect.StrType | inspect.LiteralType | inspect.NoneType)


def _without(plain: object, names: Collection[str]) -> object:
    if names and isinstance(plain, dict):
        return {name: value for name, value in plain.items() if name not in names}
    return plain


class JsonBody(AbstractDTO[Any]):
    """Replaces Litestar's own decoding, which is lax about types and depends on the content type, by `reader`."""

    config = DTOConfig()
    model_type = object
    readers: dict[str, Reader] = {}  # noqa: RUF012  (on the class by intention: one for each handler)

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
