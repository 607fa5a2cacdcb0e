"""The pages that mails link to."""

from __future__ import annotations

from html import unescape
from typing import Any

import asyncpg
import httpx
import pytest

from tests.aged import aged
from tests.service import new_project
from tests.users import bearer, outbox, register, sign_in
from tocsin.domain import ids
from tocsin.settings import Settings
from tocsin.storage.accounts import links
from tocsin.storage.delivery import health
from tocsin.storage.postgres.secrets import Vault

ANN = "ann@example.com"


async def link_for(pool: asyncpg.Pool, vault: Vault, address: str = ANN) -> str:
    return links.verification(vault, "", await user_id(pool, address), address)


async def user_id(pool: asyncpg.Pool, address: str = ANN) -> Any:
    return await pool.fetchval("SELECT id FROM users WHERE email = $1", address)


async def verified(pool: asyncpg.Pool) -> bool:
    return bool(await pool.fetchval("SELECT email_verified_at IS NOT NULL FROM users WHERE email = $1", ANN))


@pytest.fixture
async def owned(pool: asyncpg.Pool, vault: Vault) -> Any:
    """A project of Ann's, who has no password and has not verified her address."""
    return await new_project(pool, vault, owner_email=ANN)


@pytest.mark.parametrize("path", ["/", "/verify-email", "/verify-email?token=x", "/unsubscribe?token=x"])
async def test_every_page_allows_nothing_but_its_own_stylesheet(app_client: httpx.AsyncClient, path: str) -> None:
    answer = await app_client.get(path)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "<script" not in answer.text
    assert "style=" not in answer.text
    assert 'name="viewport"' in answer.text


@pytest.mark.parametrize("path", ["/favicon.ico", "/favicon.svg"])
async def test_there_is_a_bell_beside_the_title(app_client: httpx.AsyncClient, path: str) -> None:
    answer = await app_client.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml")
    assert answer.text.startswith("<svg")


async def test_the_stylesheet_is_there_for_light_and_dark(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.get("/static/tocsin.css")
    assert answer.headers["Content-Type"].startswith("text/css")
    assert "prefers-color-scheme: dark" in answer.text


async def test_the_landing_page_leads_to_the_api_and_tells_no_secret(
    app_client: httpx.AsyncClient, project: Any
) -> None:
    text = (await app_client.get("/")).text
    assert 'href="/api/docs"' in text
    assert project.api_token not in text


PASSWORDS = {"password": "correct horse", "password_confirmation": "correct horse"}


async def test_looking_at_the_link_changes_nothing_and_its_button_verifies_once(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    link = await link_for(pool, vault)
    for method in ("GET", "HEAD", "GET"):
        assert (await app_client.request(method, link)).status_code == 200
        assert not await verified(pool)
    form = {"token": link.partition("token=")[2], **PASSWORDS}
    first = await app_client.post("/verify-email/password", data=form)
    assert "Thank you" in first.text
    assert await verified(pool)
    for again in (await app_client.get(link), await app_client.post("/verify-email/password", data=form)):
        assert again.status_code == 200
        assert "Already verified" in again.text


async def test_a_link_that_was_cut_short_verifies_nothing(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    answer = await app_client.get((await link_for(pool, vault))[:-3])
    assert answer.status_code == 400
    assert "Send the email again" in answer.text
    assert not await verified(pool)


async def test_a_link_for_another_address_than_the_users_is_worth_nothing(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    link = await link_for(pool, vault)
    await pool.execute("UPDATE users SET email = 'new@example.com'")
    assert (await app_client.get(link)).status_code == 400
    assert not await pool.fetchval("SELECT count(*) FROM users WHERE email_verified_at IS NOT NULL")


async def test_an_old_link_offers_a_new_one_to_the_same_address(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any, settings: Settings
) -> None:
    token = aged(vault.signer("verify email"), [(await user_id(pool)).hex, ANN], days=4)
    answer = await app_client.get("/verify-email", params={"token": token})
    assert answer.status_code == 410
    assert token in unescape(answer.text)
    assert not await verified(pool)
    await app_client.post("/verify-email", data={"token": token})
    (mail,) = outbox(settings)
    assert mail["To"] == ANN


async def test_the_mail_is_sent_again_so_often_and_no_more(
    app_client: httpx.AsyncClient, owned: Any, settings: Settings
) -> None:
    answers = [await app_client.post("/verify-email", data={"email": ANN.upper()}) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= len(outbox(settings)) <= 3


async def test_asking_for_the_mail_does_not_tell_who_has_an_account(
    app_client: httpx.AsyncClient, owned: Any, settings: Settings
) -> None:
    known = await app_client.post("/verify-email", data={"email": ANN})
    for address in ("bob@example.com", "no address", "", "\0"):
        unknown = await app_client.post("/verify-email", data={"email": address})
        assert unknown.content == known.content
    assert len(outbox(settings)) == 1


async def test_an_owner_without_password_chooses_one_with_the_link_once(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    link = await link_for(pool, vault)
    form = {"token": link.partition("token=")[2], **PASSWORDS}
    assert 'type="password"' in (await app_client.get(link)).text
    short = await app_client.post("/verify-email/password", data={**form, "password": "short"})
    assert short.status_code == 422
    assert (await app_client.post("/verify-email/password", data=form)).status_code == 200
    signed_in = await sign_in(app_client, ANN)
    (project,) = (await app_client.get("/api/v1/projects", headers=bearer(signed_in))).json()
    assert project["uuid"] == ids.public(ids.PROJECT, owned.id)
    assert project["api_token"] == owned.api_token, "what the operator made keeps its token"
    again = {**form, "password": "another one", "password_confirmation": "another one"}
    await app_client.post("/verify-email/password", data=again)
    await sign_in(app_client, ANN)
    assert 'type="password"' not in (await app_client.get(link)).text


async def test_looking_at_an_unsubscribe_link_changes_nothing_and_the_button_ends_it(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    integration = await pool.fetchval("SELECT id FROM integrations")
    link = links.unsubscribe(vault, "", integration)
    assert "Stop these emails?" in (await app_client.get(link)).text
    assert await pool.fetchval("SELECT disabled_at FROM integrations") is None
    answer = await app_client.post(link, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert await pool.fetchval("SELECT disabled_reason FROM integrations") == "unsubscribed by its reader"
    assert (await app_client.post(link)).status_code == 200


async def test_what_a_reader_ended_is_begun_again_by_a_person_only(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    integration = await pool.fetchval("SELECT id FROM integrations")
    async with pool.acquire() as tx, tx.transaction():
        await health.disable(tx, integration, "every delivery has failed for 5 days")
    await app_client.post(links.unsubscribe(vault, "", integration))
    async with pool.acquire() as tx, tx.transaction():
        await tx.execute("UPDATE integrations SET failing_since = now() - interval '9 days'")
        assert await health.probe(tx, 10, "") == 0
        await health.record_results(tx, {integration: 1_000}, {})
    assert await pool.fetchval("SELECT disabled_reason FROM integrations") == "unsubscribed by its reader"
    uuid = ids.public(ids.INTEGRATION, integration)
    enabled = await app_client.post(f"/api/v1/integrations/{uuid}/enable", headers=bearer(owned.api_token))
    assert enabled.status_code == 200
    assert await pool.fetchval("SELECT disabled_at FROM integrations") is None


async def test_an_unsubscribe_link_of_a_deleted_integration_is_answered_kindly(
    app_client: httpx.AsyncClient, vault: Vault
) -> None:
    assert (await app_client.post(links.unsubscribe(vault, "", ids.new()))).status_code == 200


async def test_nobody_is_unsubscribed_by_a_link_that_we_did_not_sign(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, vault: Vault, owned: Any
) -> None:
    foreign = links.unsubscribe(Vault([b"x" * 32]), "", await pool.fetchval("SELECT id FROM integrations"))
    assert (await app_client.post(foreign)).status_code == 400
    assert await pool.fetchval("SELECT disabled_at FROM integrations") is None


async def test_what_a_link_carries_is_shown_as_text_only(app_client: httpx.AsyncClient) -> None:
    answer = await app_client.get("/verify-email", params={"token": '"><script>alert(1)</script>'})
    assert "<script" not in answer.text


async def test_forms_that_nobody_would_send_are_answered_with_a_page(app_client: httpx.AsyncClient) -> None:
    for body in (b"\xff\xfe\x00", b"a&" * 50_000, b"token=" + b"x" * 100_000, b'{"json": true}'):
        for path in ("/verify-email", "/verify-email/confirm", "/verify-email/password", "/unsubscribe"):
            assert (await app_client.post(path, content=body)).status_code in (200, 400, 413, 422, 429)


async def test_the_link_stands_in_one_line_of_the_mails_file(
    app_client: httpx.AsyncClient, settings: Settings
) -> None:
    await register(app_client)
    (file,) = settings.outbox.glob("*.eml")
    (line,) = (line for line in file.read_text().splitlines() if "token=" in line)
    assert (await app_client.get(line)).status_code == 200


async def test_the_link_in_the_mail_of_a_registration_works(
    app_client: httpx.AsyncClient, pool: asyncpg.Pool, settings: Settings
) -> None:
    await register(app_client)
    (mail,) = outbox(settings)
    (link,) = (line for line in mail.get_content().splitlines() if "token=" in line)  # type: ignore[attr-defined]
    form = {"token": link.partition("token=")[2], **PASSWORDS}
    assert (await app_client.post("/verify-email/password", data=form)).status_code == 200
    assert await verified(pool)
