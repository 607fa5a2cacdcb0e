"""The socket that requests come in by."""

from __future__ import annotations

import contextlib
import random
import socket

import click

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `click.UsageError` where the address cannot be had."""
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
        raise click.UsageError(f"cannot listen at {host}:{port} ({reason}); choose --host and --port") from error
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at.

    Below those that systems give to outgoing connections (from 32768 on in Linux, from 49152 on elsewhere): such a port
    may become the near end of any connection before whoever asked here listens at it.
    """
    ports = list(range(20_000, 32_768))
    random.shuffle(ports)
    for port in ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise click.UsageError("no port of 127.0.0.1 from 20000 to 32767 is free")
