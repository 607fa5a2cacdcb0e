"""A job that stops reporting, with everything real: the pings, the engine, and the webhook that is told."""

from __future__ import annotations

import httpx

from tests.calls import new_webhook
from tests.heartbeat_scene import has_status, incidents_of, new_heartbeat
from tests.receivers import Receiver
from tests.waiting import until


async def test_a_missed_job_is_told_and_so_is_its_return(client: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await new_heartbeat(client, name="Backup", period=1, grace=1)
    webhook = await new_webhook(client, receiver.url("/hook"))
    attach = {"integration_id": webhook}
    answer = await client.post(f"/api/v1/heartbeats/{made['uuid']}/integrations", json=attach)
    assert answer.status_code == 201, answer.text
    async with httpx.AsyncClient(trust_env=False, timeout=60) as job:
        await job.get(made["ping_url"])
        down = await has_status(client, made, "down")
        assert len(down["open_incident_uuids"]) == 1
        await job.get(made["ping_url"])
        await has_status(client, made, "up")

    async def told() -> bool:
        return len(receiver.requests) >= 2

    await until(told, what="both notifications")
    missed, over = (request.json for request in receiver.requests[:2])
    assert missed["incident_type"] == "missed"
    assert missed["resource_type"] == "Heartbeat"
    assert missed["resource_name"] == "Backup"
    assert missed["resource_url"].endswith(f"/heartbeats/{made['uuid']}")
    assert "It has not reported: it was due at" in missed["incident_message"]
    assert (missed["incident_status"], over["incident_status"]) == ("ongoing", "resolved")
    assert made["ping_url"].rpartition("/")[2] not in receiver.requests[0].body.decode()
    assert {each["incident_type"] for each in await incidents_of(client, made)} == {"missed"}


async def test_a_run_that_hangs_is_told(client: httpx.AsyncClient) -> None:
    made = await new_heartbeat(client, name="Hanging", period=3_600, grace=1)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as job:
        await job.get(f"{made['ping_url']}/start")
        await has_status(client, made, "down")
        (incident,) = await incidents_of(client, made)
        assert incident["incident_type"] == "overrun"
        await job.get(f"{made['ping_url']}/0")
        await has_status(client, made, "up")
