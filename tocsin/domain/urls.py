"""URLs as they were given: parsed by RFC 3986, appendix B, and never re-quoted.

Path and query are sent byte for byte, escapes included; only what cannot be sent is percent-encoded, as UTF-8.
As in curl and in browsers, `.` and `..` are removed from paths, and fragments are not sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tocsin.domain import hosts
from tocsin.domain.hosts import Unreadable

PORTS = {"http": 80, "https": 443}
"""The ports that need not be named."""
MAX_LENGTH = 8_192
"""Characters of any URL, one that a redirect names included."""

_PARTS = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?", re.DOTALL)
_TRAVELS = re.compile(r"[!-~]*")
_CANNOT_TRAVEL = re.compile(r"[^!-~]+")
# Blanks and line ends of every kind, controls, overrides of direction, lone surrogates.
_NOT_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Url:
    """`host` is as `hosts.read` writes it, `port` is 0 where none is named, `target` is path and query, in ASCII."""

    scheme: str
    host: str
    port: int
    target: str
    has_login: bool = False
    """Whether it contains a user name or password. They are not kept."""

    @property
    def authority(self) -> str:
        """Host and port as a `Host` header has them."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{name}:{self.port}" if self.port and self.port != PORTS.get(self.scheme) else name

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def read(text: str) -> Url:
    """A whole URL that somebody gave, with scheme and host. Raises `Unreadable`."""
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"it is longer than {MAX_LENGTH:,} characters")
    if _NOT_IN_A_URL.search(text):
        raise Unreadable("it holds spaces or control characters")
    scheme, authority, path, query = _parts(text)
    if not scheme or authority is None:
        raise Unreadable("it does not begin with a scheme and a host, such as https://example.com")
    return _url(scheme, authority, path, query)


def follow(base: str, location: bytes) -> str:
    """Where a `Location` header's value leads from `base`, a URL (RFC 3986, 5.2). Raises `Unreadable`.

    Bytes outside ASCII are percent-encoded as they are, as browsers and curl do, whatever charset they were meant in.
    """
    if len(location) > MAX_LENGTH:
        raise Unreadable(f"it is longer than {MAX_LENGTH:,} bytes")
    scheme, authority, path, query = _parts(location.strip(b" \t").decode("utf-8", "surrogateescape"))
    if scheme and authority is None:
        raise Unreadable("it has a scheme but no host")
    if authority is not None:
        return str(_url(scheme or _parts(base)[0] or "", authority, path, query))
    start = read(base)
    base_path, mark, base_query = start.target.partition("?")
    if not path:
        path, query = base_path, query if query is not None else base_query if mark else None
    elif path[0] != "/":
        path = base_path[: base_path.rindex("/") + 1] + path
    return str(Url(start.scheme, start.host, start.port, _target(path, query)))


def _parts(text: str) -> tuple[str, str | None, str, str | None]:
    """Scheme in lower case (or ""), authority, path and query; None if even the delimiter is missing."""
    found = _PARTS.match(text)
    assert found
    scheme, authority, path, query = found.groups()
    return (scheme or "").lower(), authority, path, query


def _url(scheme: str, authority: str, path: str, query: str | None) -> Url:
    login, at, rest = authority.rpartition("@")
    end = (rest.rfind("]") + 1 or len(rest)) if rest.startswith("[") else rest.find(":")
    name, port = (rest, "") if end < 0 else (rest[:end], rest[end:])
    if port and not re.fullmatch(r":[0-9]*", port):
        raise Unreadable("its port is no number")
    number = int(port[1:].lstrip("0")[:6] or "0")
    if number > 65_535 or (port[1:] and not number):
        raise Unreadable("its port is not from 1 to 65535")
    return Url(scheme, hosts.read(name), number, _target(path, query), bool(at or login))


def _target(path: str, query: str | None) -> str:
    path = _without_dots(path) if path else "/"
    return _travelling(path if query is None else f"{path}?{query}")


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _travelling(text: str) -> str:
    if _TRAVELS.fullmatch(text):
        return text
    return _CANNOT_TRAVEL.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogateescape")), text
    )
