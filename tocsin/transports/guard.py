"""Which addresses a call on behalf of a project may reach: the public internet, and what the operator allows.

The rule is applied to the address that a connection is about to be opened to, after DNS, so a name that resolves
differently between check and use, or a host written in an unusual way, gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Sequence

from tocsin.domain import hosts
from tocsin.domain.errors import invalid_field
from tocsin.transports import interfaces, resolver
from tocsin.transports.internet import METADATA, Address, is_internet
from tocsin.transports.resolver import Unresolved

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOKUP_TIMEOUT = 1.0
"""Maximum seconds that a caller waits for a warning about a name."""

# Forms whose last 32 bits are the IPv4 address that packets go to: IPv4-mapped (RFC 4291), NAT64 (RFC 6052). Of the
# prefix for local use (RFC 8215) only its own network knows where in it the address is, so it is no such form.
_EMBEDDING = tuple(ipaddress.IPv6Network(cidr) for cidr in ("::ffff:0:0/96", "64:ff9b::/96"))

EVERYWHERE: tuple[Network, ...] = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"))
"""For addresses that the operator chose and no project can change."""


class Blocked(OSError):
    """An address that may not be reached. The text names it and says what the operator can do."""


class Guard:
    """Lets calls reach public unicast addresses that are not this machine's own, `allow_networks`, and nothing else.

    A cloud's metadata service is reached only if `allow_networks` names that very address, or everything.
    """

    def __init__(
        self, allow_networks: Sequence[Network] = (), own: Callable[[], Collection[Address]] = interfaces.addresses
    ) -> None:
        self._allowed = tuple(allow_networks)
        self._own = own

    def refusal(self, address: str | Address) -> str | None:
        """Why `address` (a literal) may not be reached, or None if it may."""
        given = _parse(address) if isinstance(address, str) else address
        if given is None:
            return f"{address} is not an address that can be reached"
        end = _unwrapped(given)
        if self._allows(given, end):
            return None
        what = "is not public"
        if is_internet(end):
            if end not in self._own() and given not in self._own():
                return None
            what = "is this machine's own"
        named = f"{given}" if given == end else f"{given} (which stands for {end})"
        return (
            f"The address {named} {what}; "
            f"the operator can allow it with TOCSIN_ALLOW_NETWORKS={end}/{end.max_prefixlen}"
        )

    def refusal_at_creation(self, host: str) -> str | None:
        """Why a host that a caller gives can never be valid, or None.

        Invalid hosts, and literals that mean this machine or this link: loopback, link-local, multicast, unspecified.
        Whether any other host can be reached is decided on connecting.
        """
        try:
            literal = _parse(hosts.read(host))
        except hosts.Unreadable as error:
            return str(error)
        end = literal and _unwrapped(literal)
        if literal is None or end is None or self._allows(literal, end):
            return None
        if end.is_loopback or end.is_link_local or end.is_multicast or end.is_unspecified:
            return self.refusal(literal)
        return None

    def check_given(self, host: str, field: str) -> None:
        """Refuse (422 on `field`) what `refusal_at_creation` refuses."""
        if refusal := self.refusal_at_creation(host):
            raise invalid_field(field, f"cannot be used: {refusal}")

    async def warning(self, host: str) -> str | None:
        """Why `host` cannot be reached at present; None if it can, or if finding out takes over a second.

        The text is ASCII, whatever the host was written in.
        """
        try:
            name = hosts.read(host)
        except hosts.Unreadable as error:
            return f"It cannot be reached: {error}"
        literal = _parse(name)
        if literal is not None:
            return self.refusal(literal)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                found = await resolver.shared().look_up(name)
        except Unresolved:
            return f"The name {name} is not found at present"
        except OSError:  # timed out, or this machine lacks the resources to look it up
            return None
        refusals = [self.refusal(str(info[4][0])) for info in found]
        return None if None in refusals else refusals[0]

    def _allows(self, given: Address, end: Address) -> bool:
        return any(
            (given in network or (end is not given and end in network))
            and (end not in METADATA or network.prefixlen in (0, network.max_prefixlen))
            for network in self._allowed
        )


def _unwrapped(address: Address) -> Address:
    """The address that packets go to if `address` is a transition form of another, else `address`."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.sixtofour:
        return address.sixtofour
    if any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _parse(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
