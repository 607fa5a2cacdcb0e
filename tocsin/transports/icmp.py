"""Echo requests (RFC 792, RFC 4443): one socket for each family and event loop, shared by all pings that are under way.

An answer counts if it comes from the address that was asked, with the sequence number of a packet that is out, and
with that packet's nonce: neither another program's answers, nor late, repeated or guessed ones are taken for it.

Datagram sockets need no privilege where the system lets this process's group ping (icmp(7), `ping_group_range`); raw
ones need CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import socket
import struct
import sys
from collections.abc import Iterator
from time import monotonic, time_ns

from tocsin.transports.resolver import AddrInfo

HOW_TO_ALLOW = (
    'run as root: sysctl -w net.ipv4.ping_group_range="0 2147483647" (and keep it in /etc/sysctl.d), '
    "or give the engine CAP_NET_RAW"
)

NONCE, SIZE = 16, 56
"""Bytes of a packet's nonce, and of its data in all: as many as `ping` sends."""
LONGEST = 2_048
"""Bytes of a packet that are read. An answer is as long as its question."""
AT_ONCE = 64
"""Packets that are sent before answers are read, so that the socket's buffer cannot overflow meanwhile."""
BUFFER = 4 << 20
"""Bytes that the socket may hold, as far as the system allows."""

_PROTOCOLS: dict[int, int] = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.getprotobyname("ipv6-icmp")}
_REQUEST: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ANSWER: dict[int, int] = {socket.AF_INET: 0, socket.AF_INET6: 129}
_ERRORS: dict[int, frozenset[int]] = {socket.AF_INET: frozenset((3, 11, 12)), socket.AF_INET6: frozenset((1, 2, 3, 4))}
_HEADER = struct.Struct("!BBHHH")

# Linux, asm-generic/socket.h, linux/in.h, linux/in6.h, linux/icmp.h, linux/errqueue.h: not in Python's `socket`.
_TIMESTAMP = 35
_RECEIVE_ERRORS: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}  # fmt: skip
_ERROR_QUEUE = 0x2000
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_TIME = struct.Struct("@qq")

_WORDS: dict[tuple[int, int, int], str] = {
    (socket.AF_INET, 3, 0): "network unreachable", (socket.AF_INET, 3, 1): "host unreachable",
    (socket.AF_INET, 3, 2): "protocol unreachable", (socket.AF_INET, 3, 9): "network prohibited",
    (socket.AF_INET, 3, 10): "host prohibited", (socket.AF_INET, 3, 13): "filtered by a firewall",
    (socket.AF_INET6, 1, 0): "no route", (socket.AF_INET6, 1, 1): "filtered by a firewall",
    (socket.AF_INET6, 1, 3): "address unreachable", (socket.AF_INET6, 1, 5): "filtered by a firewall",
    (socket.AF_INET6, 1, 6): "the route rejects it",
}  # fmt: skip


class CannotSend(OSError):
    """A packet cannot leave this machine. The text says why."""


class NotAllowed(CannotSend):
    """This system does not let this process ping. The text says how to get it."""


class Echo:
    """A packet that is out. `answer` becomes the seconds that its answer took, or why it was not delivered."""

    __slots__ = ("answer", "at", "nonce", "peer", "sequence", "wall")

    def __init__(self, peer: bytes, sequence: int, answer: asyncio.Future[float | str]) -> None:
        self.peer = peer
        self.sequence = sequence
        self.nonce = secrets.token_bytes(NONCE)
        self.answer = answer
        self.at, self.wall = monotonic(), time_ns()


class Wire:
    """The socket of one family and event loop, and the packets of it that are out."""

    def __init__(self, family: int, loop: asyncio.AbstractEventLoop) -> None:
        self._family = family
        self._loop = loop
        self._socket, self._raw = _open(family)
        self._identifier = secrets.randbelow(1 << 16)  # of a raw socket; the system gives a datagram socket its own
        self._out: dict[int, Echo] = {}
        self._last = secrets.randbelow(1 << 16)
        self._unread = 0
        self.users = 0
        loop.add_reader(self._socket, self.read)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()

    def send(self, address: AddrInfo) -> Echo:
        """Send one packet. Raises `OSError` where this machine cannot: no route, a rule against it, no memory."""
        if len(self._out) > 0xFFFF // 2:
            raise OSError(errno.ENOBUFS, "Too many pings are under way")
        self._last = (self._last + 1) & 0xFFFF
        while self._last in self._out:
            self._last = (self._last + 1) & 0xFFFF
        if self._unread >= AT_ONCE:
            self.read()
        to = address[4]
        echo = Echo(socket.inet_pton(self._family, to[0]), self._last, self._loop.create_future())
        packet = self._packet(echo)
        self._out[echo.sequence] = echo
        self._unread += 1
        try:
            try:
                self._socket.sendto(packet, to)
            except OSError:  # perhaps it is the error of an earlier packet, which a socket tells whoever sends next
                self._read_errors()
                self._socket.sendto(packet, to)
        except OSError as error:
            self.forget(echo)
            if error.errno == errno.EINVAL:
                raise CannotSend("No packet can be sent there: the route discards it") from None
            raise
        return echo

    def forget(self, echo: Echo) -> None:
        """Whatever answers from now on is too late."""
        if self._out.get(echo.sequence) is echo:
            del self._out[echo.sequence]
        echo.answer.cancel()

    def read(self) -> None:
        """Read what has arrived."""
        self._unread = 0
        for _ in range(4 * AT_ONCE):
            try:
                data, extra, _, (peer, *_) = self._socket.recvmsg(LONGEST, 64)
            except BlockingIOError:
                break
            except OSError:
                self._read_errors()
                continue
            self._arrived(data, extra, socket.inet_pton(self._family, peer.partition("%")[0]))
        self._read_errors()

    def _packet(self, echo: Echo) -> bytes:
        kind, data = _REQUEST[self._family], echo.nonce + bytes(SIZE - NONCE)
        checksum = 0
        if self._raw and self._family == socket.AF_INET:  # the system does it for all others
            checksum = _checksum(_HEADER.pack(kind, 0, 0, self._identifier, echo.sequence) + data)
        return _HEADER.pack(kind, 0, checksum, self._identifier, echo.sequence) + data

    def _arrived(self, data: bytes, extra: list[tuple[int, int, bytes]], peer: bytes) -> None:
        if self._raw and self._family == socket.AF_INET:
            data = _without_ip(data)
        if len(data) < _HEADER.size:
            return
        kind, code, _, identifier, sequence = _HEADER.unpack_from(data)
        if kind in _ERRORS[self._family]:
            self._undelivered(kind, code, peer, _quoted(self._family, data[_HEADER.size :]))
            return
        echo = self._out.get(sequence)
        if (
            echo is None or kind != _ANSWER[self._family] or peer != echo.peer
            or (self._raw and identifier != self._identifier)
            or data[_HEADER.size : _HEADER.size + NONCE] != echo.nonce
        ):  # fmt: skip
            return
        del self._out[sequence]
        if not echo.answer.done():
            echo.answer.set_result(_took(echo, extra))

    def _undelivered(self, kind: int, code: int, by: bytes, quoted: tuple[bytes, bytes] | None) -> None:
        """An error message about a packet: it quotes its beginning."""
        if quoted is None or len(quoted[1]) < _HEADER.size:
            return
        _, _, _, identifier, sequence = _HEADER.unpack_from(quoted[1])
        echo = self._out.get(sequence)
        if echo is None or echo.peer != quoted[0] or (self._raw and identifier != self._identifier):
            return
        del self._out[sequence]
        if not echo.answer.done():
            why = _WORDS.get((self._family, kind, code), f"ICMP type {kind}, code {code}")
            echo.answer.set_result(f"{why}, says {ipaddress.ip_address(by)}")

    def _read_errors(self) -> None:
        """Of a datagram socket: the system keeps error messages apart from answers (ip(7), IP_RECVERR)."""
        if self._raw or not sys.platform.startswith("linux"):
            return
        for _ in range(4 * AT_ONCE):
            try:
                data, extra, _, to = self._socket.recvmsg(LONGEST, 512, _ERROR_QUEUE)
            except OSError:
                return
            for level, name, value in extra:
                if (level, name) != _RECEIVE_ERRORS[self._family]:
                    continue
                _, origin, kind, code, *_ = _EXTENDED_ERROR.unpack_from(value)
                by = _address_in(self._family, value[_EXTENDED_ERROR.size :])
                if origin in (2, 3) and by is not None and to:
                    quoted = socket.inet_pton(self._family, to[0].partition("%")[0]), data
                    self._undelivered(kind, code, by, quoted)


_wires: dict[int, Wire] = {}


@contextlib.contextmanager
def opened(family: int) -> Iterator[Wire]:
    """The running event loop's socket of that family, closed when its last user leaves. Raises `NotAllowed`."""
    loop = asyncio.get_running_loop()
    wire = _wires.get(family)
    if wire is None or wire.loop is not loop:
        wire = _wires[family] = Wire(family, loop)
    wire.users += 1
    try:
        yield wire
    finally:
        wire.users -= 1
        if not wire.users:
            if _wires.get(family) is wire:
                del _wires[family]
            wire.close()


def way() -> str:
    """By which kind of socket this process pings: `datagram` or `raw`. Raises `NotAllowed`."""
    opened_, raw = _open(socket.AF_INET)
    opened_.close()
    return "raw" if raw else "datagram"


def refusal() -> str | None:
    """Why this process cannot ping, and how to get it; None if it can."""
    try:
        way()
    except NotAllowed as error:
        return str(error)
    return None


def _open(family: int) -> tuple[socket.socket, bool]:
    """A socket, and whether it is a raw one."""
    protocol = _PROTOCOLS[family]
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT, errno.EPROTOTYPE):
                continue
            raise
        try:
            _prepare(made, family, raw=kind == socket.SOCK_RAW)
        except BaseException:
            made.close()
            raise
        return made, kind == socket.SOCK_RAW
    raise NotAllowed(f"This system does not let Tocsin ping; {HOW_TO_ALLOW}")


def _prepare(made: socket.socket, family: int, *, raw: bool) -> None:
    made.setblocking(False)
    for level, name, value in ((1, 33, BUFFER), (1, socket.SO_RCVBUF, BUFFER), (1, _TIMESTAMP, 1)):
        if sys.platform.startswith("linux"):  # 33: SO_RCVBUFFORCE, which needs CAP_NET_ADMIN
            with contextlib.suppress(OSError):
                made.setsockopt(level, name, value)
                if name == 33:
                    continue
    if not sys.platform.startswith("linux"):
        return
    if not raw:
        made.setsockopt(*_RECEIVE_ERRORS[family], 1)
        return
    wanted = (_ANSWER[family], *_ERRORS[family])
    if family == socket.AF_INET:  # ICMP_FILTER, raw(7): the types that are not let through
        made.setsockopt(255, 1, struct.pack("=I", ~sum(1 << kind for kind in wanted) & 0xFFFF_FFFF))
    else:  # ICMP6_FILTER (RFC 3542, 3.2), likewise
        blocked = [0xFFFF_FFFF] * 8
        for kind in wanted:
            blocked[kind >> 5] &= ~(1 << (kind & 31))
        made.setsockopt(socket.IPPROTO_ICMPV6, 1, struct.pack("=8I", *blocked))


def _took(echo: Echo, extra: list[tuple[int, int, bytes]]) -> float:
    """Seconds by the system's own time of arrival, which is earlier than ours; by ours if clocks were set meanwhile."""
    ours = monotonic() - echo.at
    for level, name, value in extra:
        if (level, name) == (1, _TIMESTAMP) and len(value) == _TIME.size:
            seconds, nanoseconds = _TIME.unpack(value)
            theirs = (seconds * 1_000_000_000 + nanoseconds - echo.wall) / 1e9
            return theirs if 0 <= theirs <= ours else ours
    return ours


def _without_ip(data: bytes) -> bytes:
    return data[(data[0] & 15) * 4 :] if data else data


def _quoted(family: int, data: bytes) -> tuple[bytes, bytes] | None:
    """Of a quoted packet, where it was sent to and what follows the IP header."""
    if family == socket.AF_INET:
        return (data[16:20], _without_ip(data)) if len(data) >= 28 and data[9] == 1 else None
    return (data[24:40], data[40:]) if len(data) >= 48 and data[6] == socket.IPPROTO_ICMPV6 else None


def _address_in(family: int, sockaddr: bytes) -> bytes | None:
    """The address of a `sockaddr_in` or `sockaddr_in6`; None for no address."""
    if len(sockaddr) < 8 or int.from_bytes(sockaddr[:2], sys.byteorder) != family:
        return None
    return sockaddr[4:8] if family == socket.AF_INET else sockaddr[8:24]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
