"""A cluster loses its primary, in every way, while incidents are opened: nothing accepted is lost, nobody hangs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.cluster.load import Load
from tests.cluster.nodes import Node
from tests.cluster.wires import Wire
from tests.promise_scene import PATIENT, scene
from tests.receivers import Receiver
from tests.service import service_on, started
from tests.waiting import until

ANSWERED_IN = 2.0
"""Seconds in which each caller has an answer."""
WRITES_AGAIN_IN = 3.0
"""Seconds after the promotion."""
ENDS_IN = 10.0
BUSY = 2.0
"""Seconds that a machine busy with other things may add to the first two: what they were is in the summary."""

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
        await until(lambda: _true(len(load.good_since(0)) >= 20), what="20 openings")

        lost = time.monotonic()
        _make(trouble, primary, wires[0])
        await asyncio.sleep(2.5)  # as long as somebody takes to notice, and to promote the other one
        in_flight = 20 + load.under_way
        began = time.monotonic()
        await standby.promote()
        promoted = time.monotonic()
        await until(lambda: _true(load.good_since(began)), timeout=30, what=lambda: _tail(load))
        again = load.good_since(began)[0].ended - promoted
        await until(lambda: _true(len(load.good_since(promoted)) >= 20), timeout=30, what="20 openings more")
        if trouble == FREEZE:
            primary.thaw()
            await asyncio.sleep(1)
        await load.end()
        looking.cancel()
        assert not [words for words in health if "No engine" in words], "it only could not say that it lives"
        assert any("database" in words for words in health)

        slow = [call for call in load.calls if call.took > ANSWERED_IN + BUSY]
        assert not slow, [(round(call.began - lost, 2), call) for call in slow[:5]]
        assert {call.status for call in load.calls} <= {200, 201, 503}, Counter(call.status for call in load.calls)
        refused = [call for call in load.calls if call.status == 503]
        assert all(call.retry_after for call in refused)
        assert again <= WRITES_AGAIN_IN + BUSY, again

        accepted = {call.name for call in load.calls if call.good}
        kept = {row["type"] for row in await standby.run("SELECT type FROM ongoing")}
        assert accepted <= kept, f"lost: {sorted(accepted - kept)}"
        await until(
            lambda: _true({each.json["incident_type"] for each in receiver.requests} >= kept), timeout=30,
            what=lambda: f"{len(kept)} deliveries; there are {len({each.id for each in receiver.requests})}",
        )  # fmt: skip
        repeated = sum(Counter(each.id for each in receiver.requests).values()) - len(
            {each.id for each in receiver.requests}
        )
        assert repeated <= in_flight

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


async def _true(what: object) -> bool:
    return bool(what)


def _tail(load: Load) -> str:
    return f"an opening after the promotion; the last ones: {load.calls[-3:]}"
