"""What a JSON path selects in a site's answer: JSON that is looked at before it is decoded, in less than 5 ms."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import Any

import msgspec

from tocsin.domain import json_paths
from tocsin.domain.json_paths import Steps, Unselectable

MAX_DOCUMENT = 128 << 10
"""Bytes of a document."""
MAX_MEMBERS = 20_000
"""Lists, objects and commas in it."""
MAX_DEPTH = 64
MAX_COST = 5_000
"""With decoding it takes 20 ms at the very most, on a machine that is busy, too."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b"[{]}"))
_decoder = msgspec.json.Decoder(float_hook=float)
"""Fractions are parsed by the interpreter: the decoder takes up to 17 µs for one such as `9e295`."""


def select(document: bytes, path: str) -> list[Any]:
    """The values that the path selects. Raises `Unselectable`, and `json_paths.Faulty`."""
    return list(json_paths.found(path, _decoded(document), Steps(MAX_COST)))


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
        raise Unselectable(f"it is no JSON: {json_paths.reason(error)}") from None


def _is_deep(document: bytes) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects are open at once."""
    if document.count(b"[") + document.count(b"{") <= MAX_DEPTH:
        return False
    steps = _STRING.sub(b"", document).translate(_STEPS, _OTHERS)
    return max(accumulate(array("b", steps)), default=0) > MAX_DEPTH
