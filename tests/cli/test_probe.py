"""`tocsin probe`, as a real process that checks real sites for a real service."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.processes import Process, tocsin
from tests.receivers import Receiver
from tests.service import Service
from tests.waiting import until
from tocsin.domain import ids

PATH = "/api/v1/network_monitors"


async def added(service: Service, name: str, *more: str) -> str:
    """The token of a new probe."""
    project = ids.public(ids.PROJECT, service.project.id)
    made = await tocsin("probe", "add", name, "--project", project, *more, environ=service.environ)
    assert made.code == 0, made.err
    return made.out.strip()


@contextmanager
def probing(url: str, token: str, folder: Path, name: str = "probe", **environ: str) -> Iterator[Process]:
    """A probe that runs in here."""
    settings = {"TOCSIN_ENV": "development", "TOCSIN_DATA_DIR": str(folder / "nothing"), **environ}
    file = folder / f"{name}.token"
    file.write_text(f"{token}\n")
    words = ("probe", "--url", url, "--token-file", str(file))
    process = Process(*words, environ=settings, log=folder / f"{name}.log").start()
    try:
        yield process
    finally:
        if process.alive:
            assert process.stop() == 0, process.said()


async def monitor(client: httpx.AsyncClient, url: str, *locations: str, **fields: Any) -> str:
    wanted = {"url": url, "locations": locations, "interval": 1, "timeout": 2, "confirmations": 2, **fields}
    answer = await client.post(PATH, json={"network_monitor": wanted})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def is_now(client: httpx.AsyncClient, uuid: str, status: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await client.get(f"{PATH}/{uuid}")).json()
        return found if found["status"] == status else None

    return await until(look, what=f"status {status}")


async def votes(pool: asyncpg.Pool, least: int) -> None:
    """Until so many places have voted."""

    async def look() -> bool:
        return bool(await pool.fetchval("SELECT count(*) >= $1 FROM monitor_places WHERE heard_at IS NOT NULL", least))

    await until(look, what=f"{least} votes")


async def test_probes_and_we_ourselves_see_a_site_go_down_and_come_back(
    own_service: Service, pool: asyncpg.Pool, receiver: Receiver, tmp_path: Path
) -> None:
    async with own_service.client() as client:
        with (
            probing(own_service.url, await added(own_service, "wien"), tmp_path, "wien"),
            probing(own_service.url, await added(own_service, "Graz"), tmp_path, "graz"),
        ):
            uuid = await monitor(client, receiver.url("/"), "wien", "graz", "here")
            await votes(pool, 3)
            await is_now(client, uuid, "success")
            receiver.refuse()
            [incident] = (await is_now(client, uuid, "error"))["open_incident_uuids"]
            receiver.listen()
            await is_now(client, uuid, "success")
            said = (await client.get(f"/api/v1/incidents/{incident}")).json()
            assert said["error_message"].startswith("From ")
            assert said["error_message"].endswith(": Connection refused")
            assert said["incident_type"] == "connection_error"
            assert await pool.fetchval("SELECT count(*) FROM incidents") == 1
            places = await pool.fetch("SELECT DISTINCT coalesce(place, 'here') AS place FROM checks ORDER BY 1")
            assert [row["place"] for row in places] == ["graz", "here", "wien"]


async def test_what_is_seen_while_the_service_is_away_comes_in_late_each_once(
    own_service: Service, pool: asyncpg.Pool, receiver: Receiver, tmp_path: Path
) -> None:
    token = await added(own_service, "wien")
    async with own_service.client() as client:
        with probing(own_service.url, token, tmp_path) as probe:
            uuid = await monitor(client, receiver.url("/"), "wien")
            await is_now(client, uuid, "success")
            own_service.api.kill()
            away = await pool.fetchval("SELECT now()")
            seen = len(receiver.requests)
            await until(lambda: _true(len(receiver.requests) >= seen + 5), what="checks while the service is away")
            receiver.refuse()
            await until(lambda: _true("does not answer" in probe.said()), what="a word about that")
            own_service.start()
            await is_now(client, uuid, "error")
            receiver.listen()
            await is_now(client, uuid, "success")
        late = await pool.fetch(
            "SELECT at, ok FROM checks WHERE place = 'wien' AND at > $1 ORDER BY at", away
        )
        assert len(late) >= 5
        assert [row["ok"] for row in late[:3]] == [True] * 3
        assert len({row["at"] for row in late}) == len(late)


async def test_a_probe_that_is_revoked_ends_and_says_why(
    own_service: Service, receiver: Receiver, tmp_path: Path
) -> None:
    token = await added(own_service, "wien")
    again = await tocsin("probe", "add", "wien", environ=own_service.environ)
    assert again.code == 1
    with probing(own_service.url, token, tmp_path) as probe:
        await until(lambda: _true("The service answers" in probe.said()))
        listed = await tocsin("probe", "list", "--json", environ=own_service.environ)
        [one] = json.loads(listed.out)
        assert (one["name"], one["only_project"], one["seen_at"] is None) == ("wien", None, False)
        assert token not in listed.out
        async with own_service.client() as client:
            await monitor(client, receiver.url("/"), "wien")
        done = await tocsin("probe", "revoke", "wien", environ=own_service.environ)
        assert (done.code, done.out) == (0, "Revoked wien; it checked 1 monitors\n")
        assert done.err == "1 of them are not checked from anywhere now: change their locations\n"
        assert probe.wait(30) == 1
        assert "the service does not know this token" in probe.said()
    assert (await tocsin("probe", "revoke", "wien", environ=own_service.environ)).code == 1
    assert token not in probe.said()


async def test_what_a_probe_may_reach_is_for_its_own_machine_to_say(
    own_service: Service, pool: asyncpg.Pool, receiver: Receiver, tmp_path: Path
) -> None:
    token = await added(own_service, "wien")
    async with own_service.client() as client:
        uuid = await monitor(client, receiver.url("/"), "wien")
        with probing(own_service.url, token, tmp_path, TOCSIN_ENV="production"):
            await is_now(client, uuid, "error")
        assert receiver.requests == []
        assert "127.0.0.1" in await pool.fetchval("SELECT message FROM monitor_places")
        with probing(own_service.url, token, tmp_path, TOCSIN_ENV="production", TOCSIN_ALLOW_NETWORKS="127.0.0.0/8"):
            await is_now(client, uuid, "success")


async def test_a_probe_can_be_of_one_project_alone(own_service: Service) -> None:
    project = ids.public(ids.PROJECT, own_service.project.id)
    await added(own_service, "ours", "--only", project)
    listed = await tocsin("probe", "list", "--json", environ=own_service.environ)
    assert json.loads(listed.out)[0]["only_project"] == project
    nobodys = f"PRJ{'0' * 26}"
    refused = await tocsin("probe", "add", "theirs", "--project", project, "--only", nobodys,
                           environ=own_service.environ)  # fmt: skip
    assert (refused.code, nobodys in refused.err) == (1, True)
    alone = await tocsin("probe", "add", "lonely", environ=own_service.environ)
    assert (alone.code, "name one" in alone.err) == (1, True), "there is no operator here"


@pytest.mark.parametrize(
    "words",
    [(), ("--url", "https://tocsin.example.com"), ("--url", "ftp://example.com", "--token", "tpr_x"),
     ("--url", "nothing", "--token", "tpr_x"), ("--url", "https://example.com", "--token", "two words")],
)  # fmt: skip
async def test_without_an_address_and_a_token_there_is_no_probe(words: tuple[str, ...]) -> None:
    assert (await tocsin("probe", *words)).code == 2


def test_a_token_on_the_command_line_is_warned_of_and_a_signal_ends_a_probe(tmp_path: Path) -> None:
    words = ("probe", "--url", "http://127.0.0.1:1", "--token", "tpr_seen")
    process = Process(*words, environ={"TOCSIN_DATA_DIR": str(tmp_path)}, log=tmp_path / "log").start()
    process.wait_for_line("tocsin: everybody on this machine can read a --token")
    process.wait_for_line("{")
    process.signal(signal.SIGTERM)
    assert process.wait(30) == 0


async def _true(value: bool) -> bool:
    return value
