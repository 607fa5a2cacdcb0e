"""The addresses of this machine: a service that listens on all of them is reachable at a public one as on loopback."""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress

import psutil

from tocsin.transports.internet import Address

LOOKED_AT_EVERY = 60.0
"""Seconds for which the interfaces' addresses are cached: addresses come and go."""
MOST = 4096
"""Maximum addresses that are cached."""

_known: frozenset[Address] = frozenset()
_looked_at = float("-inf")


def addresses() -> frozenset[Address]:
    """The addresses of this machine's interfaces, at most a minute old."""
    global _known, _looked_at
    now = time.monotonic()
    if now - _looked_at >= LOOKED_AT_EVERY:
        _looked_at = now
        with suppress(OSError):  # not every container is allowed to
            _known = _look()
    return _known


def _look() -> frozenset[Address]:
    found: set[Address] = set()
    for interface in psutil.net_if_addrs().values():
        for each in interface:
            try:
                found.add(ipaddress.ip_address(each.address.partition("%")[0]))
            except ValueError:  # the address of a network card
                continue
            if len(found) >= MOST:
                return frozenset(found)
    return frozenset(found)
