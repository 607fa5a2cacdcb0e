"""Which addresses a call on behalf of a project may reach: the public internet, and what the operator allows.

The rule is applied to the address that a connection is about to be opened to, after DNS, so a name that changes its
mind between check and use, or a host written in an unusual way, gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from tocsin.domain.errors import invalid_field

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOKUP_TIMEOUT = 1.0
"""Seconds that a caller waits at most for a warning about a name."""

# RFC 4291 section 2.4 and the IANA registry: all IPv6 unicast that is assigned for global use.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
# Forms that carry an IPv4 address in their last 32 bits: IPv4-compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215).
_EMBEDDING = tuple(ipaddress.IPv6Network(cidr) for cidr in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48"))
# Not for use on the internet, although Python 3.11 calls them global: 6to4 relays (RFC 7526), documentation (RFC 9637).
_NOT_PUBLIC = tuple(ipaddress.ip_network(cidr) for cidr in ("192.88.99.0/24", "3fff::/20"))


EVERYWHERE: tuple[Network, ...] = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"))
"""For addresses that the operator chose and no project can change."""


class Blocked(OSError):
    """An address that may not be reached. The text names it and says what the operator can do."""


class Guard:
    """Lets calls reach public unicast addresses and `allow_networks`, nothing else."""

    def __init__(self, allow_networks: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allow_networks)

    def refusal(self, address: str | Address) -> str | None:
        """Why `address` (a literal) may not be reached, or None where it may."""
        given = _parse(address) if isinstance(address, str) else address
        if given is None:
            return f"{address} is not an address that can be reached"
        end = _unwrapped(given)
        if self._allows(given) or self._allows(end) or _is_public(end):
            return None
        named = f"{given}" if given == end else f"{given} (which stands for {end})"
        return (
            f"The address {named} is not public; "
            f"the operator can allow it with TOCSIN_ALLOW_NETWORKS={end}/{end.max_prefixlen}"
        )

    def refusal_at_creation(self, host: str) -> str | None:
        """Why a host that a caller gives can never be right, or None.

        Only literals that mean this machine or this wire: loopback, link-local, multicast, unspecified. Whether any
        other host can be reached is decided when it is called.
        """
        literal = _literal(host)
        if literal is None or self._allows(literal) or self._allows(_unwrapped(literal)):
            return None
        end = _unwrapped(literal)
        if end.is_loopback or end.is_link_local or end.is_multicast or end.is_unspecified:
            return self.refusal(literal)
        return None

    def check_given(self, host: str, field: str) -> None:
        """Refuse (422 on `field`) what `refusal_at_creation` refuses."""
        if refusal := self.refusal_at_creation(host):
            raise invalid_field(field, f"cannot be used: {refusal}")

    async def warning(self, host: str) -> str | None:
        """Why `host` cannot be reached at present, or None where it can, or where finding out takes over a second."""
        literal = _literal(host)
        if literal is not None:
            return self.refusal(literal)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except TimeoutError:
            return None
        except (OSError, UnicodeError):
            return f"The name {host} is not found at present"
        refusals = [self.refusal(str(info[4][0])) for info in found]
        return None if None in refusals else refusals[0]

    def _allows(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._allowed)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return False
    if any(address.version == network.version and address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast


def _unwrapped(address: Address) -> Address:
    """The address that packets end at where `address` is a transition form of another, else `address`."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        server, client = address.teredo
        return client if _is_public(server) else server
    # Below 1:0 lie the unspecified address and loopback, which are themselves.
    if int(address) >= 1 << 16 and any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _parse(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _literal(host: str) -> Address | None:
    """The address that `host` is a way of writing, `2130706433` and `0x7f.1` included, or None for a name."""
    bare = host.strip("[]").rstrip(".")
    if address := _parse(bare):
        return address
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare)) if bare and " " not in bare else None
    except (OSError, UnicodeError, ValueError):
        return None
