"""Where a URL leads, and how each request there starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tocsin.domain import urls
from tocsin.domain.hosts import Unreadable
from tocsin.domain.ttl_cache import TTLCache

MAX_REMEMBERED_LENGTH = 256
"""Maximum length of a URL whose parsed form is cached: with 4,096 of them, 4 MiB at the very most."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`host` is as `hosts.read` writes it; `start` is a request's first two lines."""

    host: str
    port: int
    tls: bool
    start: bytes

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(address: str, method: str = "POST") -> Endpoint:
    """The endpoint, and how requests by that method start. Raises `Unreadable` if it is no http or https URL."""
    known = _remembered.get((address, method))
    if known is not None:
        return known
    found = _read(address, method)
    if len(address) <= MAX_REMEMBERED_LENGTH and address.isascii():
        _remembered.put((address, method), found, time.monotonic())
    return found


def _read(address: str, method: str) -> Endpoint:
    url = urls.read(address)
    if url.scheme not in urls.PORTS:
        raise Unreadable("it does not begin with https:// or http://")
    start = f"{method} {url.target} HTTP/1.1\r\nHost: {url.authority}\r\n".encode("ascii")
    return Endpoint(url.host, url.port or urls.PORTS[url.scheme], url.scheme == "https", start)


_remembered: TTLCache[tuple[str, str], Endpoint] = TTLCache(4096, 60.0)
