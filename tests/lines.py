"""Ports on loopback that a test opens and closes: sites, routers, and targets that show whether there is a way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest


class Line:
    """Something that accepts connections on loopback until it is cut, and again when it is mended."""

    def __init__(self) -> None:
        self.port = 0
        self.calls = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        writer.close()

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None


@pytest.fixture
async def lines() -> AsyncIterator[Callable[[int], Awaitable[list[Line]]]]:
    made: list[Line] = []

    async def lines(count: int) -> list[Line]:
        new = [Line() for _ in range(count)]
        for each in new:
            await each.mend()
        made.extend(new)
        return new

    yield lines
    for each in made:
        await each.cut()
