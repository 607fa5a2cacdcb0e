"""A worker's only way out: it asks for a host and a port; we connect its socket to an address that the guard checked.

So what a worker reaches is decided here, whatever it resolves, is redirected to or asks for. What it encrypts, it
encrypts end to end: only bytes pass here, and no more than `MAX_BYTES` in each direction.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass

from tocsin.domain import hosts
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Blocked
from tocsin.transports.resolver import Unresolved

MAX_CONNECTIONS = 20
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a worker got no connection. `blocked`: the address may not be reached at all."""

    words: str
    blocked: bool = False


class WayOut:
    """The connections of one worker."""

    def __init__(self, dialer: Dialer) -> None:
        self.refusals: list[Refusal] = []
        self._dialer = dialer
        self._count = 0
        self._open: list[asyncio.BaseTransport] = []

    async def connect(self, ours: socket.socket, host: object, port: object) -> str | None:
        """Connect the worker's socket; the words for the worker if that fails. It has no time-out of its own."""
        refusal = await self._connect(ours, host, port)
        if refusal is None:
            return None
        ours.close()
        self.refusals.append(refusal)
        return refusal.words

    async def _connect(self, ours: socket.socket, host: object, port: object) -> Refusal | None:
        self._count += 1
        if self._count > MAX_CONNECTIONS:
            return Refusal(f"A notification may open at most {MAX_CONNECTIONS} connections")
        if not isinstance(host, str) or not isinstance(port, int) or not 0 < port < 65_536:
            return Refusal("This is no host and port", blocked=True)
        try:
            name = hosts.read(host)
        except hosts.Unreadable as error:
            return Refusal(f"The address cannot be used: {error}", blocked=True)
        try:
            far, far_end = await self._dialer.connect(End, name, port)
        except (OSError, Unresolved) as error:
            return _refusal(name, port, error)
        self._open.append(far)
        ours.setblocking(False)
        near, near_end = await asyncio.get_running_loop().create_unix_connection(End, sock=ours)
        self._open.append(near)
        far_end.join(near)
        near_end.join(far)
        return None

    def close(self) -> None:
        for transport in self._open:
            if isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "abort"):
                transport.abort()


class End(asyncio.Protocol):
    """One of the two ends of a connection: what it receives goes out at the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._other: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._passed = 0
        self._ended = False

    def join(self, other: asyncio.Transport) -> None:
        self._other = other
        for data in self._early:
            other.write(data)
        self._early.clear()
        if self._ended:
            other.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._passed += len(data)
        if self._passed > MAX_BYTES:
            self._abort()
        elif self._other is None:
            self._early.append(data)
        else:
            self._other.write(data)

    def eof_received(self) -> bool:
        if self._other is not None and self._other.can_write_eof():
            self._other.write_eof()
        self._ended = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        if self._other is not None:
            self._other.close()

    # The other end takes no more for a while: what comes here waits, so that memory stays bounded.

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and not self._other.is_closing():
            self._other.resume_reading()

    def _abort(self) -> None:
        for transport in (self._transport, self._other):
            if transport is not None:
                transport.abort()


def _refusal(host: str, port: int, error: Exception) -> Refusal:
    there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    match error:
        case Blocked():
            return Refusal(str(error), blocked=True)
        case Unresolved():
            return Refusal(str(error))
        case ConnectionRefusedError():
            return Refusal(f"Connection refused by {there}")
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
            return Refusal(f"No route to {there}")
    reason = errno.errorcode.get(getattr(error, "errno", None) or 0, type(error).__name__)
    return Refusal(f"No connection to {there} ({reason})")
