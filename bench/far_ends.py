"""What is checked beside sites: a name server and a TLS server, in processes of their own that cost little."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import ssl
from multiprocessing.connection import Connection
from pathlib import Path

import trustme
import uvloop

NAME = "bench.example.com"
ADDRESS = "192.0.2.1"


class FarEnds:
    """The parent's side. `authority` is the file of the authority that issued the TLS server's certificate."""

    def __init__(self, folder: Path) -> None:
        made = trustme.CA(key_type=trustme.KeyType.ECDSA)
        certificate = made.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
        self.authority, served = folder / "authority.pem", folder / "served.pem"
        made.cert_pem.write_to_path(str(self.authority))
        certificate.private_key_and_cert_chain_pem.write_to_path(str(served))
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, str(served)), daemon=True)
        self._process.start()
        theirs.close()
        self.dns_port, self.tls_port = pipe.recv()

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


class _Names(asyncio.DatagramProtocol):
    """Answers every question with one address."""

    _record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04" + socket.inet_aton(ADDRESS)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, source: object) -> None:
        question = data[12 : data.index(b"\x00", 12) + 5]
        head = data[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"
        self._transport.sendto(head + question + self._record, source)


def _main(pipe: Connection, served: str) -> None:
    uvloop.run(_serve(pipe, served))


async def _serve(pipe: Connection, served: str) -> None:
    loop = asyncio.get_running_loop()
    names, _ = await loop.create_datagram_endpoint(_Names, local_addr=("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context, backlog=1000)
    pipe.send((names.get_extra_info("sockname")[1], server.sockets[0].getsockname()[1]))
    await server.serve_forever()
