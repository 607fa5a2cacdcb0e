"""Connecting Slack by consent: as the specification prints it, and every way in which it must not work."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio

from tests.service import PUBLIC_URL, in_this_process, new_project
from tests.slack_server import CLIENT_ID, SlackServer
from tests.slack_workspace import Workspace
from tocsin.actions import slack as actions
from tocsin.actions.base import Actor
from tocsin.actions.slack import Consent
from tocsin.domain import ids
from tocsin.settings import Settings
from tocsin.storage import audit
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres.database import transaction
from tocsin.storage.postgres.secrets import Vault

INITIATE = "/api/v1/integrations/slack/initiate"


@pytest.fixture
def environ(environ: dict[str, str], slack: SlackServer) -> dict[str, str]:
    return {**environ, **slack.environ()}


@pytest.fixture
def browser(visitor: httpx.AsyncClient) -> httpx.AsyncClient:
    """A browser that is not signed in."""
    return visitor


async def way(client: httpx.AsyncClient) -> dict[str, str]:
    answer = await client.post(INITIATE)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def made(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return [each for each in (await client.get("/api/v1/integrations")).json() if "Slack" in each["type"]]


def told(answer: httpx.Response) -> tuple[str, bool]:
    """What the integrations page will say, and whether it is good news."""
    assert (answer.status_code, answer.headers["location"]) == (303, "/integrations")
    said, good = json.loads(base64.urlsafe_b64decode(answer.cookies["said"].strip('"')))
    return said, good


# ------------------------------------------------------------------------------------------------------- as printed


async def test_initiate_answers_as_printed(app_client: httpx.AsyncClient, project: Any) -> None:
    answer = await app_client.post(INITIATE, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    said = answer.json()
    assert list(said) == ["oauth_url", "state", "redirect_uri"]
    uuid = ids.public(ids.PROJECT, project.id)
    assert said["redirect_uri"] == f"{PUBLIC_URL}/auth/slack/callback?project_uuid={uuid}"
    url = urlsplit(said["oauth_url"])
    assert url.path == "/oauth/v2/authorize"
    assert re.match(r"client_id=[^&]+&redirect_uri=[^&]+&state=[^&]+", url.query)
    assert dict(parse_qsl(url.query)) == {
        "client_id": CLIENT_ID, "redirect_uri": said["redirect_uri"], "state": said["state"],
        "scope": "chat:write,incoming-webhook", "user_scope": "channels:write",
    }  # fmt: skip


async def test_consent_makes_the_integration_as_printed(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    answer = await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace))
    said, good = told(answer)
    assert good
    assert "My Workspace #alerts" in said
    [integration] = await made(app_client)
    assert integration == {
        "uuid": integration["uuid"],
        "type": "Integrations::SlackIntegration",
        "name": "My Workspace #alerts",
        "settings": {
            "bot_token": "xoxb-...",
            "user_token": "xoxp-...",
            "channel_id": workspace.channel_id,
            "webhook_url": "https://hooks.slack.com/services/...",
            "bot_user_id": workspace.bot_user_id,
        },
        "editable": False,
        "deletable": True,
        "created_at": integration["created_at"],
        "updated_at": integration["updated_at"],
    }
    assert list(integration["settings"]) == ["bot_token", "user_token", "channel_id", "webhook_url", "bot_user_id"]
    assert workspace.bot_user_id in workspace.members


async def test_tokens_and_webhook_url_are_encrypted_in_the_database(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    pool: asyncpg.Pool,
) -> None:
    await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace))
    rows = str([tuple(row) for row in await pool.fetch("SELECT * FROM integrations")])
    assert workspace.channel_id in rows
    for secret in (workspace.bot_token, workspace.user_token, "h00k-s3cret"):
        assert secret not in rows


async def test_a_slack_integration_cannot_be_changed_but_deleted(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace))
    [integration] = await made(app_client)
    url = f"/api/v1/integrations/{integration['uuid']}"
    for change in ({"name": "Other"}, {"settings": {"channel_id": "C2"}}):
        answer = await app_client.patch(url, json={"integration": change})
        assert (answer.status_code, answer.json()["error"]) == (422, "unprocessable_entity")
    assert (await app_client.delete(url)).status_code == 204
    assert not await made(app_client)


async def test_creation_by_the_usual_call_says_to_use_initiate(app_client: httpx.AsyncClient) -> None:
    settings = {"bot_token": "xoxb-1", "channel_id": "C1"}
    body = {"integration": {"type": "Integrations::SlackIntegration", "settings": settings}}
    answer = await app_client.post("/api/v1/integrations", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    assert "/api/v1/integrations/slack/initiate" in answer.json()["message"]


async def test_initiate_needs_a_token(app_client: httpx.AsyncClient) -> None:
    assert (await app_client.post(INITIATE, headers={"Authorization": "Bearer no"})).status_code == 401


# ------------------------------------------------------------------------------------------------------ refused


async def test_who_does_not_consent_is_told_so_and_nothing_is_made(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer
) -> None:
    said, good = told(await browser.get(slack.deny((await way(app_client))["oauth_url"])))
    assert not good
    assert "access was not granted" in said
    assert not await made(app_client)
    assert not slack.calls


async def test_a_state_is_good_once(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    oauth_url = (await way(app_client))["oauth_url"]
    assert told(await browser.get(slack.consent(oauth_url, workspace)))[1]
    said, good = told(await browser.get(slack.consent(oauth_url, workspace)))
    assert not good
    assert "already used" in said
    assert len(await made(app_client)) == 1


async def test_a_state_is_good_for_ten_minutes(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    pool: asyncpg.Pool,
) -> None:
    oauth_url = (await way(app_client))["oauth_url"]
    left = await pool.fetchval("SELECT extract(epoch FROM expires_at - now()) FROM slack_states")
    assert 590 < left <= 600
    await pool.execute("UPDATE slack_states SET expires_at = now() - interval '1 s'")
    said, good = told(await browser.get(slack.consent(oauth_url, workspace)))
    assert not good
    assert "10 minutes" in said
    assert not await made(app_client)


@pytest.mark.parametrize("state", ["", "wrong", "x" * 5_000, "%F0%9F%94%94"])
async def test_a_state_that_we_did_not_give_makes_nothing(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, state: str
) -> None:
    await way(app_client)
    for query in (f"code=1&state={state}", f"error=access_denied&state={state}"):
        said, good = told(await browser.get(f"/auth/slack/callback?{query}"))
        assert not good
        assert "Please start again" in said
    assert not await made(app_client)
    assert not slack.calls


async def test_a_state_makes_an_integration_of_its_own_project_only(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    pool: asyncpg.Pool, vault: Vault, project: Any,
) -> None:
    other = ids.public(ids.PROJECT, (await new_project(pool, vault)).id)
    back = slack.consent((await way(app_client))["oauth_url"], workspace)
    own = ids.public(ids.PROJECT, project.id)
    said, good = told(await browser.get(back.replace(own, other)))
    assert not good
    assert "another project" in said
    assert await pool.fetchval("SELECT count(*) FROM integrations") == 0
    assert not slack.calls


@pytest.mark.parametrize("trouble", ["invalid_code", "bad_redirect_uri", "code_already_used", "internal_error"])
async def test_a_code_that_slack_refuses_makes_nothing(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace, trouble: str
) -> None:
    slack.fail("oauth.v2.access", trouble)
    said, good = told(await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace)))
    assert not good
    assert trouble in said
    assert not await made(app_client)


@pytest.mark.parametrize(
    "change",
    [
        {"incoming_webhook": None},
        {"team": None, "is_enterprise_install": True},
        {"authed_user": {"id": "U1"}},
        {"bot_user_id": 7},
        {"access_token": "xoxb-with\nline"},
        {"refresh_token": "xoxe-1-secret", "expires_in": 43200},
        *(
            {"incoming_webhook": {"channel": "#a", "channel_id": "C1", "configuration_url": "", "url": url}}
            for url in (
                "https://evil.example.com/services/s3cret", "https://hooks.slack.com.example.com/services/s3cret",
                "http://hooks.slack.com/services/s3cret", "https://hooks.slack.com@evil.example.com/s3cret",
                "https://u:p@hooks.slack.com/s3cret", "https://notslack.com/s3cret", "s3cret", "https://[s3cret",
            )
        ),
    ],
)  # fmt: skip
async def test_a_grant_that_is_not_all_that_is_needed_makes_nothing_and_is_not_repeated(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    change: dict[str, Any],
) -> None:
    slack.change = change
    said, good = told(await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace)))
    assert not good
    assert "s3cret" not in said
    assert not await made(app_client)


async def test_a_webhook_address_on_slack_s_own_host_is_taken(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    hook = {"channel": "#alerts", "channel_id": workspace.channel_id, "url": "https://hooks.slack.com/services/T/B/X"}
    slack.change = {"incoming_webhook": hook}
    assert told(await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace)))[1]


async def test_a_private_channel_is_connected_and_its_person_told_to_invite_the_bot(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace
) -> None:
    workspace.private = True
    said, _ = told(await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace)))
    assert "/invite" in said
    assert len(await made(app_client)) == 1


# ---------------------------------------------------------------------------------------------- who began it, and where


async def test_what_the_api_began_is_on_record_and_announced_in_the_channel(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    pool: asyncpg.Pool, project: Any,
) -> None:
    await browser.get(slack.consent((await way(app_client))["oauth_url"], workspace))
    async with pool.acquire() as tx:
        entries, _ = await audit.list_(tx, project.id, limit=10)
    assert [(each.action, each.who) for each in entries] == [
        ("made integration", audit.API_TOKEN), ("began to connect Slack", audit.API_TOKEN),
    ]  # fmt: skip
    assert entries[0].subject == "My Workspace #alerts"
    assert entries[0].details["through"] == "the API"
    notice = await pool.fetchval("SELECT notice FROM outstanding WHERE event = 'notice'")
    assert "connected to the project" in notice
    assert "through the API" in notice


@pytest_asyncio.fixture
async def signed_in(pool: asyncpg.Pool, vault: Vault, project: Any) -> tuple[str, Any, Any]:
    """A browser session of a member of the project: its token, its own key and its user's."""
    async with pool.acquire() as tx, tx.transaction():
        user_id = await tx.fetchval(
            "INSERT INTO users (email, email_verified_at) VALUES ('ann@example.com', now()) RETURNING id"
        )
        await tx.execute(
            "INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, 'owner')", project.id, user_id
        )
        user = await accounts.user_by_id(tx, user_id)
        assert user
        token = await sessions.begin(tx, vault, user, "a browser")
        assert token
        found = await sessions.session_of_token(tx, vault, token)
    assert found is not None
    return token, found.session_id, user_id


async def begun_in(
    settings: Settings, pool: asyncpg.Pool, vault: Vault, project: Any, session: tuple[str, Any, Any]
) -> Consent:
    owner = Actor(project.id, "owner", session[2], user_id=session[2])
    async with transaction(pool) as tx:
        return await actions.begin(tx, owner, vault, settings.slack, PUBLIC_URL, session[1])


async def test_what_the_console_began_is_finished_by_that_browser_session(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    settings: Settings, pool: asyncpg.Pool, vault: Vault, project: Any, signed_in: tuple[str, Any, Any],
) -> None:  # fmt: skip
    begun = await begun_in(settings, pool, vault, project, signed_in)
    assert begun.state == parse_qs(urlsplit(begun.oauth_url).query)["state"][0]
    browser.cookies.set("tocsin", signed_in[0])
    assert told(await browser.get(slack.consent(begun.oauth_url, workspace)))[1]
    assert len(await made(app_client)) == 1
    async with pool.acquire() as tx:
        entries, _ = await audit.list_(tx, project.id, limit=10)
    assert {each.who for each in entries} == {"ann@example.com"}


@pytest.mark.parametrize("cookie", ["nobody's", "another session of hers"])
async def test_what_the_console_began_is_finished_by_no_other_browser_session(
    app_client: httpx.AsyncClient, browser: httpx.AsyncClient, slack: SlackServer, workspace: Workspace,
    settings: Settings, pool: asyncpg.Pool, vault: Vault, project: Any, signed_in: tuple[str, Any, Any], cookie: str,
) -> None:  # fmt: skip
    begun = await begun_in(settings, pool, vault, project, signed_in)
    if cookie != "nobody's":
        async with pool.acquire() as tx, tx.transaction():
            user = await accounts.user_by_id(tx, signed_in[2])
            assert user
            token = await sessions.begin(tx, vault, user, "another")
            assert token
            browser.cookies.set("tocsin", token)
    said, good = told(await browser.get(slack.consent(begun.oauth_url, workspace)))
    assert not good
    assert "another browser" in said
    assert not await made(app_client)
    assert not slack.calls


# ------------------------------------------------------------------------------------------------------- not set up


async def test_where_slack_is_not_set_up_the_way_there_says_which_settings_are_needed(
    settings: Settings, project: Any
) -> None:
    async with in_this_process(replace(settings, slack=None)) as front, httpx.AsyncClient(
        base_url=PUBLIC_URL, transport=httpx.ASGITransport(app=front, raise_app_exceptions=False)
    ) as client:
        answer = await client.post(INITIATE, headers={"Authorization": f"Bearer {project.api_token}"})
        assert (answer.status_code, answer.json()["error"]) == (503, "slack_unavailable")
        assert "TOCSIN_SLACK_CLIENT_ID" in answer.json()["message"]
        assert "TOCSIN_SLACK_CLIENT_ID" in told(await client.get("/auth/slack/callback?state=1&code=1"))[0]
        assert (await client.post("/slack/interactions", content=b"payload=1")).status_code == 503
