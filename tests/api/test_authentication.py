"""Who is calling: what is taken for a token, and what a reader's may do."""

from __future__ import annotations

from typing import Any

import asyncpg
import httpx
import pytest

from tests.users import bearer
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres.secrets import Vault


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", "{}", " {} "])
async def test_a_token_is_accepted_with_the_word_bearer_and_without(
    app_client: httpx.AsyncClient, project: Any, form: str
) -> None:
    header = {"Authorization": form.format(project.api_token)}
    assert (await app_client.get("/api/v1/integrations", headers=header)).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer tcp_nobody", "tcp_nobody", "Basic {}", "Bearer {} {}", "Bearer {}x", "{}{}"],
)
async def test_without_a_good_token_the_answer_is_401(app_client: httpx.AsyncClient, project: Any, header: str) -> None:
    token = project.api_token
    answer = await app_client.get("/api/v1/integrations", headers={"Authorization": header.format(token, token)})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"] == "unauthorized"
    assert answer.json()["details"] == []
    assert token not in answer.text


async def test_a_reader_may_look_but_not_change(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        reader = await accounts.ensure_user(tx, "reader@example.com")
        await tx.execute(accounts.INSERT_MEMBER, project.id, reader.id, "reader")
        token = str(await sessions.begin(tx, vault, reader))
    assert (await app_client.get("/api/v1/integrations", headers=bearer(token))).status_code == 200
    webhook = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://example.com/hook"}}
    answer = await app_client.post("/api/v1/integrations", json={"integration": webhook}, headers=bearer(token))
    assert answer.status_code == 403
    assert answer.json()["error"] == "forbidden"
    (listed,) = (await app_client.get("/api/v1/projects", headers=bearer(token))).json()
    assert listed["api_token"] is None
