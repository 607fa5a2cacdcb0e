"""What tests of replays ask of the API: what was missed, sent again and watched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx

from tests.promise_scene import Scene
from tests.receivers import Receiver
from tests.service import Service
from tests.waiting import until
from tocsin.domain import ids

DOWN = "UPDATE integrations SET disabled_at = now(), disabled_reason = 'down' WHERE id = $1"
DEAD = "UPDATE finished SET status = 'dead', reason = 'Answered 500 (after 11 attempts)' WHERE integration_id = $1"
UP = "UPDATE integrations SET disabled_at = NULL, disabled_reason = NULL WHERE id = $1"


@asynccontextmanager
async def down(service: Service, stage: Scene) -> AsyncIterator[None]:
    """What is notified in here could not be delivered to `hook`, as if all attempts had been made in no time."""
    connection = await asyncpg.connect(service.database)
    key = ids.key_of(ids.INTEGRATION, stage.integrations["hook"])
    try:
        await connection.execute(DOWN, key)
        yield
        await connection.execute(DEAD, key)
        await connection.execute(UP, key)
    finally:
        await connection.close()


async def order(client: httpx.AsyncClient, integration: str, **changes: Any) -> httpx.Response:
    """Ask for all that could not be delivered in the last days, or as the `changes` say."""
    start = (await client.get(f"/api/v1/integrations/{integration}")).json()["created_at"]
    return await client.post(f"/api/v1/integrations/{integration}/redeliver", json={"from": start, **changes})


async def replayed(client: httpx.AsyncClient, integration: str, **changes: Any) -> dict[str, Any]:
    """The replay that was started."""
    answer = await order(client, integration, **changes)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def read(client: httpx.AsyncClient, uuid: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/replays/{uuid}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def ended(client: httpx.AsyncClient, uuid: str, state: str = "finished") -> dict[str, Any]:
    """The replay, once it is in that state and all that it queued has finished."""

    async def look() -> dict[str, Any] | None:
        found = await read(client, uuid)
        settled = found["queued"] == found["delivered"] + found["dead"] + found["suppressed"]
        return found if found["state"] == state and settled else None

    return await until(look, what=f"the end of {uuid}")


def accepted(receiver: Receiver) -> list[tuple[str, str]]:
    """What the receiver took, in order: type and status of the incident."""
    return [
        (request.json["incident_type"], request.json["incident_status"])
        for request in list(receiver.requests) if request.accepted
    ]  # fmt: skip
