"""The pages of settings in a real browser: the token, the people, the record of changes, what is not set up."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser import SCHEMES, WIDTHS, Console, findings, signed_in, too_wide
from tests.receivers import Mailbox
from tests.service import Service
from tests.users import bearer
from tests.waiting import until
from tocsin.actions import members
from tocsin.actions.base import Actor
from tocsin.domain.errors import Refused
from tocsin.storage import audit
from tocsin.storage.accounts import accounts

WEBHOOK = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://example.com/hook"}}


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    connection = await asyncpg.connect(service.database)
    await connection.execute("UPDATE users SET email_verified_at = now() WHERE email = 'ann@example.com'")
    await connection.close()
    yield page
    await as_operator(service, False)


async def as_operator(service: Service, is_operator: bool = True) -> None:
    connection = await asyncpg.connect(service.database)
    await connection.execute("UPDATE users SET operator = $1 WHERE email = 'ann@example.com'", is_operator)
    await connection.close()


async def test_the_token_is_revealed_and_replaced_and_the_old_one_stops_working(service: Service, page: Page) -> None:
    console = Console(page)
    await page.goto(f"{service.url}/settings")
    assert service.token not in await page.content()
    await page.get_by_role("button", name="Reveal").click()
    assert await page.locator("#token").text_content() == service.token
    await page.get_by_role("button", name="Replace token").click()
    assert "stops working" in str(await page.get_by_role("dialog").text_content())
    await page.get_by_role("button", name="Replace now").click()
    await page.get_by_text("This is the new token").wait_for()
    new = await page.locator("#token").text_content()
    assert new
    assert new != service.token

    async def is_worth_nothing() -> bool:
        async with service.client() as client:
            return (await client.get("/api/v1/servers")).status_code == 401

    await until(is_worth_nothing, what="the end of the old token")
    async with service.client(new) as client:
        assert (await client.get("/api/v1/servers")).status_code == 200
    await page.goto(f"{service.url}/settings/audit")
    text = str(await page.locator("main").text_content())
    assert "rotated the API token" in text
    assert "looked at the API token" in text
    assert new not in text
    assert not console.said


async def test_who_is_invited_accepts_is_made_a_reader_and_cannot_change_anything(
    service: Service, page: Page, browser: Browser, mailbox: Mailbox
) -> None:
    name = f"bob-{service.project.id.hex}@example.com"
    await page.goto(f"{service.url}/settings/members")
    await page.get_by_label("Their email address").fill(name)
    await page.get_by_role("button", name="Send invitation").click()
    await page.get_by_text("An invitation is on its way").wait_for()
    letter = (await mailbox.arrivals(to=name))[0]
    found = re.search(r"http\S+/invitation\?token=\S+", letter.text)
    assert found
    bob = await (await browser.new_context()).new_page()
    await bob.goto(found[0])
    await bob.get_by_label("Your name").fill("Bob")
    await bob.get_by_label("Password", exact=True).fill("correct horse")
    await bob.get_by_label("Password again").fill("correct horse")
    await bob.get_by_role("button", name="Join").click()
    await bob.wait_for_url("**/overview")

    await page.goto(f"{service.url}/settings/members")
    await page.get_by_label(f"Role of {name}").select_option("reader")
    await page.get_by_role("button", name=f"Change the role of {name}").click()
    await page.get_by_text(f"{name} is now a reader").wait_for()

    await bob.goto(f"{service.url}/settings")
    assert not await bob.get_by_role("button", name="Reveal").count()
    assert not await bob.get_by_role("button", name="Replace token").count()
    await bob.goto(f"{service.url}/settings/members")
    assert not await bob.get_by_role("button", name="Send invitation").count()
    cookie = next(each["value"] for each in await bob.context.cookies() if each.get("name") == "tocsin")
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
        body = {"integration": WEBHOOK}
        refused = await client.post("/api/v1/integrations", json=body, headers=bearer(str(cookie)))
    assert refused.status_code == 403

    await page.goto(f"{service.url}/settings/audit")
    text = str(await page.locator("main").text_content())
    for said in ("invited member", "joined project", "changed role"):
        assert said in text
    await page.get_by_label("By").select_option(name)
    await page.get_by_role("button", name="Show").click()
    text = str(await page.locator("main .list").text_content())
    assert "joined project" in text
    assert "invited member" not in text
    await page.goto(f"{service.url}/settings/members")
    await page.get_by_role("button", name=f"Remove {name}").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await page.get_by_text("is no longer in this project").wait_for()


async def test_the_operator_sees_the_line_that_is_missing_and_tries_what_is_there(
    service: Service, page: Page, mailbox: Mailbox
) -> None:
    await page.goto(f"{service.url}/settings")
    assert not await page.get_by_role("button", name="Send a test email").count()
    await as_operator(service)
    await page.goto(f"{service.url}/settings")
    assert "TOCSIN_TWILIO_ACCOUNT_SID=AC" in str(await page.locator("#sms").text_content())
    await page.get_by_role("button", name="Send a test email").click()
    await page.get_by_text("The mail server accepted a test email").wait_for()
    assert "Mail works" in (await mailbox.arrivals(to="ann@example.com"))[-1].text
    await page.get_by_label("Send a test message to").fill("+431234567")
    await page.get_by_role("button", name="Send a test message").click()
    await page.get_by_text("Written to the outbox").wait_for()
    await page.get_by_role("button", name="Test the Slack app").click()
    await page.get_by_text("Slack: ").first.wait_for()


async def test_the_pages_of_settings_are_for_everybody(service: Service, page: Page) -> None:
    await as_operator(service)
    for path in ("/settings", "/settings/members", "/settings/audit"):
        await page.goto(f"{service.url}{path}")
        for width, scheme in itertools.product(WIDTHS, SCHEMES):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.emulate_media(color_scheme=scheme)
            assert not await findings(page)
            assert not await too_wide(page), f"{path} at {width}"


async def test_who_was_an_owner_when_they_signed_in_and_is_none_now_is_refused(
    pool: asyncpg.Pool, project: Any
) -> None:
    async with pool.acquire() as tx, tx.transaction():
        people = {}
        for role in ("owner", "member", "reader"):
            people[role] = (await accounts.ensure_user(tx, f"{role}@example.com")).id
            await tx.execute(accounts.INSERT_MEMBER, project.id, people[role], role)
        await tx.execute("UPDATE users SET email_verified_at = now()")
        owner = Actor(project.id, "owner", people["owner"], user_id=people["owner"])
        made = await members.invite(tx, owner, "new@example.com", "member")
        for who in (people["member"], people["reader"]):
            once = Actor(project.id, "owner", who, user_id=who)
            for change in (
                members.invite(tx, once, "eve@example.com", "owner"),
                members.withdraw(tx, once, made.id),
                members.set_role(tx, once, who, "owner"),
                members.remove(tx, once, people["owner"]),
            ):
                with pytest.raises(Refused) as refused:
                    await change
                assert refused.value.status == 403


async def test_the_record_is_read_from_entry_to_entry_and_of_one_person(pool: asyncpg.Pool, project: Any) -> None:
    async with pool.acquire() as tx, tx.transaction():
        for number in range(5):
            who = ("ann@example.com", audit.API_TOKEN)[number % 2]
            await audit.note(tx, project.id, who, "changed server", f"web-{number}")
        first = await audit.page(tx, project.id, limit=3)
        then = await audit.page(tx, project.id, limit=3, before=first[-1].id)
        assert [each.subject for each in (*first, *then)] == [f"web-{number}" for number in (4, 3, 2, 1, 0)]
        assert [each.subject for each in await audit.page(tx, project.id, limit=3, who="API token")] == [
            "web-3", "web-1",
        ]  # fmt: skip
        assert await audit.everybody(tx, project.id) == ["API token", "ann@example.com"]


async def test_a_page_of_a_long_record_is_found_by_index(pool: asyncpg.Pool, project: Any) -> None:
    await pool.execute(
        "INSERT INTO audit (project_id, who, action, subject) "
        "SELECT $1, 'user ' || n % 20, 'changed server', 'web' FROM generate_series(1, 5000) n",
        project.id,
    )
    await pool.execute("ANALYZE audit")
    nobody = "'00000000-0000-0000-0000-000000000000'"
    for statement, values in (
        (audit.PAGE, [nobody, "NULL", "50"]), (audit.PAGE_OF_ONE, [nobody, "NULL", "50", "'user 1'"]),
        (audit.WHO, [nobody]),
    ):  # fmt: skip
        async with pool.acquire() as tx:
            await tx.execute("DEALLOCATE ALL")
            await tx.execute(f"PREPARE it AS {statement}")
            plan = await tx.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE it({', '.join(values)})")
        assert "Seq Scan" not in str(plan)
        assert "'Sort'" not in str(plan)
        assert '"Sort"' not in str(plan)


async def test_who_is_no_operator_is_told_whom_to_ask_and_tries_nothing(
    service: Service, page: Page, browser: Browser
) -> None:
    await page.goto(f"{service.url}/settings")
    assert "whoever runs this installation" in str(await page.locator("main").text_content())
    assert "TOCSIN_" not in await page.content()
    csrf = await page.locator("input[name=csrf]").first.get_attribute("value")
    answer = await page.request.post(f"{service.url}/settings/test/sms", form={"csrf": csrf, "number": "+431234567"})
    assert answer.status == 403
