"""A storm of alerts while the service is killed: whoever sends until it is taken loses none, and none is told twice."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx

from tests.api.test_source_intake import alert
from tests.api.test_sources import made
from tests.calls import attach_to_all, integration
from tests.receivers import Receiver
from tests.service import Service
from tests.waiting import until

BODIES, ALERTS = 40, 50


async def send(http: httpx.AsyncClient, url: str, body: list[dict[str, Any]]) -> None:
    """Until it is taken, as Prometheus goes on to do."""

    async def taken() -> bool:
        try:
            answer = await http.post(url, json=body)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    await until(taken, what="a body to be taken")


async def test_a_storm_loses_no_alert_and_tells_none_twice_while_the_service_is_killed(
    own_service: Service, receiver: Receiver
) -> None:
    own_service.project = await own_service.new_project()
    async with own_service.client() as client:
        source = await made(client, "alertmanager")
        await attach_to_all(client, await integration(client, "WebhookIntegration", webhook_url=receiver.url()))
        url = f"{source['url']}/api/v2/alerts"
        bodies = [[alert(instance=f"{number}-{index}") for index in range(ALERTS)] for number in range(BODIES)]
        sending = [asyncio.create_task(send(client, url, body)) for body in bodies]
        await receiver.arrivals(50, timeout=60)
        own_service.api.kill()
        own_service.engine.kill()
        await asyncio.to_thread(own_service.start)
        await asyncio.gather(*sending)
    connection = await asyncpg.connect(own_service.database)
    try:
        found = await connection.fetchrow("SELECT count(*), count(DISTINCT dedup_key) FROM incidents")
        assert tuple(found) == (BODIES * ALERTS, BODIES * ALERTS)
        waiting = "SELECT count(*) = 0 FROM outstanding"
        await until(lambda: connection.fetchval(waiting), what="all deliveries to end")
        assert await connection.fetchval("SELECT count(*) FROM finished WHERE status = 'delivered'") == BODIES * ALERTS
    finally:
        await connection.close()
    assert len({each.id for each in receiver.to("/hook")}) == BODIES * ALERTS
