"""From the bytes of a body to plain values: JSON (RFC 8259) whose extent is bounded before anything is made of it.

What a body costs is then bounded by its bytes: no depth, repetition or length of a number makes any of them dear.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from math import isinf

import msgspec

from tocsin.domain.errors import Refused, invalid

DEPTH = 64
MOST_VALUES = 65_536
"""Values in one body, however long: what agents keep through six hours, in 1 MiB, has about as many."""
MOST_STRINGS = 2 * MOST_VALUES
MOST_LONG_RUNS = 500
"""Runs of 400 digits in a body that is long: to read an integer takes time by the square of its length."""

INT64 = range(-(2**63), 2**63)

COMPRESSED = "The body is compressed; send it as plain JSON, without Content-Encoding"
NUL, BEYOND = "must not contain a NUL character", "is a number beyond 64 bits"

_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and deflate begin (RFC 1952, RFC 8878, RFC 1950); no JSON does."""
_TO_ZERO, _LONG_RUN = bytes.maketrans(b"123456789", b"000000000"), b"0" * 400
_TOO_LONG = re.compile(rb"(?<![0-9])[0-9]{4301,}+")
"""Integers that the interpreter does not read (`sys.get_int_max_str_digits`)."""
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a surrogate pair, which JSON's grammar allows and which is no character."""
_SHORT = 4096
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b'"[{]},'))
_decoder = msgspec.json.Decoder(float_hook=float)
"""The interpreter reads fractions: the decoder's own reading takes up to 17 µs for one such as `9e295`."""


def parse(body: bytes, *, loose: bool = False) -> object:
    """What a body says.

    Raises `Refused`: 413 for too many values, 400 for what is no JSON or nested deeper than `DEPTH`, 422 for half of a
    surrogate pair. Numbers that nothing can hold are infinite. `loose` lets halves pass, as U+FFFD.
    """
    check_extent(body)
    if len(body) > MOST_VALUES and body.translate(_TO_ZERO).count(_LONG_RUN) > MOST_LONG_RUNS:
        raise too_large()
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    mended, halves = _HALF.subn(rb"\\ufffd", _TOO_LONG.sub(b"1e999", body))
    try:
        value = _decoder.decode(mended)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = COMPRESSED if body.startswith(_COMPRESSED) else "The body is not valid JSON in UTF-8"
        raise Refused(400, "invalid_request", said) from None
    if halves and not loose:
        raise invalid("The body has half of a surrogate pair in a string, which is no character")
    return value


def says_nul(body: bytes) -> bool:
    """Whether there may be a NUL in a string of it."""
    return b"\\" in body and rb"\u0000" in body


def fault(value: object) -> tuple[str, str] | None:
    """Path and problem of the first leaf that the database could not hold: NUL in text, numbers beyond 64 bits."""
    # Recursive, because nothing here is deeper than `DEPTH`; a path is put together only where there is a fault.
    kind = type(value)
    if kind is str:
        return ("", NUL) if "\0" in value else None  # type: ignore[operator]
    if kind is int:
        return None if value in INT64 else ("", BEYOND)
    if kind is float:
        return ("", BEYOND) if isinf(value) else None  # type: ignore[arg-type]
    if kind is list:
        for index, inner in enumerate(value):  # type: ignore[arg-type,var-annotated]
            if found := fault(inner):
                return f"[{index}]{found[0]}", found[1]
    elif kind is dict:
        for name, inner in value.items():  # type: ignore[attr-defined]
            if "\0" in name:
                return "", NUL
            if found := fault(inner):
                return f".{name}{found[0]}", found[1]
    return None


def too_large() -> Refused:
    """413, also where it is not the bytes but what they hold."""
    return Refused(413, "payload_too_large", "The body is too large: send less at once")


def check_extent(body: bytes) -> None:
    """Refuse what is too deep or has too many values, at the speed of `memchr`. Raises `Refused` as `parse` does."""
    if len(body) < _SHORT and body.count(b"[") + body.count(b"{") <= DEPTH:
        return
    whole = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    marks = whole.translate(None, _OTHERS)
    if marks.count(b'"') > 2 * MOST_STRINGS:
        raise too_large()
    # Two quotes side by side change nothing of what is inside of a string and what is not.
    outside = b"".join(marks.replace(b'""', b"").split(b'"')[::2])
    steps = array("b", outside[: 2 * MOST_VALUES].translate(_STEPS, b'",'))
    if max(accumulate(steps), default=0) > DEPTH:
        raise Refused(400, "invalid_request", f"The body is nested too deeply: {DEPTH} levels are the most")
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > MOST_VALUES:
        raise too_large()
