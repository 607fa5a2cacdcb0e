"""Opening connections to hosts that projects supply: every address that a name stands for is judged before use."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiohappyeyeballs

from tocsin.transports.guard import Blocked, Guard

P = TypeVar("P", bound=asyncio.Protocol)
AddrInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

Resolve = Callable[..., Sequence[tuple[int, int, int, str, Any]]]
"""How a name becomes addresses: `socket.getaddrinfo`, or what stands in for it."""

SECOND_ADDRESS_AFTER = 0.25
"""Seconds after which a name's next address is tried beside the one that does not answer (RFC 8305)."""


class Unresolved(Exception):
    """A name that has no address, in words."""


class Dialer:
    """Opens connections, guarded. One for a process: it remembers the look-ups that are under way."""

    def __init__(self, guard: Guard, tls: ssl.SSLContext | None = None, resolve: Resolve = socket.getaddrinfo) -> None:
        self._guard = guard
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._lookups: dict[tuple[str, int], asyncio.Future[list[AddrInfo]]] = {}

    async def connect(
        self, protocol: Callable[[], P], host: str, port: int, *, tls: bool = False
    ) -> tuple[asyncio.Transport, P]:
        """A connection to the first address of `host` that answers.

        Raises `Unresolved`, `Blocked`, `ssl.SSLError` or another `OSError`. It has no time-out of its own.
        """
        addresses = await self._allowed(host, port)
        loop = asyncio.get_running_loop()
        context, name = (self._tls, host) if tls else (None, None)
        if len(addresses) == 1:
            address, number = addresses[0][4][:2]
            return await loop.create_connection(protocol, address, number, ssl=context, server_hostname=name)
        opened = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER)
        try:
            return await loop.create_connection(protocol, sock=opened, ssl=context, server_hostname=name)
        except BaseException:
            opened.close()
            raise

    async def open(self, host: str, port: int) -> socket.socket:
        """A connected socket, for protocols that want one. Raises as `connect` does, and has no time-out either."""
        addresses = await self._allowed(host, port)
        return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER)

    async def _allowed(self, host: str, port: int) -> list[AddrInfo]:
        addresses = _literal(host, port) or await self._look_up(host, port)
        refusals = [self._guard.refusal(address[4][0]) for address in addresses]
        allowed = [address for address, refusal in zip(addresses, refusals, strict=True) if refusal is None]
        if not allowed:
            raise Blocked(refusals[0] or "")
        return allowed

    async def _look_up(self, host: str, port: int) -> list[AddrInfo]:
        """The addresses of a name. Callers who ask for the same name at the same time share one look-up.

        Each has a thread of its own, which nobody waits for at the end: the resolver cannot be interrupted, and in a
        shared pool a few names whose servers are silent would keep all others waiting.
        """
        asked = host, port
        answer = self._lookups.get(asked)
        if answer is None:
            answer = self._lookups[asked] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(lambda done: (self._lookups.pop(asked, None), done.exception()))
            threading.Thread(
                target=_resolve,
                args=(self._resolve, host, port, asyncio.get_running_loop(), answer),
                name="look-up",
                daemon=True,
            ).start()
        return await asyncio.shield(answer)


def _literal(host: str, port: int) -> list[AddrInfo] | None:
    if ":" not in host and not host[-1:].isdecimal():
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]


def _resolve(
    resolve: Resolve, host: str, port: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[AddrInfo]]
) -> None:
    try:
        found = resolve(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a valid name"
        outcome = Unresolved(f"Could not resolve {host}: {reason}")

        def tell() -> None:
            if not answer.done():
                answer.set_exception(outcome)
    else:

        def tell() -> None:
            if not answer.done():
                answer.set_result(list(found))

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(tell)
