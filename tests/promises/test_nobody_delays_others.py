"""The fourth promise: a slow or dead destination delays no other."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.promise_scene import TROUBLES, scene
from tests.receivers import Receiver
from tests.service import Service


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "answers 500"])
async def test_a_dead_destination_delays_no_other(
    own_service: Service, new_receiver: Callable[[], Receiver], trouble: str
) -> None:
    dead, fine = new_receiver(), new_receiver()
    answer = TROUBLES[trouble]
    if answer is None:
        dead.refuse()
    else:
        dead.otherwise = answer
    async with own_service.client() as client:
        stage = await scene(client, {"dead": dead.url()})
        for start in range(0, 1000, 500):
            await stage.open(500, start)
        settings = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": fine.url()}}
        created = await client.post("/api/v1/integrations", json={"integration": settings})
        await client.post(f"/api/v1/integrations/{created.json()['uuid']}/attach_all")
        waits = []
        for number in range(20):
            asked = time.monotonic()
            await stage.open(1, start=5000 + number)
            arrived = await fine.arrivals(number + 1, timeout=5)
            waits.append(arrived[number].monotonic - asked)
    assert sorted(waits)[-2] < 1.0, [f"{wait:.3f}" for wait in waits]
