"""An engine that hung is no excuse: what it tried late breaches the objective, and the operator is told."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable

import asyncpg

from tests.calls import alarm, new_server, new_webhook, opened
from tests.receivers import Receiver
from tests.service import Service
from tests.waiting import until
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.postgres.secrets import Vault

MANY = 12


async def test_deliveries_that_a_hung_engine_tried_late_are_an_incident_of_the_operator_and_a_metric(
    service_with: Callable[..., Service], receiver: Receiver, pool: asyncpg.Pool, vault: Vault
) -> None:
    service = service_with(TOCSIN_SLO="90% 1s 30s")
    async with pool.acquire() as tx, tx.transaction():
        made = await accounts.create_operator(tx, vault, operator.UNSET, None, "First project")
    assert made is not None
    service.project = made
    async with service.client() as client:
        resource = await new_server(client)
        await new_webhook(client, receiver.url(), resource)
        assert "tocsin_slo_breached 0.0" in (await client.get("/metrics")).text
        service.engine.signal(signal.SIGSTOP)
        try:
            answer = await opened(client, *(alarm(resource, f"t{number}") for number in range(MANY)))
            assert answer.status_code == 201, answer.text
            await asyncio.sleep(1.5)
        finally:
            service.engine.signal(signal.SIGCONT)
        await receiver.arrivals(MANY, timeout=60)

        async def breach() -> str | None:
            return await pool.fetchval("SELECT message FROM incidents WHERE type = 'slo'")

        message = await until(breach, what="the incident")
        told = re.search(r"(\d+) of (\d+) deliveries of the last 30 s were first tried later than 1 s", message)
        assert told is not None, message
        assert 0 < int(told[1]) == int(told[2]) <= MANY, "as many as were counted by then: a part may end between them"

        async def all_counted() -> bool:
            lines = (await client.get("/metrics")).text.splitlines()
            return "tocsin_slo_breached 1.0" in lines and f"tocsin_slo_late_first_tries {MANY}.0" in lines

        await until(all_counted, timeout=25, what="all of them in the metrics")
