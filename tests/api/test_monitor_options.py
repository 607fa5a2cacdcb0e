"""Options of checks over the API: secret ones masked and kept, unknown ones refused, each mistake named."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.api.test_network_monitors import PATH, change, make
from tocsin.checks.base import MASK
from tocsin.storage.monitoring import due_checks
from tocsin.storage.postgres.secrets import Vault

SECRETS = {"headers": {"X-Api-Key": "s3ntinel-h3ader", "Accept": "text/plain"}, "token": "s3ntinel-t0ken"}


async def options(pool: asyncpg.Pool, vault: Vault) -> dict[str, Any]:
    """Those that an engine gets with a check."""
    await pool.execute("UPDATE monitor_states SET due_at = now()")
    async with pool.acquire() as tx, tx.transaction():
        (due,) = await due_checks.claim_due(tx, vault, 10)
    return dict(due.target.options)


async def test_every_option_is_kept_and_shown(app_client: httpx.AsyncClient) -> None:
    given = {
        "method": "POST", "body": '{"a": 1}', "expected_status": [200, 201], "keyword": "well",
        "keyword_absent": "error", "json_path": "$.status", "json_value": "ok", "max_response_ms": 500,
        "follow_redirects": False, "verify_tls": False, "ip_version": 4, "tls_days": 14,
    }  # fmt: skip
    made = await make(app_client, **given)
    assert {name: made[name] for name in given} == given
    shown = (await app_client.get(f"{PATH}/{made['uuid']}")).json()
    assert {name: shown[name] for name in given} == given
    assert (shown["headers"], shown["token"]) == (None, None)
    again = (await change(app_client, made, json_value=5, max_response_ms=None, verify_tls=None)).json()
    assert (again["json_value"], again["max_response_ms"], again["verify_tls"]) == (5, None, True)
    port = await make(app_client, url="tcp://127.0.0.1:9", send="PING\r\n", expect="PONG", tls=True, ip_version=4)
    assert (port["send"], port["expect"], port["tls"], port["ip_version"]) == ("PING\r\n", "PONG", True, 4)
    assert "method" not in port


async def test_secrets_are_masked_encrypted_and_kept_where_the_mask_comes_back(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault
) -> None:
    made = await make(app_client, **SECRETS)
    assert made["headers"] == {"X-Api-Key": MASK, "Accept": MASK}
    assert made["token"] == MASK
    stored = await pool.fetchrow("SELECT options, sealed FROM network_monitors ORDER BY number DESC")
    assert stored["sealed"] is not None
    assert "s3ntinel" not in f"{stored['options']} {stored['sealed']!r}"
    changed = await change(app_client, made, headers={"x-api-key": MASK, "X-More": "more"}, token=MASK, name="Shop")
    assert changed.status_code == 200, changed.text
    assert changed.json()["headers"] == {"x-api-key": MASK, "X-More": MASK}
    now = await options(pool, vault)
    assert now["headers"] == {"x-api-key": "s3ntinel-h3ader", "X-More": "more"}
    assert now["token"] == "s3ntinel-t0ken"
    assert (await change(app_client, made, headers=None, token=None)).json()["headers"] is None
    assert "token" not in await options(pool, vault)
    logged = await pool.fetchval("SELECT string_agg(a::text, ' ') FROM audit a")
    assert "s3ntinel" not in logged


async def test_a_mask_for_a_header_that_is_not_there_is_refused(app_client: httpx.AsyncClient) -> None:
    made = await make(app_client, headers={"X-Api-Key": "a"})
    refused = await change(app_client, made, headers={"X-Other": MASK})
    assert refused.status_code == 422
    assert refused.json()["details"][0]["field"] == "headers"


@pytest.mark.parametrize("kept", [{}, {"token": MASK}], ids=["left out", "masked"])
@pytest.mark.parametrize("url", ["http://127.0.0.2:9/", "http://127.0.0.1:10/", "https://127.0.0.1:9/"])
async def test_secrets_do_not_move_to_another_place_unseen(
    app_client: httpx.AsyncClient, url: str, kept: dict[str, Any]
) -> None:
    made = await make(app_client, token="s3ntinel-t0ken")
    refused = await change(app_client, made, url=url, **kept)
    assert refused.status_code == 422
    assert refused.json()["details"] == [
        {"field": "token", "message": "must be given again, or be null, because the address leads somewhere else"}
    ]
    assert (await change(app_client, made, url="http://127.0.0.1:9/other/path", **kept)).status_code == 200
    assert (await change(app_client, made, url=url, token="an0ther")).status_code == 200


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"method": "BREW"}, "method"),
        ({"headers": ["X"]}, "headers"),
        ({"headers": {"X": 5}}, "headers"),
        ({"headers": {"Connection": "x"}}, "headers"),
        ({"json_path": "status"}, "json_path"),
        ({"json_path": 5}, "json_path"),
        ({"json_value": {"a": 1}, "json_path": "$"}, "json_value"),
        ({"max_response_ms": 0.5}, "max_response_ms"),
        ({"max_response_ms": True}, "max_response_ms"),
        ({"follow_redirects": "no"}, "follow_redirects"),
        ({"ip_version": 5}, "ip_version"),
        ({"tls_days": 1000}, "tls_days"),
        ({"expect": "220"}, "expect"),
        ({"url": "tcp://127.0.0.1:9", "method": "GET"}, "method"),
        ({"url": "tcp://127.0.0.1:9", "verify_tls": False}, "verify_tls"),
        ({"url": "tcp://127.0.0.1:9", "expect": ""}, "expect"),
        ({"url": "tcp://[::1]:9", "ip_version": 4}, "ip_version"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_mistake_is_answered_with_the_name_of_its_field(
    app_client: httpx.AsyncClient, given: dict[str, Any], field: str
) -> None:
    answer = await app_client.post(PATH, json={"network_monitor": {"url": "http://127.0.0.1:9/", **given}})
    assert answer.status_code == 422, answer.text
    assert answer.json()["details"][0]["field"].partition("[")[0].removeprefix("network_monitor.") == field, answer.text


async def test_options_are_described_where_the_interface_is(app_client: httpx.AsyncClient) -> None:
    document = (await app_client.get("/api/v1/openapi.json")).json()
    properties = document["components"]["schemas"]["MonitorFields"]["properties"]
    for name in ("method", "headers", "json_path", "max_response_ms", "verify_tls", "tls_days", "send", "expect"):
        assert properties[name].get("description"), name


