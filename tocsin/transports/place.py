"""Where a URL leads, and how each request there starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tocsin.domain import urls
from tocsin.domain.hosts import Unreadable

LONGEST_REMEMBERED = 256
"""Characters of the addresses that are remembered taken apart: with 4,096 of them, 4 MiB at the very most."""


@dataclass(frozen=True, slots=True)
class Place:
    """`host` is as `hosts.read` writes it; `start` is a request's first two lines."""

    host: str
    port: int
    tls: bool
    start: bytes

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place(address: str, method: str = "POST") -> Place:
    """Where to, and how requests by that method start. Raises `Unreadable` for what is no http or https address."""
    if len(address) <= LONGEST_REMEMBERED and address.isascii():
        return _remembered(address, method)
    return _read(address, method)


def _read(address: str, method: str) -> Place:
    url = urls.read(address)
    if url.scheme not in urls.PORTS:
        raise Unreadable("it does not begin with https:// or http://")
    start = f"{method} {url.target} HTTP/1.1\r\nHost: {url.authority}\r\n".encode("ascii")
    return Place(url.host, url.port or urls.PORTS[url.scheme], url.scheme == "https", start)


_remembered = lru_cache(maxsize=4096)(_read)
