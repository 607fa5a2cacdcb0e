"""Checks of a request's head, beyond the parser's, so that no proxy can interpret it differently (request smuggling).

Source: RFC 9110 and RFC 9112, by section. The parser (llhttp, strict) refuses the rest: bad lengths, lengths with
chunks, folded lines, blanks before a colon, control characters, bare line ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools

from tocsin.domain.errors import Refused

Header = tuple[bytes, bytes]

HOST = re.compile(rb"[!$%&'()*+,.:;=\[\]_~\w-]*", re.ASCII)
VERSIONS = ("1.1", "1.0")
OF_AN_UPGRADE = (b"connection", b"upgrade", b"http2-settings")


def unreadable(why: str) -> Refused:
    return Refused(400, "invalid_request", f"The request cannot be read: {why}")


def malformed() -> Refused:
    return unreadable("it is not HTTP/1.1 by RFC 9112")


def too_long() -> Refused:
    return Refused(431, "head_too_large", "The head of the request is too long, or has too many headers")


def no_room() -> Refused:
    return Refused(503, "unavailable", "Too many connections; try again in a moment", headers={"Retry-After": "2"})


def size(method: bytes, target: bytes, headers: Sequence[Header]) -> int:
    """The bytes of a head, as it is usually written."""
    return len(method) + len(target) + 14 + sum(len(name) + len(value) + 4 for name, value in headers)


def check(version: str, headers: Sequence[Header]) -> None:
    """Raises `Refused` for an ambiguous or invalid head. The names of headers are in lower case."""
    names = [name for name, _ in headers]
    if version not in VERSIONS:
        raise unreadable(f"HTTP/{version} is not supported; use HTTP/1.1")
    hosts = names.count(b"host")
    if hosts != 1 and (hosts or version == "1.1"):  # RFC 9112, 3.2
        raise unreadable(f"it must have one Host header, not {hosts}")
    if hosts and HOST.fullmatch(headers[names.index(b"host")][1]) is None:
        raise unreadable("its Host header is not the name of a host")
    if b"transfer-encoding" in names:
        if version == "1.0":  # RFC 9112, 6.1
            raise unreadable("HTTP/1.0 has no Transfer-Encoding")
        codings = b",".join(value.lower() for name, value in headers if name == b"transfer-encoding")
        *others, last = (each.strip() for each in codings.split(b","))
        if last != b"chunked":  # RFC 9112, 6.3
            raise unreadable("the end of its body is undefined")
        if others:
            raise Refused(501, "not_implemented", "The only supported Transfer-Encoding is chunked")


def origin_form(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """The path and query of a target that does not begin with a slash; `headers` get the host that it names.

    Raises `Refused` for a request to a proxy (RFC 9112, 3.2.2 to 3.2.4).
    """
    if target == b"*" and method == b"OPTIONS":
        return b"/"
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserError:
        raise malformed() from None
    if url.schema is None or url.schema.lower() not in (b"http", b"https") or not url.host:
        raise malformed()
    names = [name for name, _ in headers]
    if b"host" in names:
        host = b"[%b]" % url.host if b":" in url.host else url.host
        headers[names.index(b"host")] = b"host", host if url.port is None else b"%b:%d" % (host, url.port)
    return (url.path or b"/") + (b"?" + url.query if url.query is not None else b"")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Sequence[Header]) -> bytes:
    """The same head, without the upgrade and with `Connection: close`: a server may ignore an `Upgrade` (RFC 9110,
    7.8), and what follows a head that has one may be meant in another protocol.

    Raises `Refused` for CONNECT, which the parser takes for an upgrade too.
    """
    if method == b"CONNECT":
        raise Refused(501, "not_implemented", "This server is no proxy")
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] not in OF_AN_UPGRADE]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])
