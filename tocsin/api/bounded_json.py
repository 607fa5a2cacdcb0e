"""From the bytes of a body to plain values: JSON (RFC 8259) whose extent is checked before it is decoded.

The cost of a body is then bounded by its size: no depth, repetition or length of a number makes it expensive.
"""

from __future__ import annotations

import re
from array import array
from contextlib import suppress
from itertools import accumulate
from math import isinf

import msgspec

from tocsin.domain.errors import Refused, invalid, too_large

DEPTH = 64
MAX_VALUES, MAX_CONTAINERS = 65_536, 16_384
"""Maximum values in one body, and lists and objects among them: 1 MiB of an agent's samples has as many."""
MAX_STRINGS, MAX_ESCAPES = 2 * MAX_VALUES, 3 * MAX_VALUES
LONG = 65_536
"""Size from which a body is checked for expensive numbers and strings."""
MAX_LONG_RUNS, MAX_FRACTIONS, MAX_POWERS = 8_192, 16_384, 8_192
"""Limits for a long body: runs of 20 digits, dots and exponents, and negative exponents. An integer takes time by the
square of its length, a fraction up to a microsecond.
"""
MAX_NAMED = 8_192
"""Maximum values for which a fault is reported with its path."""

INT64 = range(-(2**63), 2**63)

COMPRESSED = "The body is compressed; send it as plain JSON, without Content-Encoding"
NUL, BEYOND = "must not contain a NUL character", "is a number beyond 64 bits"

_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and deflate begin (RFC 1952, RFC 8878, RFC 1950); no JSON does."""
_TO_ZERO = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_RUN, _TOO_LONG_RUN = b"0" * 20, b"0" * 4_301
_LONG_INTEGER = b"0" * 19
_TOO_LONG = re.compile(rb"(?<![0-9])[0-9]{4301,}+")
"""Integers that the interpreter does not parse (`sys.get_int_max_str_digits`)."""
_HALF = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""A lone surrogate, which JSON's grammar allows but which is no character."""
_SHORT = 4096
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b'"[{]},'))
_decoder = msgspec.json.Decoder(float_hook=float)
"""Fractions are parsed by the interpreter: the decoder takes up to 17 µs for one such as `9e295`."""
_skipper = msgspec.json.Decoder(msgspec.Raw)


def parse(body: bytes, *, loose: bool = False) -> object:
    """Decode a body whose extent was checked.

    Raises `Refused`: 413 for too many expensive numbers, 400 for what is not JSON, 422 for a lone surrogate (in a
    long body, 400). Numbers out of range are infinite. `loose` replaces lone surrogates by U+FFFD.
    """
    if len(body) > LONG:
        _check_expensive(body)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return _decoder.decode(body)
    mended, halves = _mended(body)
    try:
        value = _decoder.decode(mended)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise no_json(body) from None
    if halves and not loose:
        raise invalid("The body has a lone surrogate in a string, which is not a character")
    return value


def _mended(body: bytes) -> tuple[bytes, bool]:
    """The body without values that JSON allows but that cannot be stored, and whether it may have lone surrogates."""
    if _TOO_LONG_RUN in body.translate(_TO_ZERO):
        body = _TOO_LONG.sub(b"1e999", body)
    if len(body) > LONG or (rb"\ud" not in body and rb"\uD" not in body):
        return body, False
    mended, halves = _HALF.subn(rb"\\ufffd", body)
    return mended, bool(halves)


def is_json(body: bytes) -> bool:
    """Whether it is one whole JSON value in UTF-8, without decoding it; `check_extent` has let it pass."""
    try:
        _skipper.decode(body)
        if len(body) <= LONG:  # a longer one was seen to be UTF-8 there
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def says_nul(body: bytes) -> bool:
    """Whether a string in it may contain a NUL."""
    return b"\\" in body and rb"\u0000" in body


def may_fault(body: bytes) -> bool:
    """Whether a value in it may be one that `fault`, which takes as long as decoding, finds."""
    if says_nul(body):
        return True
    shape = body.translate(_TO_ZERO)
    return _LONG_INTEGER in shape or b"0e" in shape


def fault(value: object) -> tuple[str, str] | None:
    """Path and problem of the first leaf that the database cannot store: NUL in text, numbers beyond 64 bits."""
    pile, problem = [value], None
    for each in pile:  # which grows meanwhile
        kind = type(each)
        if kind is str:
            if "\0" in each:  # type: ignore[operator]
                problem = NUL
                break
        elif kind is dict:
            pile += each  # type: ignore[arg-type]
            pile += each.values()  # type: ignore[attr-defined]
        elif kind is list:
            pile += each  # type: ignore[arg-type]
        elif problem := _problem(each):
            break
    if problem is None:
        return None
    return ("", problem) if len(pile) > MAX_NAMED else _place(value)


def _problem(leaf: object) -> str | None:
    if isinstance(leaf, str):
        return NUL if "\0" in leaf else None
    if isinstance(leaf, int):
        return BEYOND if leaf not in INT64 else None
    return BEYOND if isinstance(leaf, float) and isinf(leaf) else None


def _place(value: object) -> tuple[str, str] | None:
    """Recursive, because nothing here is deeper than `DEPTH`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if "\0" in name:
                return "", NUL
            if found := _place(inner):
                return f".{name}{found[0]}", found[1]
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if found := _place(inner):
                return f"[{index}]{found[0]}", found[1]
    elif problem := _problem(value):
        return "", problem
    return None


def no_json(body: bytes = b"") -> Refused:
    """400: the body is not readable JSON."""
    message = COMPRESSED if body.startswith(_COMPRESSED) else "The body is not valid JSON in UTF-8"
    return Refused(400, "invalid_request", message)


def check_extent(body: bytes) -> None:
    """Refuse what is too deep or has too many values, at the speed of `memchr`. Raises `Refused` (413, 400)."""
    if len(body) < _SHORT and body.count(b"[") + body.count(b"{") <= DEPTH:
        return
    if len(body) > LONG:
        try:
            body.decode()
        except UnicodeDecodeError:
            raise no_json(body) from None
    escapes = body.count(b"\\")
    if escapes > MAX_ESCAPES:
        raise too_large()
    whole = body.replace(rb"\\", b"").replace(rb"\"", b"") if escapes else body
    marks = whole.translate(None, _OTHERS)
    if marks.count(b'"') > 2 * MAX_STRINGS:
        raise too_large()
    # Two quotes side by side do not change what is inside a string.
    outside = b"".join(marks.replace(b'""', b"").split(b'"')[::2])
    containers = outside.count(b"[") + outside.count(b"{")
    too_many = containers > MAX_CONTAINERS or containers + outside.count(b",") > MAX_VALUES
    steps = array("b", (outside[:_SHORT] if too_many else outside).translate(_STEPS, b'",'))
    if max(accumulate(steps), default=0) > DEPTH:
        raise Refused(400, "invalid_request", f"The body is nested too deeply: at most {DEPTH} levels are allowed")
    if too_many:
        raise too_large()


def _check_expensive(body: bytes) -> None:
    """Refuse what has too many numbers that are slow to parse. Raises `Refused` (413)."""
    shape = body.translate(_TO_ZERO)
    if (
        shape.count(_LONG_RUN) > MAX_LONG_RUNS
        or body.count(b".") + shape.count(b"0e") > MAX_FRACTIONS
        or body.count(b"e-") + body.count(b"E-") > MAX_POWERS
    ):
        raise too_large()
