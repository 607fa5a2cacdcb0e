"""Installations of Tocsin that watch each other: each is known to the other by its address."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

from tocsin.domain import urls
from tocsin.domain.heartbeats import MAX_SLUG_LENGTH, slug_of

DIGEST = 10
"""Hexadecimal digits in a slug: what is left of an address in it may be the same for two."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The installation at `url`, which has no slash at its end."""

    url: str
    local: bool
    """Whether only programs on its own machine can reach it there."""

    @property
    def name(self) -> str:
        """The name of its heartbeat at those who watch it."""
        return f"Tocsin at {self.url.removeprefix('https://')}"

    @property
    def slug(self) -> str:
        """The slug of its heartbeat, which no other installation has: it is known by that, whatever its name."""
        readable = slug_of(self.name) or ""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:DIGEST]
        return f"{readable[: MAX_SLUG_LENGTH - DIGEST - 1].strip('-')}-{digest}"


def at(text: str) -> Installation:
    """The installation at that address. Raises `ValueError` for one that can be none's."""
    read = urls.read(text)
    if read.scheme not in urls.PORTS or read.has_login or "?" in text or "#" in text:
        raise ValueError("it is more than a scheme, a host and a path")
    return Installation(str(read).rstrip("/"), _is_local(read.host))


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return f".{host.rstrip('.')}".endswith(".localhost")
