"""A name server on loopback, over UDP and TCP, that is strict about questions and answers as a test tells it to."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ZONE = {
    ("www.example.com.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("www.example.com.", "AAAA"): ["2001:db8::1"],
    ("example.com.", "MX"): ["10 Mail.Example.com.", "20 backup.example.com."],
    ("example.com.", "NS"): ["ns1.example.com.", "ns2.example.com."],
    ("example.com.", "TXT"): ['"v=spf1 -all"', '"one " "piece; of two"'],
    ("example.com.", "SOA"): ["ns1.example.com. hostmaster.example.com. 2026010101 7200 3600 1209600 300"],
    ("example.com.", "CAA"): ['0 issue "ca.example.net"'],
    ("_sip._tcp.example.com.", "SRV"): ["10 5 5060 sip.example.com."],
    ("alias.example.com.", "CNAME"): ["www.example.com."],
    ("dangling.example.com.", "CNAME"): ["nowhere.example.com."],
    ("nowhere.example.com.", "TXT"): ['"here I am"'],
    ("round.example.com.", "CNAME"): ["about.example.com."],
    ("about.example.com.", "CNAME"): ["round.example.com."],
    ("1.2.0.192.in-addr.arpa.", "PTR"): ["www.example.com."],
    ("huge.example.com.", "A"): [f"10.0.{number // 250}.{number % 250}" for number in range(1_900)],
    ("bomb.example.com.", "A"): [f"10.1.{number // 250}.{number % 250}" for number in range(4_000)],
}
RCODES = {"servfail.example.com.": "SERVFAIL", "refused.example.com.": "REFUSED"}

Answers = Callable[[bytes, bool], list[bytes]]
"""Of a question, and whether it came over TCP: the messages that are sent back."""


def by_zone(question: bytes, stream: bool) -> list[bytes]:
    """As an authoritative server that also says it recurses."""
    asked = dns.message.from_wire(question)
    assert len(asked.question) == 1
    assert asked.flags & dns.flags.RD
    answer = dns.message.make_response(asked, recursion_available=True)
    name, type_ = asked.question[0].name.to_text().lower(), asked.question[0].rdtype.name
    rcode = RCODES.get(name)
    if rcode is None and not any(each == name for each, _ in ZONE):
        rcode = "NXDOMAIN"
    answer.set_rcode(dns.rcode.from_text(rcode or "NOERROR"))
    seen = set()
    while rcode is None and name not in seen:
        seen.add(name)
        for found in (type_, "CNAME") if type_ != "CNAME" else ("CNAME",):
            if (name, found) in ZONE:
                answer.answer.append(dns.rrset.from_text(name, 300, "IN", found, *ZONE[name, found]))
        name = ZONE.get((name, "CNAME"), [name])[0] if (name, type_) not in ZONE else name
    whole = answer.to_wire(max_size=65_535)
    if stream or len(whole) <= 1232:
        return [whole]
    short = dns.message.make_response(asked, recursion_available=True)
    short.flags |= dns.flags.TC
    return [short.to_wire()]


@asynccontextmanager
async def name_server(answers: Answers = by_zone) -> AsyncIterator[int]:
    """Its port, for UDP and TCP."""
    loop = asyncio.get_running_loop()

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, source: object) -> None:
            for each in answers(data, False):
                self.transport.sendto(each, source)  # type: ignore[attr-defined]

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                for each in answers(data, True):
                    writer.write(struct.pack("!H", len(each)) + each)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(stream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.bind(("127.0.0.1", port))
    transport, _ = await loop.create_datagram_endpoint(Datagrams, sock=bound)
    try:
        yield port
    finally:
        transport.close()
        server.close()
