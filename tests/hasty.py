"""A service with little patience and little room, and clients that try both."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.postgres import Postgres
from tests.raw_http import Wire, dial, port_of
from tests.receivers import Mailbox
from tests.service import Service, shared_service

HEAD_TIMEOUT, IDLE_TIMEOUT, GRACE, RATE = 1.5, 4.0, 2.5, 2000
MOST, MAX_OF_ONE = 40, 25
PROXY = "127.0.0.100"
SIGN_IN = b"/api/v1/users/sign_in"
FORM = b"Content-Type: application/x-www-form-urlencoded"
LATE = 15.0
"""Seconds that anything may take longer than it should, on a busy machine."""


@pytest.fixture(scope="module")
def hasty(postgres: Postgres, _mail_server: Mailbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with little patience and little room."""
    with shared_service(
        postgres, tmp_path_factory.mktemp("hasty"), _mail_server,
        TOCSIN_HEAD_TIMEOUT=f"{HEAD_TIMEOUT}", TOCSIN_IDLE_TIMEOUT=f"{IDLE_TIMEOUT}",
        TOCSIN_TRANSFER_GRACE=f"{GRACE}", TOCSIN_TRANSFER_RATE=f"{RATE}",
        TOCSIN_MAX_CONNECTIONS=f"{MOST}", TOCSIN_MAX_CONNECTIONS_PER_ADDRESS=f"{MAX_OF_ONE}",
        TOCSIN_TRUSTED_PROXIES=f"{PROXY}/32",
    ) as service:  # fmt: skip
        yield service


@asynccontextmanager
async def wires(service: Service, number: int = 1, source: str | None = None) -> AsyncIterator[list[Wire]]:
    made: list[Wire] = []
    try:
        for _ in range(number):
            made.append(await dial(port_of(service), source))
        yield made
    finally:
        for wire in made:
            wire.close()


async def ended(service: Service, *parts: bytes, pause: float = 30.0) -> tuple[bytes, float]:
    """What comes until the end, where these parts are sent, and how many seconds passed since before the first."""
    began = time.monotonic()
    async with wires(service) as (wire,):
        sending = asyncio.create_task(wire.send(*parts, pause=pause))
        said = await wire.rest()
        seconds = time.monotonic() - began
        sending.cancel()
    return said, seconds


def deaf(service: Service) -> socket.socket:
    """Somebody who does not read what they are answered."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port_of(service)))
    made.setblocking(False)
    return made


@asynccontextmanager
async def locked(service: Service) -> AsyncIterator[bytes]:
    """A complete request that is not answered as long as this lasts."""
    token = (await service.new_project()).api_token.encode()
    connection = await asyncpg.connect(service.database)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE servers")
            yield b"GET /api/v1/servers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n" % token
    finally:
        await connection.close()
