"""One question to one name server (RFC 1035): over UDP, and over TCP if the answer does not fit.

Each question goes out from a socket of its own, connected to the server, with an id of its own: datagrams of others,
with another id or about another question are no answer, and are waited past.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import struct
import time
from dataclasses import dataclass
from functools import lru_cache

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.wire
from dns.rdtypes.ANY.CNAME import CNAME

PORT = 53
AGAIN_AFTER = 2.0
"""Seconds after which a question is repeated: datagrams get lost."""
PAYLOAD = 1232
"""Bytes of an answer that we take over UDP (RFC 6891; the value of DNS Flag Day 2020)."""
QUICKLY_READ = 2_048
"""Bytes of an answer that are read on the event loop; a longer one is read in a thread."""
MAX_RECORDS = 2_000
SYSTEM_FOR = 10.0
"""Seconds for which the system's configuration is cached."""

_HEADER, _QUESTION, _RECORD = struct.Struct("!6H"), struct.Struct("!HH"), struct.Struct("!HHIH")
_TO_QUESTION = struct.pack("!H", 0xC000 + _HEADER.size)
_OPT = struct.pack("!BHHIH", 0, 41, PAYLOAD, 0, 0)


class Unasked(Exception):
    """There is no answer that can be read; the text says why. `silent` if there was none at all."""

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Answer:
    """`rcode` and `flags` in the field's words; `found` are the records of the type that was asked for.

    `aliases` are the names that CNAME records led to, `circular` whether they lead back.
    """

    rcode: str
    flags: str
    found: tuple[dns.rdata.Rdata, ...]
    aliases: tuple[str, ...] = ()
    circular: bool = False


async def ask(address: str, port: int, name: dns.name.Name, type_: str, wait: float) -> Answer:
    """Ask for a name's records of a type. Ends within `wait` seconds. Raises `Unasked`."""
    number = dns.rdatatype.from_text(type_)
    labels = b"".join(bytes((len(label),)) + label for label in name.labels)
    question = labels + _QUESTION.pack(number, dns.rdataclass.IN)
    identifier = secrets.randbelow(1 << 16)
    message = _HEADER.pack(identifier, dns.flags.RD, 1, 0, 0, 1) + question + _OPT
    place = address if port == PORT else f"{address} port {port}"
    waiting = _Answers(identifier, question)
    try:
        async with asyncio.timeout(wait):
            data = await _by_datagram(address, port, message, waiting)
            if _HEADER.unpack_from(data)[1] & dns.flags.TC:
                waiting.way = " over TCP, to which its answer over UDP referred"
                data = await _by_stream(address, port, message, waiting)
            if len(data) <= QUICKLY_READ:
                return _read(data, name, number)
            return await asyncio.to_thread(_read, data, name, number)
    except TimeoutError:
        ignored = f"; {waiting.ignored} that answer another question were ignored" if waiting.ignored else ""
        raise Unasked(f"No answer from {place} within {wait:.3g} s{waiting.way}{ignored}", silent=True) from None
    except ConnectionRefusedError:
        raise Unasked(f"Nothing answers DNS at {place}: connection refused{waiting.way}") from None
    except (ConnectionError, EOFError):
        raise Unasked(f"{place} closed the connection before its answer was complete{waiting.way}") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise
        raise Unasked(f"{place} cannot be asked: {error.strerror or error}") from None
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        why = str(error).rstrip(".") or type(error).__name__
        raise Unasked(f"The answer of {place} cannot be read: {why[:200]}") from None


@lru_cache(maxsize=1)
def _system(_: int) -> tuple[str, ...]:
    try:
        return tuple(str(each) for each in dns.resolver.Resolver().nameservers)
    except dns.resolver.NoResolverConfiguration:
        return ()


def system() -> tuple[str, ...]:
    """The addresses of the name servers that this machine asks, best first (resolv.conf(5))."""
    return _system(int(time.monotonic() / SYSTEM_FOR))


class _Answers:
    """What comes back to one question."""

    def __init__(self, identifier: int, question: bytes) -> None:
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.ignored = 0
        self.way = ""
        self._identifier = identifier
        self._question = question.lower()

    def fits(self, data: bytes) -> bool:
        """Whether it answers our question. An error may leave the question out (RFC 1035 knows no rule)."""
        if len(data) < _HEADER.size:
            return False
        identifier, flags, questions, *_ = _HEADER.unpack_from(data)
        if identifier != self._identifier or not flags & dns.flags.QR:
            return False
        if not questions:
            return bool(flags & 15)
        return data[_HEADER.size : _HEADER.size + len(self._question)].lower() == self._question

    def fail(self, error: OSError) -> None:
        if not self.first.done():
            self.first.set_exception(error)

    def read(self, asked: socket.socket) -> None:
        """Take the next datagram."""
        try:
            data = asked.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:  # such as ICMP's word that nobody listens there
            self.fail(error)
            return
        if self.first.done():
            return
        if self.fits(data):
            self.first.set_result(data)
        else:
            self.ignored += 1


async def _by_datagram(address: str, port: int, message: bytes, answers: _Answers) -> bytes:
    loop = asyncio.get_running_loop()
    asked = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with asked:
        asked.setblocking(False)
        asked.connect((address, port))
        loop.add_reader(asked, answers.read, asked)
        again: asyncio.TimerHandle | None = None

        def send() -> None:
            nonlocal again
            again = loop.call_later(AGAIN_AFTER, send)
            try:
                asked.send(message)
            except BlockingIOError:  # a full buffer: as good as lost on the way
                pass
            except OSError as error:
                answers.fail(error)

        try:
            send()
            return await answers.first
        finally:
            loop.remove_reader(asked)
            if again is not None:
                again.cancel()


async def _by_stream(address: str, port: int, message: bytes, answers: _Answers) -> bytes:
    reader, writer = await asyncio.open_connection(address, port, limit=1 << 16)
    try:
        writer.write(struct.pack("!H", len(message)) + message)
        while True:
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            if answers.fits(data):
                return data
            answers.ignored += 1
    finally:
        writer.transport.abort()


@lru_cache(256)
def _words(flags: int) -> tuple[str, str]:
    """The code and the flags of an answer."""
    return dns.rcode.to_text(dns.rcode.Rcode(flags & 15)), dns.flags.to_text(flags & 0x87B0).lower()


def _owner(parser: dns.wire.Parser, name: dns.name.Name) -> dns.name.Name:
    """Whose the next record is: mostly, a pointer (RFC 1035, 4.1.4) to the name in the question."""
    if parser.wire[parser.current : parser.current + 2] == _TO_QUESTION:
        parser.get_bytes(2)
        return name
    return dns.name.from_wire_parser(parser)


def _read(data: bytes, name: dns.name.Name, number: int) -> Answer:
    """Its header and answer section; nobody asks for the rest. Raises what dnspython raises for what is none."""
    _, flags, questions, count, *_ = _HEADER.unpack_from(data)
    rcode, shown = _words(flags & 0x87BF)
    if count > MAX_RECORDS:
        raise ValueError(f"it has {count:,} records, more than {MAX_RECORDS:,}")
    parser = dns.wire.Parser(data, _HEADER.size)
    for _ in range(questions):
        dns.name.from_wire_parser(parser)
        parser.get_struct("!HH")
    records: dict[dns.name.Name, list[dns.rdata.Rdata]] = {}
    aliases: dict[dns.name.Name, dns.name.Name] = {}
    for _ in range(count):
        owner = _owner(parser, name) if questions else dns.name.from_wire_parser(parser)
        type_, class_, _, length = parser.get_struct(_RECORD.format)
        with parser.restrict_to(length):
            if class_ != dns.rdataclass.IN or type_ not in (number, dns.rdatatype.CNAME):
                parser.get_remaining()
                continue
            rdata = dns.rdata.from_wire_parser(class_, type_, parser)
        if type_ == number:
            records.setdefault(owner, []).append(rdata)
        else:
            assert isinstance(rdata, CNAME)
            aliases.setdefault(owner, rdata.target)
    followed: list[str] = []
    seen = {name}
    while name not in records and name in aliases:
        name = aliases[name]
        followed.append(name.to_text(omit_final_dot=True))
        if name in seen:
            return Answer(rcode, shown, (), tuple(followed), circular=True)
        seen.add(name)
    return Answer(rcode, shown, tuple(records.get(name, ())), tuple(followed))
