"""A database that is lost or falls silent while a process starts is waited for: it is no error of that process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tocsin.domain.errors import Refused
from tocsin.storage.postgres import migrate

DURING = (5, 9, 13)
"""Parts of what is said until the login is over, until it is known whether there is a pooler, and until the lock."""


@contextmanager
def troubled(node: Node, trouble: str, parts: int) -> Iterator[str]:
    """The address of a wire that is in trouble after so many parts, and then as good as ever."""
    with closing(Wire(node.port)) as wire:
        wire.after(parts, getattr(wire, trouble))
        yield f"postgresql://tocsin@127.0.0.1:{wire.port}/tocsin"


@pytest.mark.parametrize("trouble", ["cut", "mute"])
async def test_a_database_that_is_lost_while_a_process_starts_is_waited_for(
    pair: tuple[Node, Node], trouble: str
) -> None:
    async def begin(start: Callable[[str], Awaitable[object]], parts: int) -> None:
        with troubled(pair[0], trouble, parts) as url:
            async with asyncio.timeout(60):
                await start(url)

    async def look(parts: int) -> None:
        with (
            troubled(pair[0], trouble, parts) as url,
            pytest.raises(Refused, match="The database cannot be reached"),
        ):
            await migrate.is_current(url)

    await asyncio.gather(
        *(begin(migrate.wait_until_current, parts) for parts in DURING),
        *(begin(lambda url: migrate.migrate(url, patience=60.0), parts) for parts in DURING),
        *(look(parts) for parts in DURING),
    )
