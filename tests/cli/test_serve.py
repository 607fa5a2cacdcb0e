"""The API as a process of its own, while it waits for its database."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.processes import Process
from tests.service import KEY
from tests.waiting import until
from tocsin.cli.sockets import free_port


async def test_of_two_that_want_the_same_port_while_the_database_is_away_one_is_refused_in_one_line(
    tmp_path: Path,
) -> None:
    port = free_port()
    environ = {"TOCSIN_SECRET_KEYS": KEY, "TOCSIN_DATABASE_URL": "postgresql://127.0.0.1:1/tocsin"}
    both = [
        Process(
            "serve", "--port", str(port), "--data-dir", str(tmp_path / name), environ=environ,
            log=tmp_path / f"{name}.log",
        ).start()
        for name in ("one", "other")
    ]  # fmt: skip

    async def refused() -> Process | None:
        return next((each for each in both if not each.alive), None)

    async def answered() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        loser = await until(refused, what="one of them to end")
        [winner] = [each for each in both if each is not loser]
        await until(answered, what="an answer of the other one")
        assert winner.alive
        assert loser.stop() == 2
        said = [line for line in loser.said().splitlines() if not line.startswith("{")]
        assert len(said) == 1, said
        assert said[0].startswith(f"tocsin: cannot listen on 127.0.0.1:{port} (Address already in use); choose --host")
    finally:
        codes = [each.stop() for each in both if each.alive]
    assert codes == [0]
