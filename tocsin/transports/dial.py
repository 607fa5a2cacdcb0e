"""Opening connections to hosts that projects supply: every address that a name resolves to is checked before use."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import aiohappyeyeballs

from tocsin.transports import resolver
from tocsin.transports.guard import Blocked, Guard
from tocsin.transports.resolver import AddrInfo, Resolve, Resolver, Unresolved

P = TypeVar("P", bound=asyncio.Protocol)

SECOND_ADDRESS_AFTER = 0.25
"""Seconds after which a name's next address is tried in parallel with the one that does not answer (RFC 8305)."""


@cache
def public_authorities() -> ssl.SSLContext:
    """Trusts the authorities that the system does. They take 20 to 80 ms to read: once, and not on an event loop."""
    return ssl.create_default_context()


@cache
def no_authorities() -> ssl.SSLContext:
    """Takes every certificate, whoever signed it and for whatever name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Dialer:
    """Opens connections, guarded, to hosts as `hosts.read` writes them."""

    def __init__(self, guard: Guard, tls: ssl.SSLContext | None = None, resolve: Resolve | None = None) -> None:
        self._guard = guard
        self._resolver = resolve and Resolver(resolve)
        self._tls = tls

    async def connect(
        self, protocol: Callable[[], P], host: str, port: int, *, tls: bool = False, verify: bool = True,
        ip_version: int | None = None,
    ) -> tuple[asyncio.Transport, P]:  # fmt: skip
        """A connection to the first address of `host` that answers.

        A trailing dot is for name servers alone: neither SNI nor the name in a certificate has one (RFC 6066, 3).
        Without `verify`, any certificate is taken; with `ip_version`, only addresses of IPv4 or IPv6 are used.
        Raises `Unresolved`, `Blocked`, `ssl.SSLError` or another `OSError`. It has no timeout of its own.
        """
        addresses = await self._allowed(host, port)
        if ip_version is not None:
            addresses = _of_version(addresses, host, ip_version)
        loop = asyncio.get_running_loop()
        if tls and verify:
            await self.authorities()
        context, name = None, None
        if tls:
            context, name = self._tls if verify else no_authorities(), host.removesuffix(".")
        if len(addresses) == 1:
            address, number = addresses[0][4][:2]
            return await loop.create_connection(protocol, address, number, ssl=context, server_hostname=name)
        opened = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER)
        try:
            return await loop.create_connection(protocol, sock=opened, ssl=context, server_hostname=name)
        except BaseException:
            opened.close()
            raise

    async def authorities(self) -> ssl.SSLContext:
        """Trusts those whom our connections trust."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(public_authorities)
        return self._tls

    async def addresses(self, host: str, port: int, ip_version: int | None = None) -> list[AddrInfo]:
        """The addresses of `host` that may be reached, for protocols without connections. Raises as `connect` does."""
        found = await self._allowed(host, port)
        return found if ip_version is None else _of_version(found, host, ip_version)

    async def open(self, host: str, port: int) -> socket.socket:
        """A connected socket, for protocols that want one. Raises as `connect` does, and has no timeout either."""
        addresses = await self._allowed(host, port)
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER)

    async def _allowed(self, host: str, port: int) -> list[AddrInfo]:
        addresses = _literal(host, port) or [
            (family, kind, proto, canonical, (to[0], port, *to[2:]))
            for family, kind, proto, canonical, to in await (self._resolver or resolver.shared()).look_up(host)
        ]
        refusals = [self._guard.refusal(address[4][0]) for address in addresses]
        allowed = [address for address, refusal in zip(addresses, refusals, strict=True) if refusal is None]
        if not allowed:
            raise Blocked(refusals[0] or "")
        return allowed


def _of_version(addresses: list[AddrInfo], host: str, version: int) -> list[AddrInfo]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    found = [each for each in addresses if each[0] == family]
    if not found:
        raise Unresolved(f"Could not resolve {host}: it has no address of IPv{version}, only of IPv{10 - version}")
    return found


def _literal(host: str, port: int) -> list[AddrInfo] | None:
    if ":" not in host and not host[-1:].isdecimal():
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
