"""A cluster loses its primary, in every way, while incidents are opened: nothing accepted is lost, nobody hangs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest

from tests.cluster.load import BUSY, Load, refused_in_time
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.promise_scene import PATIENT, scene
from tests.receivers import Receiver
from tests.service import service_on, started
from tests.waiting import until

WRITES_AGAIN_IN = 3.0
"""Seconds after the promotion."""
ENDS_IN = 10.0

DIE = "kill -9 of the primary"
VANISH = "the primary vanishes"
FREEZE = "the primary stands still"


@pytest.mark.parametrize(
    ("trouble", "first"),
    [(DIE, True), (VANISH, True), (VANISH, False), (FREEZE, True)],
    ids=["it dies", "it vanishes, listed first", "it vanishes, listed last", "it stands still"],
)
async def test_a_lost_primary_costs_no_accepted_incident_and_keeps_nobody_waiting(
    pair: tuple[Node, Node], wires: tuple[Wire, Wire], tmp_path: Path, receiver: Receiver, trouble: str, first: bool,
    record_property: Callable[[str, str], None],
) -> None:  # fmt: skip
    primary, standby = pair
    ports = [wire.port for wire in (wires if first else reversed(wires))]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    service = service_on(f"postgresql://tocsin@{hosts}/tocsin", tmp_path, TOCSIN_RETRY_SCHEDULE=PATIENT)
    async with started(service), service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        load = Load(client, stage.server)
        health: list[str] = []
        looking = asyncio.create_task(_look_at_health(client, health))
        enough = asyncio.Event()
        brief = asyncio.create_task(_open_and_resolve(client, stage.server, enough))
        await load.until_good(20)

        lost = time.monotonic()
        _make(trouble, primary, wires[0])
        await asyncio.sleep(2.5)  # as long as somebody takes to notice, and to promote the other one
        in_flight = 20 + load.under_way
        began = time.monotonic()
        await standby.promote()
        promoted = time.monotonic()
        again = (await load.until_good(1, since=began))[0].ended - promoted
        await load.until_good(20, since=promoted)
        if trouble == FREEZE:
            primary.thaw()
            thawed = time.monotonic()
            await load.until_good(20, since=thawed)
            written = {row["type"] for row in await primary.run("SELECT type FROM ongoing")}
            assert not written & {call.name for call in load.calls if call.ended > began}, "by a session that it had"
        looking.cancel()
        enough.set()
        await load.end()
        resolved = await brief
        assert not [words for words in health if "No engine" in words], "it only could not say that it lives"
        assert any("database" in words for words in health)

        assert {call.status for call in load.calls} <= {200, 201, 503}, Counter(call.status for call in load.calls)
        refused = refused_in_time(load.calls, since=lost)
        assert again <= WRITES_AGAIN_IN + BUSY, again

        accepted = {call.name for call in load.calls if call.good}
        kept = {row["type"] for row in await standby.run("SELECT type FROM ongoing")}
        assert accepted <= kept, f"lost: {sorted(accepted - kept)}"
        await until(
            lambda: _told(receiver, "ongoing", kept), timeout=30,
            what=lambda: f"{len(kept)} deliveries; there are {len({each.id for each in receiver.requests})}",
        )  # fmt: skip
        repeated = sum(Counter(each.id for each in receiver.requests).values()) - len(
            {each.id for each in receiver.requests}
        )
        assert repeated <= in_flight

        await until(lambda: _told(receiver, "resolved", resolved), what="the end of each of the brief ones")
        for name in resolved:
            told = [each.json["incident_status"] for each in receiver.requests if each.json["incident_type"] == name]
            assert told == sorted(told), "its opening comes first, however often it is told"

        began = time.monotonic()
        for process in (service.engine, service.api):
            await asyncio.to_thread(process.stop)
        assert time.monotonic() - began < ENDS_IN
    longest = max((call.took for call in refused), default=0.0)
    record_property(
        "said",
        f"{len(accepted)} accepted, 0 lost, {repeated} repeated; writes again {again:.1f} s after the promotion; "
        f"{len(refused)} refused, each within {longest:.1f} s",
    )


async def _look_at_health(client: httpx.AsyncClient, said: list[str]) -> None:
    while True:
        said.append((await client.get("/health/ready")).text)
        await asyncio.sleep(0.2)


def _make(trouble: str, primary: Node, wire: Wire) -> None:
    if trouble == DIE:
        primary.kill()
        wire.cut()
    elif trouble == VANISH:
        wire.vanish()
    else:
        primary.freeze()


async def _open_and_resolve(client: httpx.AsyncClient, server: str, enough: asyncio.Event) -> list[str]:
    """One incident after the other, each until that is accepted. Returns their types."""
    names: list[str] = []
    while not enough.is_set():
        names.append(f"brief_{len(names)}")
        incident = {
            "resource_type": "Server", "resource_uuid": server, "incident_type": names[-1], "message": "brief",
        }  # fmt: skip
        for path in ("/api/v1/incidents", "/api/v1/incidents/resolve"):
            while (await client.post(path, json={"incidents": [incident]})).status_code not in (200, 201):
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
    return names


async def _told(receiver: Receiver, status: str, names: Iterable[str]) -> bool:
    told = [each.json for each in receiver.requests]
    return {each["incident_type"] for each in told if each["incident_status"] == status} >= set(names)
