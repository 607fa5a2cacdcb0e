"""Decoding of compressed bodies, up to a limit.

gzip and deflate (RFC 9110, 8.4.1; "deflate" is zlib's format or, from some servers, bare deflate), br (RFC 7932).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

MAX_CODINGS = 4
MAX_MEMBERS = 64
"""The header of a gzip body (RFC 1952, 2.2)."""
_STEP = 64 << 10


class Undecodable(Exception):
    """The body's encoding cannot be decoded; the text says which and why."""


def codings(*headers: bytes) -> tuple[bytes, ...]:
    """What `Content-Encoding` headers name, outermost first."""
    named = [part.strip().lower() for value in headers for part in value.split(b",")]
    return tuple(name for name in reversed(named) if name not in (b"", b"identity"))


def decoded(body: bytes, named: Sequence[bytes], limit: int) -> tuple[bytes, bool]:
    """At most `limit` decoded bytes, and whether that is all. Raises `Undecodable`.

    Work and memory are bounded by `limit`, whatever the body would grow to. A body that is broken after a good start
    gives that start.
    """
    if len(named) > MAX_CODINGS:
        raise Undecodable(f"the body is packed {len(named)} times")
    whole = True
    for name in named:
        match name:
            case b"gzip" | b"x-gzip":
                body, ended = _gunzipped(body, limit)
            case b"deflate":
                body, ended = _inflated(zlib.decompressobj(15 if _is_zlib(body) else -15), body, limit)
            case b"br":
                body, ended = _unbrotlied(body, limit)
            case _:
                shown = name[:50].decode("latin-1")
                raise Undecodable(f"the body is packed as {shown!r}, which was not asked for and cannot be read")
        whole = whole and ended
    return body, whole


def _is_zlib(body: bytes) -> bool:
    """RFC 1950, 2.2."""
    return len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _gunzipped(body: bytes, limit: int) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(31)
        part, ended = _inflated(member, body, limit)
        parts.append(part)
        limit -= len(part)
        body = member.unused_data
        if not ended or not body.startswith(b"\x1f\x8b"):
            return b"".join(parts), ended
    return b"".join(parts), False


def _inflated(member: Any, body: bytes, limit: int) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while not member.eof and limit > 0:
        try:
            part = member.decompress(body, min(limit, _STEP))
        except zlib.error as error:
            if not parts:
                raise Undecodable("the body is not what its Content-Encoding says") from error
            break
        body = member.unconsumed_tail
        if not part and not body:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts), member.eof


def _unbrotlied(body: bytes, limit: int) -> tuple[bytes, bool]:
    import brotli  # seldom needed

    unpacking = brotli.Decompressor()
    parts: list[bytes] = []
    while limit > 0 and not unpacking.is_finished():
        try:
            part = unpacking.process(body, output_buffer_limit=min(limit, _STEP))
        except brotli.error as error:
            if not parts:
                raise Undecodable("the body is not what its Content-Encoding says") from error
            break
        body = b""
        if not part:
            break
        parts.append(part[:limit])
        limit -= len(part)
    return b"".join(parts), limit >= 0 and unpacking.is_finished()
