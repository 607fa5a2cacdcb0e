"""Integrations over the API, beyond what the specification prints: changing, masking, rotating, health."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.integration_calls import EMAIL, URL, attached, change, create, made, refused, server
from tests.service import new_project
from tocsin.domain import ids
from tocsin.storage.channels import integrations
from tocsin.storage.delivery import health

# ---------------------------------------------------------------------------------------------------- making, reading


async def test_an_integration_may_be_named_at_creation_and_is_read_back_alone(app_client: httpx.AsyncClient) -> None:
    created = (await create(app_client, name="  On call ")).json()
    assert created["name"] == "On call"
    read = await app_client.get(f"/api/v1/integrations/{created['uuid']}")
    assert (read.status_code, read.json()) == (200, created)


@pytest.mark.parametrize("name", ["", "   ", "two\nlines", "x" * 256, 5, ["a"], "nul\x00", "\x1b[31m"])
async def test_a_name_that_is_no_line_of_text_is_refused(app_client: httpx.AsyncClient, name: Any) -> None:
    refused(await create(app_client, name=name), 422, "invalid_request", "name")
    assert (await app_client.get("/api/v1/integrations")).json() == []


async def test_the_signing_secret_is_told_once_and_never_again(app_client: httpx.AsyncClient) -> None:
    created = await create(app_client)
    secret = created.headers["Tocsin-Webhook-Secret"]
    assert secret.startswith("whsec_")
    uuid = created.json()["uuid"]
    assert created.json()["settings"] == {"webhook_url": URL}
    for answer in (
        await app_client.get(f"/api/v1/integrations/{uuid}"),
        await app_client.get("/api/v1/integrations"),
        await change(app_client, uuid, name="Other"),
    ):
        assert secret not in answer.text
        assert "Tocsin-Webhook-Secret" not in answer.headers
    assert "Tocsin-Webhook-Secret" not in (await create(app_client, EMAIL)).headers


async def test_the_database_holds_no_secret_in_clear(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    secret = (await create(app_client)).headers["Tocsin-Webhook-Secret"]
    row = await pool.fetchrow("SELECT settings, sealed FROM integrations")
    assert row["settings"] == {"webhook_url": URL}
    assert secret.encode() not in row["sealed"]


CALLS = ["read", "change", "delete", "test", "rotate_secret", "attach_all", "health", "enable"]


@pytest.mark.parametrize("call", CALLS)
async def test_what_another_project_has_does_not_exist(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, call: str
) -> None:
    uuid = await made(app_client)
    other = await new_project(pool, vault)
    app_client.headers["Authorization"] = other.api_token
    for each in (uuid, "INT123", "SRV" + uuid[3:], "x"):
        path = f"/api/v1/integrations/{each}"
        match call:
            case "read":
                answer = await app_client.get(path)
            case "change":
                answer = await change(app_client, each, name="Mine")
            case "delete":
                answer = await app_client.delete(path)
            case "health":
                answer = await app_client.get(f"{path}/health")
            case _:
                answer = await app_client.post(f"{path}/{call}")
        refused(answer, 404, "integration_not_found")


# ------------------------------------------------------------------------------------------------------------ changing


async def test_name_and_settings_are_changed_each_for_itself(app_client: httpx.AsyncClient) -> None:
    uuid = await made(app_client)
    named = await change(app_client, uuid, name="On call")
    assert (named.status_code, named.json()["name"], named.json()["settings"]["webhook_url"]) == (200, "On call", URL)
    moved = (await change(app_client, uuid, settings={"webhook_url": "https://other.example.com/"})).json()
    assert (moved["name"], moved["settings"]) == ("On call", {"webhook_url": "https://other.example.com/"})
    unnamed = (await change(app_client, uuid, name=None)).json()
    assert unnamed["name"] == "https://other.example.com/"
    assert (await change(app_client, uuid)).json()["settings"] == moved["settings"]


async def test_a_change_that_cannot_be_accepted_changes_nothing(app_client: httpx.AsyncClient) -> None:
    uuid = await made(app_client)
    before = (await app_client.get(f"/api/v1/integrations/{uuid}")).json()
    bad = await change(app_client, uuid, name="New", settings={"webhook_url": "ftp://x"})
    refused(bad, 422, "invalid_request", "settings.webhook_url")
    refused(await change(app_client, uuid, settings=5), 422, "invalid_request", "settings")
    refused(await app_client.patch(f"/api/v1/integrations/{uuid}", json={}), 400, "invalid_request")
    assert (await app_client.get(f"/api/v1/integrations/{uuid}")).json() == before


async def test_a_change_keeps_the_signing_secret_and_raises_the_version(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    created = await create(app_client)
    uuid = created.json()["uuid"]
    await change(app_client, uuid, settings={"webhook_url": "https://other.example.com/", "signing_secret": "whsec_AA"})
    key = ids.parse(ids.INTEGRATION, uuid)
    assert key is not None
    async with pool.acquire() as tx:
        sendable = (await integrations.sendable(tx, vault, [key]))[key]
    assert sendable.settings["signing_secret"] == created.headers["Tocsin-Webhook-Secret"]
    assert (sendable.version, sendable.blocked, sendable.failure) == (2, None, None)


async def test_secrets_that_cannot_be_opened_are_a_failure_and_not_an_error(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    uuid = await made(app_client)
    await pool.execute("UPDATE integrations SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)")
    key = ids.parse(ids.INTEGRATION, uuid)
    assert key is not None
    async with pool.acquire() as tx:
        assert "cannot be read" in str((await integrations.sendable(tx, vault, [key]))[key].failure)
    assert (await app_client.get(f"/api/v1/integrations/{uuid}")).status_code == 200


async def test_rotation_gives_a_new_secret_and_keeps_the_old_for_a_day(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    created = await create(app_client)
    uuid, old = created.json()["uuid"], created.headers["Tocsin-Webhook-Secret"]
    rotated = await app_client.post(f"/api/v1/integrations/{uuid}/rotate_secret")
    assert rotated.status_code == 200
    assert list(rotated.json()) == ["secret"]
    new = rotated.json()["secret"]
    assert new.startswith("whsec_")
    assert new != old
    key = ids.parse(ids.INTEGRATION, uuid)
    assert key is not None
    async with pool.acquire() as tx:
        settings = (await integrations.sendable(tx, vault, [key]))[key].settings
    assert (settings["signing_secret"], settings["retired_secret"]) == (new, old)


async def test_an_email_has_no_secret_to_rotate(app_client: httpx.AsyncClient) -> None:
    uuid = await made(app_client, EMAIL)
    answer = await app_client.post(f"/api/v1/integrations/{uuid}/rotate_secret")
    refused(answer, 422, "unprocessable_entity")


# ------------------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "224.0.0.1", "[ff02::1]", "0xa9fea9fe"])
async def test_a_literal_that_can_never_be_called_is_refused(app_client: httpx.AsyncClient, host: str) -> None:
    answer = await create(app_client, settings={"webhook_url": f"http://{host}/"})
    refused(answer, 422, "invalid_request", "settings.webhook_url")
    uuid = await made(app_client)
    answer = await change(app_client, uuid, settings={"webhook_url": f"http://{host}/"})
    refused(answer, 422, "invalid_request", "settings.webhook_url")


async def test_what_cannot_be_reached_at_present_is_accepted_with_a_warning(app_client: httpx.AsyncClient) -> None:
    for host, word in (("100.64.0.1", "TOCSIN_ALLOW_NETWORKS"), ("nowhere.invalid", "nowhere.invalid")):
        answer = await create(app_client, settings={"webhook_url": f"http://{host}/"})
        assert answer.status_code == 201
        assert word in answer.headers["Tocsin-Warning"]
    reachable = await create(app_client, settings={"webhook_url": "http://127.0.0.1:9/"})
    assert "Tocsin-Warning" not in reachable.headers


# ----------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("case", [str.lower, str.upper])
async def test_an_account_s_address_is_blocked_until_it_is_verified(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any, case: Any
) -> None:
    owned = await new_project(pool, vault, owner_email="owner@example.com")
    app_client.headers["Authorization"] = owned.api_token
    uuid = await made(app_client, EMAIL, settings={"email": f"{case('owner')}@example.com"})
    stranger = await made(app_client, EMAIL)
    keys = [ids.parse(ids.INTEGRATION, each) for each in (uuid, stranger)]

    async def blocked() -> list[bool]:
        async with pool.acquire() as tx:
            found = await integrations.sendable(tx, vault, [key for key in keys if key])
        return [found[key].blocked is not None for key in keys if key]

    assert await blocked() == [True, False]
    await pool.execute("UPDATE users SET email_verified_at = now()")
    assert await blocked() == [False, False]


# -------------------------------------------------------------------------------------------- testing, health, deletion


async def test_a_test_is_a_delivery_to_follow(app_client: httpx.AsyncClient) -> None:
    uuid = await made(app_client)
    answer = await app_client.post(f"/api/v1/integrations/{uuid}/test")
    assert answer.status_code == 202
    delivery = answer.json()
    assert (delivery["event"], delivery["integration_uuid"]) == ("test", uuid)
    assert (await app_client.get(f"/api/v1/deliveries/{delivery['uuid']}")).json()["uuid"] == delivery["uuid"]


async def test_health_says_how_an_integration_fares(app_client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    uuid = await made(app_client)
    path = f"/api/v1/integrations/{uuid}/health"
    nothing = {"reason": None, "last_delivered_at": None, "failing_since": None, "outstanding": 0}
    assert (await app_client.get(path)).json() == {"status": "ok", **nothing}
    await app_client.post(f"/api/v1/integrations/{uuid}/test")
    assert (await app_client.get(path)).json()["outstanding"] == 1

    key = ids.parse(ids.INTEGRATION, uuid)
    assert key is not None
    async with pool.acquire() as tx, tx.transaction():
        await health.record_results(tx, {}, {key: 3})
    failing = (await app_client.get(path)).json()
    assert failing["status"] == "failing"
    assert failing["failing_since"].endswith("Z")
    async with pool.acquire() as tx, tx.transaction():
        await health.disable(tx, key, "Answered 410: the destination is gone for good")
    disabled = (await app_client.get(path)).json()
    assert (disabled["status"], disabled["reason"]) == ("disabled", "Answered 410: the destination is gone for good")

    enabled = await app_client.post(f"/api/v1/integrations/{uuid}/enable")
    assert (enabled.status_code, enabled.json()["uuid"]) == (200, uuid)
    assert (await app_client.get(path)).json()["status"] == "ok"


async def test_a_success_that_was_under_way_when_its_integration_was_disabled_does_not_enable_it(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    uuid = await made(app_client)
    path = f"/api/v1/integrations/{uuid}/health"
    key = ids.parse(ids.INTEGRATION, uuid)
    assert key is not None
    before = await pool.fetchval("SELECT version FROM integrations WHERE id = $1", key)
    async with pool.acquire() as tx, tx.transaction():
        await health.disable(tx, key, "Answered 410: the destination is gone for good")
        await health.record_results(tx, {key: before}, {})
    assert (await app_client.get(path)).json()["status"] == "disabled"
    after = await pool.fetchval("SELECT version FROM integrations WHERE id = $1", key)
    async with pool.acquire() as tx, tx.transaction():
        await health.record_results(tx, {key: after}, {})
    assert (await app_client.get(path)).json()["status"] == "ok"


async def test_health_says_that_an_address_waits_to_be_verified(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Any
) -> None:
    project = await new_project(pool, vault, owner_email="ann@example.com")
    headers = {"Authorization": f"Bearer {project.api_token}"}
    [system] = (await app_client.get("/api/v1/integrations", headers=headers)).json()
    path = f"/api/v1/integrations/{system['uuid']}/health"
    told = (await app_client.get(path, headers=headers)).json()
    assert told["status"] == "failing"
    assert "ann@example.com" in told["reason"]
    assert "not verified" in told["reason"]
    await pool.execute("UPDATE users SET email_verified_at = now()")
    told = (await app_client.get(path, headers=headers)).json()
    assert (told["status"], told["reason"]) == ("ok", None)


async def test_deleting_suppresses_what_is_outstanding_and_detaches(app_client: httpx.AsyncClient) -> None:
    uuid, machine = await made(app_client), await server(app_client)
    await app_client.post(f"/api/v1/integrations/{uuid}/attach_all")
    delivery = (await app_client.post(f"/api/v1/integrations/{uuid}/test")).json()
    assert (await app_client.delete(f"/api/v1/integrations/{uuid}")).status_code == 204
    ended = (await app_client.get(f"/api/v1/deliveries/{delivery['uuid']}")).json()
    assert (ended["status"], ended["reason"]) == ("suppressed", "integration deleted")
    assert await attached(app_client, machine) == []


# ------------------------------------------------------------------------------------------------------ flood control

FLOOD = {"incidents": 3, "seconds": 600}


async def test_flood_control_is_set_at_creation_or_later_and_shown_where_it_is_not_the_usual(
    app_client: httpx.AsyncClient
) -> None:
    usual = (await create(app_client, EMAIL)).json()
    assert "flood" not in usual
    assert (await create(app_client, EMAIL, flood=FLOOD)).json()["flood"] == FLOOD
    for given, shown in ((FLOOD, FLOOD), (None, None)):
        answer = (await change(app_client, usual["uuid"], flood=given)).json()
        read = (await app_client.get(f"/api/v1/integrations/{usual['uuid']}")).json()
        assert (answer["flood"], read["flood"]) == (shown, shown)
    renamed = (await change(app_client, usual["uuid"], name="Ann", flood={"incidents": 10, "seconds": 300})).json()
    assert renamed["name"] == "Ann"
    assert "flood" not in renamed


@pytest.mark.parametrize(
    ("flood", "field"),
    [
        ({"incidents": 3}, "flood"), ([], "flood"), ("10", "flood"),
        ({"incidents": 0, "seconds": 60}, "flood.incidents"),
        ({"incidents": 3, "seconds": 0}, "flood.seconds"), ({"incidents": True, "seconds": 60}, "flood.incidents"),
        ({"incidents": 3, "seconds": 86_401}, "flood.seconds"),
    ],
)  # fmt: skip
async def test_flood_control_that_is_none_is_refused(app_client: httpx.AsyncClient, flood: Any, field: str) -> None:
    refused(await create(app_client, EMAIL, flood=flood), 422, "invalid_request", field)
    uuid = (await create(app_client, EMAIL)).json()["uuid"]
    refused(await change(app_client, uuid, flood=flood), 422, "invalid_request", field)


async def test_what_nobody_reads_has_no_flood_control(app_client: httpx.AsyncClient) -> None:
    refused(await create(app_client, flood=FLOOD), 422, "invalid_request", "flood")
    uuid = (await create(app_client)).json()["uuid"]
    refused(await change(app_client, uuid, name="Other", flood=FLOOD), 422, "invalid_request", "flood")
    assert (await app_client.get(f"/api/v1/integrations/{uuid}")).json()["name"] != "Other"
    assert "flood" not in (await app_client.get(f"/api/v1/integrations/{uuid}")).json()


async def test_flood_control_of_the_owner_s_own_address_can_be_changed_and_nothing_else(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    project = await pool.fetchval("SELECT id FROM projects")
    async with pool.acquire() as tx, tx.transaction():
        uuid = ids.public(ids.INTEGRATION, await integrations.insert_system(tx, project, "ann@example.com"))
    assert (await change(app_client, uuid, flood=FLOOD)).json()["flood"] == FLOOD
    assert (await change(app_client, uuid, name="Ann", flood=None)).status_code == 422
    assert (await app_client.get(f"/api/v1/integrations/{uuid}")).json()["flood"] == FLOOD
