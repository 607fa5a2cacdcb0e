"""Where a request comes from: the network that rate limits count by, seen through trusted proxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NOWHERE = "nowhere"
"""The network of a client without an address, as over a Unix socket."""
ONE_CUSTOMER = 64
"""Bits of an IPv6 address that a provider gives to one customer, who may use all of the others (RFC 6177)."""
MAX_ENTRY_LENGTH = 64
MAX_PROXIES = 20
PASSED_ON = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
"""Headers of which a proxy sends one at least."""


def network_of(scope: Mapping[str, Any], trusted: Sequence[Network]) -> str:
    """The network of the client of an ASGI request."""
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return network((scope.get("client") or (None,))[0], forwarded, trusted)


def network(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's network: an IPv4 address, or the /64 of an IPv6 one.

    `peer` is the other end of the connection, `forwarded` are the values of `X-Forwarded-For` in their order. Only
    what a trusted proxy wrote is believed: from the right, the first address that is no trusted proxy's counts. Where
    an entry is no address, the proxy that passed it on counts.
    """
    found = _address(peer or "")
    if found is None:
        return NOWHERE
    entries = ",".join(forwarded).rsplit(",", MAX_PROXIES) if forwarded else []
    while _is_of(found, trusted) and entries:
        before = _address(entries.pop())
        if before is None:
            break
        found = before
    return str(found) if found.version == 4 else str(ip_network((int(found), ONE_CUSTOMER), strict=False))


def is_local(scope: Mapping[str, Any], public_url: str | None) -> bool:
    """Whether an ASGI request was made on this machine, as far as can be told: from loopback, to a name of loopback, by
    somebody who passes on nobody else's.

    A proxy on this machine need not say that it is one: nginx sends none of `PASSED_ON` by itself, and has the Host
    replaced. So nobody is local where `public_url`, as set by the operator, says that others come from elsewhere.
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return (
        (public_url is None or _is_loopback(urlsplit(public_url).netloc))
        and _is_loopback((scope.get("client") or ("",))[0])
        and len(hosts) == 1 and _is_loopback(hosts[0])
        and not any(name in PASSED_ON for name, _ in scope["headers"])
    )  # fmt: skip


def _is_loopback(place: str) -> bool:
    """Whether an address or name, with or without a port, leads to this machine itself."""
    found = _address(place)
    return place.partition(":")[0].lower() == "localhost" if found is None else found.is_loopback


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether the other end of a connection is a trusted proxy."""
    found = _address(peer)
    return found is not None and _is_of(found, trusted)


def _is_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == each.version and address in each for each in networks)


def _address(text: str) -> Address | None:
    """An address with or without a port, as proxies write it; one of IPv4 within IPv6 is that of IPv4."""
    text = text.strip()
    if len(text) > MAX_ENTRY_LENGTH:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return found
    return found.ipv4_mapped or IPv6Address(int(found))
