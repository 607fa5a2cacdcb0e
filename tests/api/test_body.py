"""Bodies: read into their shapes, or refused with the path of the field."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from tocsin.api import body
from tocsin.domain.errors import Refused


class Settings(msgspec.Struct):
    webhook_url: str
    port: int = 22


class Inner(msgspec.Struct):
    name: str
    settings: Settings | None = None


class Wrapped(msgspec.Struct):
    integration: Inner


class Flat(msgspec.Struct):
    phone_number: str


def refusal(shape: Any, content: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        body.reader(shape)(content)
    return caught.value


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"null", 400, None),
        (b"[]", 400, None),
        (b"{}", 400, None),
        (b'{"other": 1}', 400, None),
        (b'{"integration": {"name": "\xff"}}', 400, None),
        (b'{"integration":' + b"[" * 100_000, 400, None),
        (b'{"other":' + b"[" * 100_000, 400, None),
        (b'{"integration": 5}', 400, None),
        (b'{"integration": null}', 400, None),
        (b'{"integration": []}', 400, None),
        (b'{"integration": {}} x', 400, None),
        (b'{"integration": 5', 400, None),
        (b'{"integration": {"name": ' + b"9" * 5000 + b"}} x", 400, None),
        (b'{"integration": {"name": 1e400}, "x": nul}', 400, None),
        (b'{"integration": {}}', 422, "name"),
        (b'{"integration": {"name": 5}}', 422, "name"),
        (b'{"integration": {"name": "a", "settings": {}}}', 422, "settings.webhook_url"),
        (b'{"integration": {"name": "a", "settings": {"webhook_url": 1}}}', 422, "settings.webhook_url"),
        (b'{"integration": {"name": "a", "settings": {"webhook_url": "", "port": "22"}}}', 422, "settings.port"),
        (b'{"integration": {"name": "a", "settings": {"webhook_url": "", "port": 9223372036854775808}}}', 422,
         "settings.port"),
        (b'{"integration": {"name": "a\\u0000"}}', 422, "name"),
        (b'{"integration": {"name": "\\ud800"}}', 422, None),
        (b'{"integration": {"name": "a"}, "x": {"\\u0000": 1}}', 422, "x"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_with_the_path_of_its_field(content: bytes, status: int, field: str | None) -> None:
    refused = refusal(Wrapped, content)
    assert (refused.status, refused.code) == (status, "invalid_request")
    assert [detail.field for detail in refused.details] == ([field] if field else [])


@pytest.mark.parametrize("coding", [gzip.compress, zlib.compress])
def test_a_compressed_body_is_refused_with_what_to_do(coding: Callable[[bytes], bytes]) -> None:
    refused = refusal(Wrapped, coding(b'{"integration": {"name": "a"}}'))
    assert (refused.status, refused.code) == (400, "invalid_request")
    assert "compressed" in refused.message
    assert "Content-Encoding" in refused.message


class Choice(msgspec.Struct):
    kind: Literal["Server", "NetworkMonitor"] | None = None


class Choices(msgspec.Struct):
    one: Choice | UnsetType = UNSET
    many: Annotated[list[Choice], msgspec.Meta(max_length=3)] | UnsetType = UNSET


@pytest.mark.parametrize(
    ("content", "field"),
    [(b'{"one": {"kind": "Moon"}}', "one.kind"), (b'{"many": [{}, {"kind": "Moon"}]}', "many[1].kind")],
)
def test_a_value_that_is_none_of_those_that_can_be_is_told_them(content: bytes, field: str) -> None:
    refused = refusal(Choices, content)
    assert refused.details[0].field == field
    assert refused.message == f"{field} must be one of: Server, NetworkMonitor; not 'Moon'"


class Measured(msgspec.Struct):
    LOOSE: ClassVar = ("metrics",)
    name: Any = None
    metrics: list[Any] = []


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"9" * 50, b"9" * 5000])
def test_a_number_that_nothing_can_hold_spoils_only_what_is_judged_piece_by_piece(number: bytes) -> None:
    read = body.reader(Measured)(b'{"metrics": [{"value": ' + number + b'}, {"value": 1}]}')
    assert len(read.metrics) == 2
    assert read.metrics[1] == {"value": 1}
    refused = refusal(Measured, b'{"name": ' + number + b', "metrics": [1e400]}')
    assert (refused.status, refused.details[0].field) == (422, "name")


def test_what_is_no_number_is_no_json_even_there() -> None:
    assert refusal(Measured, b'{"metrics": [1e400, NaN]}').status == 400


def test_a_body_without_root_object_names_its_fields_as_they_are() -> None:
    assert refusal(Flat, b"{}").details[0].field == "phone_number"
    assert refusal(Flat, b'{"phone_number": null}').message == "phone_number must be a string, not null"


def test_what_looks_like_a_nul_and_is_none_is_accepted() -> None:
    assert body.reader(Wrapped)(rb'{"integration": {"name": "\\u0000 1234567890123456789"}}').integration.name == (
        r"\u0000 1234567890123456789"
    )


def test_unknown_fields_are_ignored() -> None:
    assert body.reader(Flat)(b'{"phone_number": "+1", "colour": "red"}') == Flat("+1")
