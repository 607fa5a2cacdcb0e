"""What tests of replays ask of the API: what was missed, sent again and watched."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx

from tests.promise_scene import Scene
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.waiting import until
from tocsin.domain import ids

DOWN = Answer(status=500)

GIVE_UP = """
WITH ended AS (DELETE FROM outstanding WHERE integration_id = $1 RETURNING *)
INSERT INTO finished (id, project_id, integration_id, integration_type, incident_id, event, status, reason, attempt,
                      attempts, created_at, finished_at)
SELECT id, project_id, integration_id, integration_type, incident_id, event, 'dead', 'Answered 500', attempt, attempts,
       created_at, now()
FROM ended
"""


async def missed(service: Service, stage: Scene, count: int) -> list[dict[str, Any]]:
    """The deliveries to `hook`, which is down, given up at once instead of after the last attempt."""
    connection = await asyncpg.connect(service.database)
    try:
        await connection.execute(GIVE_UP, ids.key_of(ids.INTEGRATION, stage.integrations["hook"]))
    finally:
        await connection.close()
    return await stage.ended("hook", count)


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
