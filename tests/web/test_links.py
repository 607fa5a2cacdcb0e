"""Links in mails: whoever merely looks at one changes nothing, and whoever reads the mail has the account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import asyncpg
import pytest

from tests.people import BOB, PASSWORD, account, csrf_in, invitation, link_in, sign_in, site, visitor
from tests.people import letters as mails
from tests.users import bearer, register
from tocsin.domain import ids
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, links, operator, sessions
from tocsin.storage.channels import slack
from tocsin.storage.postgres.secrets import Vault

__all__ = ["site"]

ANN = "ann@example.com"
MINE = "battery staple"
PASSWORDS = {"password": MINE, "password_confirmation": MINE}
ENDLESS = {"/live"}
"""Answers that go on for as long as somebody listens."""
COUNTED = {"/oncall/{file:str}"}
"""Calendars, of which it is counted how often a network reads them."""
BY_ITSELF = {"api_heartbeat"}
"""What the process writes from time to time, whoever asks for what."""


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    slack_app = {"CLIENT_ID": "1.2", "CLIENT_SECRET": "of-nothing", "SIGNING_SECRET": "of-nothing"}
    return {
        **environ, **{f"TOCSIN_SLACK_{name}": value for name, value in slack_app.items()},
        "TOCSIN_SLACK_API_URL": "http://127.0.0.1:1/",
    }  # fmt: skip


async def everything(pool: asyncpg.Pool) -> Mapping[str, list[str]]:
    """All rows of all tables, as text."""
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        name: sorted(row[0] for row in await pool.fetch(f'SELECT t::text FROM "{name}" t'))
        for (name,) in tables
        if name not in BY_ITSELF
    }


async def every_link(pool: asyncpg.Pool, vault: Vault) -> dict[str, str]:
    """One of each kind, as it is mailed, printed, or handed to a browser by Slack."""
    async with pool.acquire() as tx, tx.transaction():
        await accounts.create_operator(tx, vault, operator.UNSET, None, "First project")
        welcome = await operator.new_link(tx, vault, "")
        project = await accounts.create_project(tx, vault, "Shop", "paid", ANN)
        ann = await accounts.user_by_email(tx, ANN)
        integration = await tx.fetchval("SELECT id FROM integrations WHERE project_id = $1", project.id)
        assert ann
        await sessions.begin(tx, vault, ann, "")
        session = await tx.fetchval("SELECT id FROM user_tokens")
        state = await slack.begin(tx, vault, project.id, ann.id, session)
    _, invited = await invitation(pool, vault)
    _, made = await invitation(pool, vault, ANN)
    assert welcome
    return {
        "verification": links.verification(vault, "", ann.id, ANN),
        "new password": links.reset(vault, "", ann),
        "unsubscribing": links.unsubscribe(vault, "", integration),
        "first start": welcome,
        "invitation": invited,
        "invitation of a known one": made,
        "Slack": f"/auth/slack/callback?state={state}&code=of-a-scanner",
    }


async def test_a_link_that_is_only_looked_at_changes_nothing(site: Any, pool: asyncpg.Pool, vault: Vault) -> None:
    found = await every_link(pool, vault)
    before = await everything(pool)
    tokens = {kind: link.partition("?")[2] for kind, link in found.items()}
    paths = [
        re.sub(r"\{[^}]*\}", ids.public(ids.INTEGRATION, ids.new()), route.path)
        for route in site.app.routes
        if "GET" in route.methods and route.path not in ENDLESS | COUNTED
    ]
    assert len(paths) > 45
    async with visitor(site) as scanner:
        for kind, link in found.items():
            for method in ("GET", "HEAD"):
                answer = await scanner.request(method, link)
                assert answer.status_code in (200, 303), kind
        for path in paths:
            for query in tokens.values():
                await scanner.get(f"{path}?{query}")
    after = await everything(pool)
    assert {name for name in before if before[name] != after[name]} == set()


async def test_whoever_took_an_address_first_is_out_once_its_owner_confirms_from_the_mail(
    site: Any, settings: Settings, pool: asyncpg.Pool
) -> None:
    async with visitor(site) as stranger, visitor(site) as owner:
        await register(stranger)
        assert (await sign_in(stranger)).status_code == 303
        signed_in = await stranger.post(
            "/api/v1/users/sign_in", json={"user": {"email": ANN, "password": PASSWORD}}
        )
        by_api = bearer(signed_in.json()["token"])
        [project] = (await stranger.get("/api/v1/projects", headers=by_api)).json()
        [letter] = mails(settings)
        asked = await owner.get(link_in(letter))
        assert "It replaces the password of whoever created the account" in asked.text
        form = {"token": link_in(letter).partition("token=")[2], **PASSWORDS}
        pressed = await owner.post("/verify-email/confirm", data=form)
        assert not await pool.fetchval("SELECT email_verified_at FROM users"), "a button alone is not enough here"
        assert 'type="password"' in pressed.text
        assert (await owner.post("/verify-email/password", data=form)).status_code == 200
        assert await pool.fetchval("SELECT email_verified_at IS NOT NULL FROM users")
        assert (await stranger.get("/account")).status_code == 303
        assert (await stranger.get("/api/v1/projects", headers=by_api)).status_code == 401
        old = bearer(project["api_token"])
        assert (await stranger.get("/api/v1/integrations", headers=old)).status_code == 401
        assert (await sign_in(stranger)).status_code == 422
        assert (await sign_in(owner, password=MINE)).status_code == 303


async def test_who_is_signed_in_to_that_very_account_confirms_with_one_button_and_keeps_everything(
    site: Any, settings: Settings, pool: asyncpg.Pool
) -> None:
    async with visitor(site) as ann:
        await register(ann)
        await sign_in(ann)
        [letter] = mails(settings)
        shown = await ann.get(link_in(letter))
        assert 'type="password"' not in shown.text
        form = {"token": link_in(letter).partition("token=")[2]}
        assert (await ann.post("/verify-email/confirm", data=form)).status_code == 403, "a form of another site"
        assert not await pool.fetchval("SELECT email_verified_at FROM users")
        done = await ann.post("/verify-email/confirm", data={**form, "csrf": csrf_in(shown)})
        assert "Thank you" in done.text
        assert await pool.fetchval("SELECT email_verified_at IS NOT NULL FROM users")
        assert (await ann.get("/account")).status_code == 200


async def test_who_is_signed_in_to_another_account_confirms_as_a_stranger_would(
    site: Any, settings: Settings, pool: asyncpg.Pool, vault: Vault
) -> None:
    await account(pool, vault, BOB)
    async with visitor(site) as bob:
        await register(bob)
        await sign_in(bob, BOB)
        [letter] = mails(settings)
        shown = await bob.get(link_in(letter))
        assert 'type="password"' in shown.text
        form = {"token": link_in(letter).partition("token=")[2], "csrf": csrf_in(await bob.get("/account"))}
        await bob.post("/verify-email/confirm", data=form)
    assert not await pool.fetchval("SELECT email_verified_at FROM users WHERE email = $1", ANN)


async def test_an_invitation_does_not_let_a_strangers_password_in(
    site: Any, pool: asyncpg.Pool, vault: Vault
) -> None:
    project, link = await invitation(pool, vault, ANN)
    async with visitor(site) as stranger, visitor(site) as owner:
        await register(stranger)
        await sign_in(stranger)
        assert project.name not in (await stranger.get("/projects")).text
        assert 'name="password"' in (await owner.get(link)).text, "not asked for a password that only a stranger knows"
        form = {"token": link.partition("token=")[2], "name": "Ann", **PASSWORDS}
        assert (await owner.post("/invitation", data=form)).status_code == 303
        assert project.name in (await owner.get("/account")).text
        assert (await stranger.get("/account")).status_code == 303
        assert (await sign_in(stranger)).status_code == 422


async def test_a_new_password_by_mail_ends_a_strangers_tokens_too(
    site: Any, settings: Settings, pool: asyncpg.Pool
) -> None:
    async with visitor(site) as stranger, visitor(site) as owner:
        await register(stranger)
        signed_in = await stranger.post(
            "/api/v1/users/sign_in", json={"user": {"email": ANN, "password": PASSWORD}}
        )
        headers = bearer(signed_in.json()["token"])
        [project] = (await stranger.get("/api/v1/projects", headers=headers)).json()
        await owner.post("/forgot-password", data={"email": ANN})
        link = next(each for each in map(link_in, mails(settings)) if "/new-password" in each)
        form = {"token": link.partition("token=")[2], **PASSWORDS}
        assert (await owner.post("/new-password", data=form)).status_code == 303
        for old in (headers, bearer(project["api_token"])):
            assert (await stranger.get("/api/v1/integrations", headers=old)).status_code == 401


async def test_a_browser_that_did_not_begin_it_does_not_spend_the_way_to_slack(
    site: Any, pool: asyncpg.Pool, vault: Vault
) -> None:
    link = (await every_link(pool, vault))["Slack"]
    async with visitor(site) as other:
        answer = await other.get(link)
    assert answer.status_code == 303
    assert await pool.fetchval("SELECT count(*) FROM slack_states") == 1
    assert await pool.fetchval("SELECT count(*) FROM integrations WHERE type LIKE '%Slack%'") == 0
