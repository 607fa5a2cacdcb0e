"""The listening socket, and free ports."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from itertools import chain

import click

BACKLOG = 2048
PORTS = range(20_000, 32_768)


def bind(host: str, port: int) -> socket.socket:
    """A socket of that address that does not listen yet: who asks is refused until it does, and not kept waiting.

    Raises `click.UsageError` if the address cannot be used.
    """
    with usable(host, port):
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        return bound


def listen(host: str, port: int) -> socket.socket:
    """The same, listening."""
    listening = bind(host, port)
    with usable(host, port):
        listening.listen(BACKLOG)
    return listening


@contextlib.contextmanager
def usable(host: str, port: int) -> Iterator[None]:
    """Raises `click.UsageError` if the address cannot be used: several may bind it, but only one may listen."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.UsageError(f"cannot listen on {host}:{port} ({reason}); choose --host and --port") from error


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
