"""Health, `doctor` and a metric say who is the primary, who follows, and what would be lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from tests.cluster import nodes
from tests.cluster.nodes import Node
from tests.processes import tocsin
from tests.service import KEY, in_this_process
from tests.waiting import until
from tocsin import settings as configuration
from tocsin.storage.postgres import connecting, replication

ALIVE = "INSERT INTO engines DEFAULT VALUES"


@pytest_asyncio.fixture
async def asynchronous(prepared: Path) -> AsyncIterator[tuple[Node, Node]]:
    with nodes.pair(prepared, synchronous=False) as (primary, standby):
        await nodes.in_step(primary)
        yield primary, standby


def environ_of(hosts: tuple[Node, ...], folder: Path, user: str = "tocsin") -> dict[str, str]:
    places = ",".join(f"127.0.0.1:{node.port}" for node in hosts)
    return {
        "TOCSIN_DATABASE_URL": f"postgresql://{user}@{places}/tocsin", "TOCSIN_DATA_DIR": str(folder),
        "TOCSIN_SECRET_KEYS": KEY, "TOCSIN_ENV": "development",
    }  # fmt: skip


async def test_health_and_metrics_name_the_primary_and_its_standbys(pair: tuple[Node, Node], tmp_path: Path) -> None:
    primary, standby = pair
    settings = configuration.load(environ=environ_of((standby, primary), tmp_path))
    async with in_this_process(settings) as front, _client(front) as client:
        await primary.run(ALIVE)
        known = (await client.get("/health/ready")).json()["database"]
        assert known["primary"] == f"127.0.0.1:{primary.port}"
        assert known["synchronous"] is True
        assert [each["synchronous"] for each in known["standbys"]] == [True]
        assert known["warnings"] == []
        described = (await client.get("/api/v1/openapi.json")).json()["paths"]["/health/ready"]["get"]["responses"]
        [shown] = described["200"]["content"]["application/json"]["examples"].values()
        assert shown["value"]["database"].keys() == known.keys(), "the description shows it as it is"
        assert shown["value"]["database"]["standbys"][0].keys() == known["standbys"][0].keys()
        lines = (await client.get("/metrics")).text.splitlines()
        assert "tocsin_database_synchronous 1.0" in lines
        assert "tocsin_database_standbys 1.0" in lines


async def test_what_an_asynchronous_standby_would_lose_is_said_beforehand(
    asynchronous: tuple[Node, Node], tmp_path: Path
) -> None:
    primary, standby = asynchronous
    environ = environ_of((primary, standby), tmp_path)
    ran = await tocsin("doctor", environ=environ)
    assert f"answers at 127.0.0.1:{primary.port}" in ran.out
    assert "asynchronous" in ran.out.split("standbys")[1].splitlines()[0]
    assert "warn  replication    replication is asynchronous" in ran.out
    assert "set synchronous_standby_names" in ran.out
    standby.end()

    async def alone() -> bool:
        return not await primary.run("SELECT FROM pg_stat_replication")

    await until(alone, what="nobody to follow")
    assert "warn  replication    no standby follows" in (await tocsin("doctor", environ=environ)).out
    alone_by_url = await tocsin("doctor", environ=environ_of((primary,), tmp_path))
    assert "replication" not in alone_by_url.out, "one database alone is as its operator meant it"


async def test_who_may_not_see_the_standbys_is_told_what_is_missing(pair: tuple[Node, Node]) -> None:
    primary, _ = pair
    await primary.run("CREATE ROLE app LOGIN")
    session = await connecting.connect(f"postgresql://app@127.0.0.1:{primary.port}/tocsin")
    known = await replication.read(session)
    assert known.warnings(2) == [
        "what follows the primary is hidden from us; there, run: GRANT pg_monitor TO app"
    ]
    await primary.run("GRANT pg_monitor TO app")
    assert (await replication.read(session)).warnings(2) == []
    await session.close()


def _client(front: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=front, raise_app_exceptions=False)  # type: ignore[arg-type]
    return httpx.AsyncClient(base_url="http://tocsin.test", transport=transport)
