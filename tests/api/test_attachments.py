"""Who is told of what: integrations attached to servers and monitors, to one or to all."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration_calls import EMAIL, attached, change, made, monitor, refused, server
from tests.service import new_project
from tocsin.domain import ids
from tocsin.domain.attachments import Attachment
from tocsin.storage.channels import attachments


@pytest.mark.parametrize("make", [server, monitor])
async def test_attaching_and_detaching(app_client: httpx.AsyncClient, make: Any) -> None:
    resource = await make(app_client)
    noun = "server" if make is server else "network_monitor"
    path = f"/api/v1/{noun}s/{resource}/integrations"
    uuid = await made(app_client)
    assert await attached(app_client, resource) == []
    for status in (201, 200):
        answer = await app_client.post(path, json={"integration_id": uuid})
        assert (answer.status_code, answer.json()["uuid"]) == (status, uuid)
    assert await attached(app_client, resource) == [uuid]
    assert (await app_client.delete(f"{path}/{uuid}")).status_code == 204
    refused(await app_client.delete(f"{path}/{uuid}"), 404, "integration_not_found")
    refused(await app_client.post(path, json={"integration_id": "INT456"}), 404, "integration_not_found")
    refused(await app_client.post(path, json={"integration_id": 5}), 422, "invalid_request", "integration_id")
    refused(await app_client.post(path, json={}), 422, "invalid_request", "integration_id")
    nowhere = f"/api/v1/{noun}s/{uuid}/integrations"
    refused(await app_client.get(nowhere), 404, f"{noun}_not_found")
    refused(await app_client.post(nowhere, json={"integration_id": uuid}), 404, f"{noun}_not_found")
    refused(await app_client.delete(f"{nowhere}/{uuid}"), 404, f"{noun}_not_found")


async def test_nothing_is_attached_across_projects(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    mine, own = await made(app_client), await server(app_client)
    other = await new_project(pool, vault)
    app_client.headers["Authorization"] = other.api_token
    theirs = await server(app_client, "two")
    answer = await app_client.post(f"/api/v1/servers/{theirs}/integrations", json={"integration_id": mine})
    refused(answer, 404, "integration_not_found")
    uuid = await made(app_client)
    answer = await app_client.post(f"/api/v1/servers/{own}/integrations", json={"integration_id": uuid})
    refused(answer, 404, "server_not_found")


async def test_attached_to_all_means_those_to_come_too(app_client: httpx.AsyncClient) -> None:
    uuid = await made(app_client)
    before = [await server(app_client), await monitor(app_client)]
    for _ in range(2):
        answer = await app_client.post(f"/api/v1/integrations/{uuid}/attach_all")
        assert (answer.status_code, answer.json()["uuid"]) == (200, uuid)
    after = [await server(app_client, "later"), await monitor(app_client, "https://later.example.com")]
    for resource in before + after:
        assert await attached(app_client, resource) == [uuid]


async def test_attaching_to_all_misses_nothing_that_is_being_made(
    pool: asyncpg.Pool, vault: Any, project: Any, app_client: httpx.AsyncClient
) -> None:
    """A server whose transaction has begun, but not ended, when the integration is attached to all."""
    uuid = await made(app_client)
    key, resource = ids.parse(ids.INTEGRATION, uuid), ids.new()
    assert key is not None

    async def attach_all() -> None:
        async with pool.acquire() as tx, tx.transaction():
            await attachments.attach_all(tx, vault, project.id, key, Attachment(), for_people=False)

    async with pool.acquire() as tx, tx.transaction():
        await attachments.attach_new_resource(tx, project.id, resource)
        await tx.execute(
            "INSERT INTO servers (id, project_id, motherboard_id, agent_version, alerts)"
            " VALUES ($1, $2, 'm', '1', '{}')",
            resource, project.id,
        )  # fmt: skip
        meanwhile = asyncio.create_task(attach_all())
        await asyncio.wait({meanwhile}, timeout=0.3)
        assert not meanwhile.done()
    await meanwhile
    assert await pool.fetchval("SELECT integration_id FROM attachments WHERE resource_id = $1", resource) == key


async def test_the_owner_s_address_is_attached_to_all_and_cannot_be_changed(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    owned = await new_project(pool, vault, owner_email="Owner@example.com")
    app_client.headers["Authorization"] = owned.api_token
    [system] = (await app_client.get("/api/v1/integrations")).json()
    assert (system["type"], system["editable"], system["deletable"]) == (EMAIL, False, False)
    assert await attached(app_client, await server(app_client)) == [system["uuid"]]
    refused(await change(app_client, system["uuid"], name="Mine"), 422, "unprocessable_entity")
    refused(await change(app_client, system["uuid"], settings={"email": "x"}), 422, "unprocessable_entity")
    deleted = await app_client.delete(f"/api/v1/integrations/{system['uuid']}")
    assert (deleted.status_code, deleted.json()) == (422, {"error": "This integration cannot be deleted."})
