"""Connecting Slack from the console, as somebody with a browser does it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import asyncpg
import httpx
import pytest

from tests.api.test_slack import environ
from tests.slack_server import SlackServer
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres.secrets import Vault

__all__ = ["environ"]


@pytest.fixture
def browser(visitor: httpx.AsyncClient) -> httpx.AsyncClient:
    visitor.follow_redirects = True
    return visitor


async def sign_in(
    browser: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any, role: str = "owner"
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        user = await tx.fetchval("INSERT INTO users (email) VALUES ('ann@example.com') RETURNING id")
        member = "INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, $3)"
        await tx.execute(member, project.id, user, role)
        ann = await accounts.user_by_id(tx, user)
        assert ann
        token = await sessions.begin(tx, vault, ann, "a browser")
        assert token
        browser.cookies.set("tocsin", token, domain="tocsin.test")


def field(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found
    return found[1]


async def test_a_channel_is_connected_from_the_integrations_page_and_back(
    browser: httpx.AsyncClient, slack: SlackServer, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    await sign_in(browser, pool, vault, project)
    listed = await browser.get("/integrations")
    assert listed.status_code == 200
    on = await browser.post("/integrations/slack", data={"csrf": field(listed.text)})
    assert on.status_code == 200
    found = re.search(rf'href="({re.escape(slack.url)}[^"]+)"', on.text)
    assert found
    back = await browser.get(slack.consent(unescape(found[1]), slack.workspace()))
    assert back.url.path == "/integrations"
    assert back.text.count("My Workspace #alerts") >= 2  # in the list, and what happened
    assert "is connected" in back.text


async def test_a_form_without_our_mark_begins_nothing(
    browser: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    await sign_in(browser, pool, vault, project)
    assert (await browser.post("/integrations/slack", data={"csrf": "x"})).status_code == 403
    assert await pool.fetchval("SELECT count(*) FROM slack_states") == 0


async def test_a_reader_connects_nothing(
    browser: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, project: Any
) -> None:
    await sign_in(browser, pool, vault, project, "reader")
    listed = await browser.get("/integrations")
    assert (await browser.post("/integrations/slack", data={"csrf": field(listed.text)})).status_code == 403
    assert await pool.fetchval("SELECT count(*) FROM slack_states") == 0


async def test_who_is_not_signed_in_is_told_too_what_became_of_it(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/auth/slack/callback?code=1&state=old")
    assert answer.url.path == "/sign-in"
    assert "Slack was not connected" in answer.text
