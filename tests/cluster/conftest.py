"""What tests of clusters are given: a pair of servers on copies of a migrated data folder; a whole cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster import nodes, patroni
from tests.cluster.nodes import Node
from tests.cluster.two_machines import TwoMachines, two_machines
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


@pytest.fixture(scope="package")
def _machines() -> Iterator[TwoMachines]:
    with patroni.cluster() as cluster, two_machines(cluster) as machines:
        yield machines


@pytest.fixture
def machines(_machines: TwoMachines) -> Iterator[TwoMachines]:
    """Two machines before a cluster of three, shared by all tests: what a test does to them is undone."""
    yield _machines
    _machines.cluster.heal()
    _machines.start()
