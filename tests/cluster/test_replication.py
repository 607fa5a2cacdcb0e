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


async def test_names_of_the_cluster_are_only_said_to_who_asks_on_the_machine_itself(
    pair: tuple[Node, Node], tmp_path: Path
) -> None:
    primary, standby = pair
    await primary.run("CREATE ROLE app LOGIN SUPERUSER")
    settings = configuration.load(environ=environ_of((standby, primary), tmp_path, "app"))
    async with in_this_process(settings) as front, _client(front, "198.51.100.7") as far, _client(front) as near:
        await primary.run(ALIVE)
        by_proxy = {"X-Forwarded-For": "198.51.100.7"}
        for answer in (await far.get("/health/ready"), await near.get("/health/ready", headers=by_proxy)):
            known = answer.json()["database"]
            assert list(known) == ["synchronous", "standbys", "warnings"]
            assert [list(each) for each in known["standbys"]] == [["synchronous", "behind_bytes", "behind_seconds"]]
        await primary.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
        await primary.run("ALTER ROLE app NOSUPERUSER")
        hidden = (await far.get("/health/ready")).json()["database"]["warnings"]
        assert hidden == ["what follows the primary is hidden from us; see tocsin doctor"]
        assert "TO app" in (await near.get("/health/ready")).text
        primary.kill()

        async def named() -> bool:
            return str(primary.port) in (await near.get("/health/ready")).json().get("message", "")

        await until(named, what="the host that is away")
        said = await far.get("/health/ready")
        assert (said.status_code, said.json()["message"]) == (503, "The database does not answer")


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


def _client(front: object, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(  # type: ignore[arg-type]
        app=front, raise_app_exceptions=False, client=(address, 1)
    )  # fmt: skip
    return httpx.AsyncClient(base_url="http://localhost:8000", transport=transport)
