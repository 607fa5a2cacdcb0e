"""Trying a check by the API: its whole answer, nothing saved, secrets masked, a limit, and not for readers."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.api.test_user_tokens import token_of
from tests.receivers import Answer, Receiver
from tocsin.actions import monitor_tries
from tocsin.checks.base import MASK

PATH = "/api/v1/network_monitors"


async def try_(client: httpx.AsyncClient, **monitor: Any) -> httpx.Response:
    return await client.post(f"{PATH}/try", json={"network_monitor": monitor})


async def test_a_good_check_answers_with_all_that_it_saw_and_nothing_is_saved(
    app_client: httpx.AsyncClient, receiver: Receiver, pool: asyncpg.Pool
) -> None:
    receiver.otherwise = Answer(200, body=b"<b>all is well</b>")
    answer = await try_(app_client, url=receiver.url("/shop"), keyword="all is well")
    assert answer.status_code == 200
    tried = answer.json()
    assert (tried["ok"], tried["problem"], tried["message"], tried["status_code"]) == (True, None, None, 200)
    assert tried["response_ms"] > 0
    assert tried["summary"].startswith("This check is good after ")
    assert tried["body"] == "<b>all is well</b>"
    assert tried["findings"] == []
    assert tried["evidence"]["request"] == f"GET {receiver.url('/shop')}"
    assert tried["evidence"]["response"].startswith("200 ")
    assert "18" in tried["evidence"]["response_headers"].values()
    assert (await app_client.get(PATH)).json()["meta"]["total_count"] == 0
    assert await pool.fetchval("SELECT count(*) FROM checks") == 0


async def test_a_failed_check_says_what_is_wrong(app_client: httpx.AsyncClient, receiver: Receiver) -> None:
    receiver.otherwise = Answer(200, body=b'{"status": "down"}')
    tried = (await try_(app_client, url=receiver.url("/"), json_path="$.status", json_value="up")).json()
    assert (tried["ok"], tried["problem"]) == (False, "content")
    assert tried["message"] == '$.status is "down", expected "up"'
    assert tried["summary"].endswith(f" ms: {tried['message']}")
    assert tried["body"] == '{"status": "down"}'
    receiver.refuse()
    tried = (await try_(app_client, url=receiver.url("/"))).json()
    assert (tried["problem"], tried["status_code"], tried["response_ms"]) == ("connection_error", None, None)
    assert tried["summary"] == "This check failed: Connection refused"


async def test_secrets_are_used_and_masked_even_where_the_site_repeats_them(
    app_client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(200, body=b"you said tok-of-a-monitor", headers={"X-Echo": "tok-of-a-monitor"})
    answer = await try_(app_client, url=receiver.url("/"), token="tok-of-a-monitor")
    assert receiver.requests[0].headers["authorization"] == "Bearer tok-of-a-monitor"
    assert "tok-of-a-monitor" not in answer.text
    assert answer.json()["body"] == f"you said {MASK}"


@pytest.mark.parametrize(
    ("monitor", "field"),
    [
        ({}, "url"), ({"url": "http://169.254.169.254/"}, "url"),
        ({"url": "tcp://127.0.0.1:9", "keyword": "x"}, "keyword"),
        ({"url": "http://127.0.0.1:9/", "interval": 0}, "interval"),
        ({"url": "http://127.0.0.1:9/", "check_type": "x"}, "check_type"),
    ],
)  # fmt: skip
async def test_what_could_not_be_monitored_cannot_be_tried(
    app_client: httpx.AsyncClient, monitor: dict[str, Any], field: str
) -> None:
    answer = await try_(app_client, **monitor)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["details"]] == [field]


async def test_so_many_checks_may_be_tried_at_once(app_client: httpx.AsyncClient, receiver: Receiver) -> None:
    receiver.refuse()
    for _ in range(monitor_tries.LIMIT.tries):
        assert (await try_(app_client, url=receiver.url("/"))).status_code == 200
    answer = await try_(app_client, url=receiver.url("/"))
    assert answer.status_code == 429
    assert answer.json()["message"].startswith("Too many checks were tried. Try again in ")
    assert int(answer.headers["Retry-After"]) > 0


async def test_readers_may_try_none(
    app_client: httpx.AsyncClient, receiver: Receiver, pool: asyncpg.Pool, vault: Any, project: Any
) -> None:
    app_client.headers["Authorization"] = f"Bearer {await token_of(pool, vault, project, 'reader')}"
    assert (await try_(app_client, url=receiver.url("/"))).status_code == 403
    assert receiver.requests == []
