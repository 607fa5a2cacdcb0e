"""A database that hangs: everybody is answered in time, what was not sent never is, and everything can be ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster.load import ANSWERED_IN, BUSY, Load, refused_in_time
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.promise_scene import PATIENT, scene
from tests.receivers import Receiver
from tests.service import Service, service_on, started
from tests.waiting import until

ENDS_IN = 10.0

LISTENING = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tocsin engine listening') AS sessions,
       (SELECT count(*) FROM engines WHERE seen_at > now() - interval '3 s') AS alive,
       (SELECT extract(epoch FROM now() - max(seen_at))::float8 FROM engines) AS silent
"""


def service_at(port: int, folder: Path) -> Service:
    return service_on(f"postgresql://tocsin@127.0.0.1:{port}/tocsin", folder, TOCSIN_RETRY_SCHEDULE=PATIENT)


@asynccontextmanager
async def under_load(service: Service, receiver: Receiver) -> AsyncIterator[Load]:
    """The service runs in here, and has taken 20 openings by now; more come until the load ends."""
    async with started(service), service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        load = Load(client, stage.server)
        await load.until_good(20)
        yield load


async def test_what_no_standby_has_is_never_answered_as_done(
    pair: tuple[Node, Node], tmp_path: Path, receiver: Receiver
) -> None:
    primary, standby = pair
    async with under_load(service_at(primary.port, tmp_path), receiver) as load:
        standby.freeze()
        frozen = time.monotonic()
        await asyncio.sleep(4)
        sessions = await primary.run("SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'")
        seen = {row["type"] for row in await primary.run("SELECT type FROM ongoing")}
        during = [call for call in load.calls if call.began > frozen + 0.1]
        assert not [call for call in during if call.good]
        assert not seen & {call.name for call in during}, "a cancelled wait would show it here and nowhere else"
        assert len(sessions) < 25, "they do not pile up"
        assert [call for call in during if "waits for a standby" in call.message]
        assert [call for call in load.calls if "Nobody knows whether" in call.message]
        standby.thaw()
        thawed = time.monotonic()
        await load.until_good(1, since=thawed)
        await load.end()
        refused_in_time(load.calls)
        kept = {row["type"] for row in await primary.run("SELECT type FROM ongoing")}
        assert {call.name for call in load.calls if call.good} <= kept
        never = {call.name for call in load.calls if call.status == 503 and "Nobody knows" not in call.message}
        assert not never & kept, "what was refused without having been sent is not carried out later"


async def test_engines_live_on_without_a_standby_and_leave_no_session_waiting_behind_another(
    pair: tuple[Node, Node], tmp_path: Path
) -> None:
    primary, standby = pair
    async with started(service_at(primary.port, tmp_path)) as service:
        standby.freeze()
        service.add_engine()
        began = time.monotonic()
        most, silent = 0, 0.0
        while time.monotonic() - began < 10:
            (seen,) = await primary.run(LISTENING)
            most, silent = max(most, seen["sessions"]), max(silent, seen["silent"])
            await asyncio.sleep(0.2)
        assert most <= 3, "one each, and one that cannot be registered: no more of them, however long it lasts"
        assert silent < 3 + BUSY, "others would take its deliveries for those of a dead engine"
        standby.thaw()

        async def both() -> bool:
            (seen,) = await primary.run(LISTENING)
            return bool(seen["alive"] == 2)

        await until(both, what="both engines")
        for engine in (service.engine, *service.more_engines):
            assert engine.said().count("Database unavailable; retrying") < 60, "each loop says it once"


async def test_one_session_that_hangs_holds_up_nobody_else(
    pair: tuple[Node, Node], tmp_path: Path, receiver: Receiver
) -> None:
    primary, _ = pair
    async with under_load(service_at(primary.port, tmp_path), receiver) as load:
        (used,) = await primary.run(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tocsin api%'"
            " ORDER BY state_change DESC LIMIT 1"
        )
        hung = psutil.Process(used["pid"])
        hung.suspend()
        try:
            await load.until_good(10, since=time.monotonic() + 2)
        finally:
            hung.resume()
        await load.end()
        refused_in_time(load.calls)


async def test_a_call_whose_client_has_gone_is_not_carried_out_later(
    pair: tuple[Node, Node], wires: tuple[Wire, Wire], tmp_path: Path
) -> None:
    primary, _ = pair
    async with started(service_at(wires[0].port, tmp_path)) as service, service.client() as client:
        stage = await scene(client, {})
        wires[0].vanish()
        # The first one may be sent, and then nobody knows; the second one has to wait, and leaves.
        first = asyncio.create_task(_open(client, stage.server, "sent", 15))
        await asyncio.sleep(0.1)
        with pytest.raises(httpx.TimeoutException):
            await _open(client, stage.server, "gone", 0.7)
        wires[0].come_back()
        await first
        await until(lambda: _opened(client, stage.server, "later"), what="an opening")
        kept = {row["type"] for row in await primary.run("SELECT type FROM ongoing")}
        assert "later" in kept
        assert "gone" not in kept


@pytest.mark.parametrize("trouble", ["the whole server", "the sessions with it"])
async def test_reads_and_writes_of_every_kind_are_answered_in_time_though_the_database_stands_still(
    pair: tuple[Node, Node], tmp_path: Path, trouble: str, record_property: Callable[[str, str], None]
) -> None:
    primary, _ = pair
    async with started(service_at(primary.port, tmp_path)) as service, service.client() as client:
        stage = await scene(client, {"hook": "http://127.0.0.1:9/"})
        calls: dict[tuple[str, str], dict[str, object] | None] = {
            ("GET", "/api/v1/servers"): None,
            ("GET", "/api/v1/incidents"): None,
            ("GET", f"/api/v1/servers/{stage.server}/metrics"): None,
            ("GET", f"/api/v1/integrations/{stage.integrations['hook']}/deliveries"): None,
            ("GET", "/metrics"): None,
            ("GET", "/health/ready"): None,
            ("PATCH", f"/api/v1/servers/{stage.server}"): {"server": {"alerts": {"cpu": {"threshold": 90, "for": 1}}}},
            ("POST", "/api/v1/heartbeats"): {"heartbeat": {"name": "backup"}},
            ("POST", "/api/v1/silences"): {"silence": {"name": "now", "ends_at": "2099-01-01T00:00:00Z"}},
            ("POST", f"/api/v1/integrations/{stage.integrations['hook']}/test"): None,
        }
        answered: list[tuple[str, float, int, str | None]] = []

        async def call(method: str, path: str, body: object) -> None:
            while True:
                began = time.monotonic()
                answer = await client.request(method, path, json=body, timeout=60)
                took = time.monotonic() - began
                answered.append((f"{method} {path}", took, answer.status_code, answer.headers.get("retry-after")))
                await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            calling = [group.create_task(call(*what, body)) for what, body in calls.items()]
            await until(lambda: _true(len(answered) > 3 * len(calls)), what="answers of all kinds")
            frozen = await _freeze(primary, trouble)
            before = len(answered)
            await asyncio.sleep(5)
            frozen()
            await until(lambda: _true({each[2] for each in answered[-20:]} <= {200, 201, 202}), what="good answers")
            for each in calling:
                each.cancel()
        slow = [each for each in answered if each[1] > ANSWERED_IN + BUSY]
        assert not slow, slow[:10]
        refused = [each for each in answered[before:] if each[2] == 503]
        assert refused
        assert all(each[3] for each in refused)
        assert {each[2] for each in answered} <= {200, 201, 202, 503}
    record_property("said", f"the longest took {max(each[1] for each in answered):.2f} s")


async def test_who_asks_an_api_that_starts_while_the_database_is_away_is_answered_and_not_kept_waiting(
    wires: tuple[Wire, Wire], tmp_path: Path
) -> None:
    service = service_at(wires[0].port, tmp_path)
    wires[0].vanish()
    try:
        service.api.start()
        async with httpx.AsyncClient(base_url=service.url) as nobody:

            async def answered(path: str, status: int) -> bool:
                try:
                    answer = await nobody.get(path, timeout=ANSWERED_IN + BUSY)
                except httpx.ConnectError:
                    return False  # it has hardly been started
                return answer.status_code == status

            await until(lambda: answered("/api/v1/servers", 503), what="an answer")
            refused = await nobody.post("/api/v1/incidents", json={"incident": {}}, timeout=ANSWERED_IN + BUSY)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert "waits for its database" in refused.json()["message"]
            assert await answered("/health/live", 200)
            wires[0].come_back()
            await until(lambda: answered("/api/v1/servers", 401), what="the API")
            assert await asyncio.to_thread(service.api.stop, ENDS_IN) == 0
    finally:
        service.stop()


@pytest.mark.parametrize("trouble", ["vanished just now", "vanished a while ago", "waits for its standby"])
async def test_everything_ends_within_ten_seconds_though_the_primary_is_of_no_use(
    pair: tuple[Node, Node], wires: tuple[Wire, Wire], tmp_path: Path, receiver: Receiver, trouble: str
) -> None:
    service = service_at(wires[0].port, tmp_path)
    async with under_load(service, receiver) as load:
        if trouble == "waits for its standby":
            pair[1].freeze()
        else:
            wires[0].vanish()
        await asyncio.sleep(0 if trouble == "vanished just now" else 3)
        began = time.monotonic()
        ended = await asyncio.gather(
            *(asyncio.to_thread(process.stop, ENDS_IN) for process in (service.engine, service.api))
        )
        assert time.monotonic() - began < ENDS_IN
        assert ended == [0, 0], (service.engine.said()[-2000:], service.api.said()[-2000:])
        await load.end()


async def _freeze(primary: Node, trouble: str) -> Callable[[], None]:
    """Stop it where it is; how to let it go on."""
    if trouble == "the whole server":
        primary.freeze()
        return primary.thaw
    used = await primary.run("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tocsin api%'")
    sessions = [psutil.Process(row["pid"]) for row in used]
    for each in sessions:
        each.suspend()

    def go_on() -> None:
        for each in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()

    return go_on


async def _true(what: object) -> bool:
    return bool(what)


async def _open(client: httpx.AsyncClient, server: str, name: str, patience: float) -> int:
    incident = {"resource_type": "Server", "resource_uuid": server, "incident_type": name, "message": name}
    return (await client.post("/api/v1/incidents", json={"incident": incident}, timeout=patience)).status_code


async def _opened(client: httpx.AsyncClient, server: str, name: str) -> bool:
    return await _open(client, server, name, 15) in (200, 201)
