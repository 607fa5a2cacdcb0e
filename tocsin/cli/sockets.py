"""The listening socket, and free ports."""

from __future__ import annotations

import contextlib
import random
import socket
from itertools import chain

import click

BACKLOG = 2048
PORTS = range(20_000, 32_768)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `click.UsageError` if the address cannot be used."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(f"cannot listen on {host}:{port} ({reason}); choose --host and --port") from error
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on.

    It is below the ephemeral ports (from 32768 on Linux, from 49152 elsewhere): the system could give such a port to an
    outgoing connection before the caller listens on it.
    """
    first = random.randrange(len(PORTS))  # noqa: S311
    for port in chain(PORTS[first:], PORTS[:first]):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise click.UsageError(f"no port of 127.0.0.1 from {PORTS[0]} to {PORTS[-1]} is free")
