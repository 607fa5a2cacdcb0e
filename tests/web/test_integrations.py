"""The pages of integrations in a real browser: made, attached, tried out, changed, redelivered, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.calls import alarm, integration, new_server
from tests.receivers import Answer, Receiver
from tests.service import Service


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "422" not in said]


async def test_a_webhook_is_made_attached_tested_its_log_read_and_redelivered(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    server = await new_server(client)
    await page.goto(f"{service.url}/integrations")
    await page.get_by_role("link", name="Add an integration").click()
    await page.get_by_role("link", name="Add webhook").click()
    await page.get_by_label("Address").fill("ftp://nowhere")
    await page.get_by_label("Name", exact=True).fill("On-call hook")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.locator("#webhook_url-error")).to_contain_text("must be an address that starts with")
    assert await page.get_by_label("Name", exact=True).input_value() == "On-call hook", "what was typed is still there"
    await page.get_by_label("Address").fill(receiver.url("/hook"))
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.get_by_role("heading", name="On-call hook")).to_be_visible()
    await expect(page.get_by_text("Not attached to anything yet")).to_be_visible()
    await page.get_by_role("button", name="Attach to all, including future ones").click()
    await expect(page.get_by_text("All servers and monitors, including future ones.", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Exclude future ones").click()
    await expect(page.get_by_text("no longer attached to new servers")).to_be_visible()
    await page.get_by_role("button", name="Attach to all, including future ones").click()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#test")).to_contain_text("delivered", timeout=15_000)
    await expect(page.locator("#test")).to_contain_text("Answered 200")
    await page.get_by_role("link", name="The delivery with every attempt").click()
    await expect(page.locator("#sent")).to_contain_text('"incident_type": "test"')
    await page.go_back()
    receiver.otherwise = Answer(404, body=b"no such hook")
    await client.post("/api/v1/incidents", json={"incident": alarm(server)})
    await page.get_by_role("link", name="All deliveries").click()
    await page.get_by_role("link", name="opened: dead").click(timeout=15_000)
    await expect(page.get_by_text("no such hook").first).to_be_visible()
    receiver.otherwise = Answer(200)
    await page.get_by_role("button", name="Send again").click()
    await expect(page.get_by_text("Sending again, as a new delivery")).to_be_visible()
    await expect(page.get_by_text("delivered, answered 200")).to_be_visible(timeout=15_000)
    uuid = (await client.get("/api/v1/integrations")).json()[-1]["uuid"]
    done = [each["action"] for each in await _record(service)]
    assert {"made integration", "attached integration to everything", "tested integration",
            "ordered a redelivery"} <= set(done)  # fmt: skip
    html = await (await page.goto(f"{service.url}/integrations/{uuid}")).text()  # type: ignore[union-attr]
    assert "whsec_" not in html


async def _record(service: Service) -> list[dict[str, str]]:
    import asyncpg

    connection = await asyncpg.connect(service.database)
    try:
        rows = await connection.fetch("SELECT action FROM audit WHERE project_id = $1", service.project.id)
    finally:
        await connection.close()
    return [dict(row) for row in rows]


async def test_it_is_attached_one_by_one_changed_and_deleted_with_what_it_was_attached_to_spelled_out(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_server(client)
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url("/a"))
    await page.goto(f"{service.url}/integrations/{uuid}")
    await page.get_by_role("button", name="Attach", exact=True).click()
    await expect(page.get_by_text("Attached: it will be notified.")).to_be_visible()
    await expect(page.locator("#places .plain-list li")).to_have_count(1)
    await page.get_by_label("Address").fill(receiver.url("/b"))
    await page.get_by_label("Name", exact=True).fill("Renamed")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Settings saved.")).to_be_visible()
    changed = (await client.get(f"/api/v1/integrations/{uuid}")).json()
    assert (changed["name"], changed["settings"]) == ("Renamed", {"webhook_url": receiver.url("/b")})
    await page.get_by_role("button", name="Delete integration").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("It is attached to 1 server or monitor")
    await dialog.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Detach").click()
    await expect(page.get_by_text("Detached: it is no longer notified.")).to_be_visible()
    await page.get_by_role("button", name="Delete integration").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete integration").click()
    await expect(page.get_by_text("Renamed deleted")).to_be_visible()
    assert (await client.get(f"/api/v1/integrations/{uuid}")).status_code == 404


async def test_secrets_of_a_server_restart_are_never_in_the_page_and_stay_when_left_empty(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/integrations/new?kind=Integrations::SshServerRestartIntegration")
    await page.get_by_label("IP address or hostname").fill("203.0.113.7")
    await page.get_by_label("User").fill("restarter")
    await page.get_by_label("Password").fill("s3cret of mine")
    await page.get_by_label("Only for these types").fill("downtime, ram")
    await page.evaluate("document.getElementById('port').type = 'text'; document.getElementById('port').value = 'x'")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.locator("#port-error")).to_be_visible()
    assert "s3cret of mine" not in await page.content()
    await page.get_by_label("Password").fill("s3cret of mine")
    await page.get_by_label("Port").fill("2222")
    await page.get_by_role("button", name="Create integration").click()
    await expect(page.get_by_role("button", name="Dry run: log in, restart nothing")).to_be_visible()
    assert "s3cret of mine" not in await page.content()
    await page.get_by_label("Only for these types").fill("")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_text("Settings saved.")).to_be_visible()
    [made] = [each for each in (await client.get("/api/v1/integrations")).json() if "Ssh" in each["type"]]
    assert made["settings"].items() >= {"ip": "203.0.113.7", "port": 2222, "password": "********"}.items()
    assert "incident_types" not in made["settings"]


async def test_readers_may_look_and_change_nothing(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
    await demote(service)
    for path in ("/integrations", f"/integrations/{uuid}", "/integrations/new"):
        await page.goto(service.url + path)
        assert not await page.locator("main button").count(), path


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_the_pages_are_for_everybody(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver, width: int, scheme: str
) -> None:
    await new_server(client)
    uuid = await integration(client, "WebhookIntegration", webhook_url=receiver.url("/" + "long-" * 20))
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in (
        "/integrations", f"/integrations/{uuid}", "/integrations/new",
        "/integrations/new?kind=Integrations::SshServerRestartIntegration",
    ):  # fmt: skip
        await page.goto(service.url + path)
        assert not await findings(page), path
        assert not await too_wide(page), path


async def test_what_was_suppressed_does_not_hide_that_an_integration_works(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    now, later = await new_server(client, "now"), await new_server(client, "later")
    hook = await integration(client, "WebhookIntegration", webhook_url=receiver.url())
    for server, after in ((now, 0), (later, 3600)):
        body = {"integration_id": hook, "after": after}
        assert (await client.post(f"/api/v1/servers/{server}/integrations", json=body)).status_code == 201
    await client.post("/api/v1/incidents", json={"incident": alarm(now)})
    await page.goto(f"{service.url}/integrations")
    await expect(page.locator("#integrations .badge")).to_have_text("working", timeout=15_000)
    called_off = (await client.post("/api/v1/incidents", json={"incident": alarm(later)})).json()["uuid"]
    assert (await client.post(f"/api/v1/incidents/{called_off}/resolve")).status_code == 200
    await page.reload()
    await expect(page.locator("#integrations .badge")).to_have_text("working")
    await page.goto(f"{service.url}/integrations/{hook}/deliveries?status=suppressed")
    await page.get_by_role("link", name="opened: suppressed").click()
    await expect(page.get_by_text("None: it was suppressed before its first attempt.")).to_be_visible()
