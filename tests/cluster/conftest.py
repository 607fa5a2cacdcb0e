"""What tests of clusters are given: a migrated data folder to copy, and a pair of servers on copies of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster import nodes
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire


@pytest.fixture(scope="package")
def prepared() -> Iterator[Path]:
    with nodes.prepared() as folder:
        yield folder


@pytest_asyncio.fixture
async def pair(prepared: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A primary that waits for its standby with each commit, and the standby."""
    with nodes.pair(prepared) as (primary, standby):
        await nodes.in_step(primary)
        yield primary, standby


@pytest.fixture
def wires(pair: tuple[Node, Node]) -> Iterator[tuple[Wire, Wire]]:
    """The only ways to the two of them."""
    made = Wire(pair[0].port), Wire(pair[1].port)
    yield made
    for wire in made:
        wire.close()
