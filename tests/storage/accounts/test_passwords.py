"""Passwords are computed in turn: a flood of tries delays nobody for long, and costs little once it has gone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.people import ANN, PASSWORD, account
from tests.service import Service
from tests.waiting import PATIENCE, until
from tocsin.domain.errors import Refused
from tocsin.settings import load
from tocsin.storage.accounts import passwords, sign_ins
from tocsin.storage.accounts.passwords import MAX_OF_NETWORK, MAX_WAITING, PasswordQueue, Requester
from tocsin.storage.postgres import database
from tocsin.storage.postgres.secrets import Vault


class Client:
    """Somebody who asks, from some network, and stays until they `leave`."""

    def __init__(self, network: str, known: bool = False) -> None:
        self.left = asyncio.Event()
        self.asker = Requester(network, known, self.receive)

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


class Scene:
    """A queue of one thread, which is busy until `go`; `done` is who had their turn, in order."""

    def __init__(self) -> None:
        self.queue = PasswordQueue(1)
        self.done: list[str] = []
        self.go = threading.Event()
        self.begun = asyncio.create_task(self.queue.run(Client("first").asker, self.go.wait, PATIENCE))

    async def ask(self, network: str, *, known: bool = False) -> tuple[Client, asyncio.Task[None]]:
        client = Client(network, known)
        task = asyncio.create_task(self.queue.run(client.asker, self.done.append, network))
        await asyncio.sleep(0)
        return client, task


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await asyncio.sleep(0)
    yield scene
    scene.go.set()
    await scene.begun


async def test_networks_take_turns_however_much_one_asks_for(scene: Scene) -> None:
    asked = [(await scene.ask(network))[1] for network in ("a", "a", "a", "a", "b", "c", "b")]
    scene.go.set()
    await asyncio.gather(*asked)
    assert scene.done == ["a", "b", "c", "a", "b", "a", "a"]


async def test_who_is_known_comes_first_and_keeps_no_stranger_out(scene: Scene) -> None:
    asked = [(await scene.ask(network))[1] for network in ("a", "b", "c")]
    asked += [(await scene.ask(network, known=True))[1] for network in ("x", "x", "y")]
    scene.go.set()
    await asyncio.gather(*asked)
    assert scene.done == ["x", "a", "y", "b", "x", "c"]


async def test_who_has_left_is_passed_over(scene: Scene) -> None:
    asked = [await scene.ask(f"{number}") for number in range(6)]
    for client, _ in asked[:5]:
        client.left.set()
    gone = await asyncio.gather(*(task for _, task in asked[:5]), return_exceptions=True)
    assert all(isinstance(each, Refused) for each in gone)
    assert len(scene.queue) == 1
    asked[5][1].cancel()
    await asyncio.wait({asked[5][1]})
    assert len(scene.queue) == 0
    _, last = await scene.ask("last")
    scene.go.set()
    await last
    assert scene.done == ["last"]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(scene: Scene) -> None:
    strangers = [(await scene.ask(f"{number}"))[1] for number in range(MAX_WAITING)]
    with pytest.raises(Refused, match="too busy checking passwords") as refused:
        scene.queue.expect_room(Client("one more").asker)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, str(passwords.RETRY_AFTER))
    _, known = await scene.ask("home", known=True)
    with pytest.raises(Refused):
        await strangers[0]
    scene.go.set()
    await asyncio.gather(known, *strangers[1:])
    assert scene.done[0] == "home"
    assert len(scene.done) == MAX_WAITING


async def test_one_network_does_not_fill_the_queue(scene: Scene) -> None:
    flood = [(await scene.ask(network))[1] for network in "abcd" for _ in range(MAX_OF_NETWORK)]
    with pytest.raises(Refused) as refused:
        scene.queue.expect_room(Client("a").asker)
    assert refused.value.status == 429
    _, other = await scene.ask("e")
    scene.go.set()
    told = await asyncio.gather(other, *flood, return_exceptions=True)
    assert told[0] is None
    assert sum(isinstance(each, Refused) for each in told) == 1


# ---------------------------------------------------------------------------------------------------- a real service


def tries(port: int) -> Iterator[Any]:
    """Sign-ins as an address that nobody has, each from a network of its own."""
    body = json.dumps({"user": {"email": "nobody@example.com", "password": "x"}}).encode()
    line = "POST /api/v1/users/sign_in HTTP/1.1"
    head = f"{line}\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"

    async def one(number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.6.0.{number + 1}", 0))
        writer.write(f"{head}\r\n\r\n".encode() + body)
        await writer.drain()
        return reader, writer

    return map(one, range(48))


@pytest.mark.parametrize("stay", [False, True])
async def test_a_flood_of_tries_does_not_keep_out_who_signs_in_from_home(own_service: Service, stay: bool) -> None:
    vault = Vault(load(environ=own_service.environ).secret_keys)
    pool: asyncpg.Pool = await database.pool(own_service.database, size=1, name="tests")
    try:
        user = await account(pool, vault, password_hash=passwords.hash_now(PASSWORD))
        async with pool.acquire() as tx:
            await sign_ins.remember(tx, vault, user, "127.0.0.1")
    finally:
        pool.terminate()
    port = httpx.URL(own_service.url).port
    assert port
    given = {"user": {"email": ANN, "password": PASSWORD}}
    async with own_service.client() as client:
        alone = time.monotonic()
        assert (await client.post("/api/v1/users/sign_in", json=given)).status_code == 200
        alone = time.monotonic() - alone
        flood = await asyncio.gather(*tries(port))
        if not stay:
            for _, writer in flood:
                writer.close()
        took = time.monotonic()
        assert (await client.post("/api/v1/users/sign_in", json=given)).status_code == 200
        took = time.monotonic() - took
        assert took < 10 * max(alone, 0.3), "two that have begun, one stranger, and what the flood itself costs"
        if stay:
            lines = [await asyncio.wait_for(reader.readline(), PATIENCE) for reader, _ in flood]
            statuses = {line.split()[1] for line in lines}
            assert statuses <= {b"401", b"503"}
        for _, writer in flood:
            writer.close()

        async def quiet() -> bool:
            return (await client.post("/api/v1/users/sign_in", json=given)).status_code == 200

        await until(quiet)
