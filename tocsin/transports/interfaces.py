"""The addresses of this machine: what listens on all of them answers at a public one as it does on loopback."""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress

import psutil

from tocsin.transports.internet import Address

LOOKED_AT_EVERY = 60.0
"""Seconds after which the interfaces are looked at anew: addresses come and go."""
MOST = 4096
"""Addresses that are kept in mind."""

_known: frozenset[Address] = frozenset()
_looked_at = float("-inf")


def addresses() -> frozenset[Address]:
    """What this machine's interfaces had when they were last looked at, at most a minute ago."""
    global _known, _looked_at
    now = time.monotonic()
    if now - _looked_at >= LOOKED_AT_EVERY:
        _looked_at = now
        with suppress(OSError):  # not every container may ask
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
