"""The pages of servers in a real browser: from the line to copy to charts, alerts, attachments, and deleting one."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.service import Service
from tests.waiting import until
from tocsin.web import agent

GIGABYTE = 10**9


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "422" not in said]


async def report(client: httpx.AsyncClient, name: str = "web-1", *readings: tuple[float, float]) -> None:
    """A report of this server: CPU so many minutes ago, and memory and disk half full."""
    now = datetime.now(UTC)
    metrics = [
        {"metric": metric, "value": value, "timestamp": (now - timedelta(minutes=ago)).isoformat()}
        for ago, cpu in readings or ((0, 20.0),)
        for metric, value in (("cpu_used", cpu), ("mem_used_b", 8 * GIGABYTE), ("disk_used_b", 50 * GIGABYTE))
    ]
    attributes = {
        "motherboard_id": f"board of {name}", "hostname": name, "cpu_cores": 2,
        "memory_total_bytes": 16 * GIGABYTE, "disk_total_bytes": 100 * GIGABYTE,
    }  # fmt: skip
    body = {"attributes": attributes, "metrics": metrics, "agent_version": "1.0.0"}
    answer = await client.post("/api/v1/server_metrics", json=body)
    assert answer.status_code == 201, answer.text


async def servers(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    return {each["hostname"]: each for each in (await client.get("/api/v1/servers")).json()}


async def webhook(client: httpx.AsyncClient) -> str:
    settings = {"webhook_url": "https://example.com/hook"}
    given = {"type": "Integrations::WebhookIntegration", "name": "On-call hook", "settings": settings}
    answer = await client.post("/api/v1/integrations", json={"integration": given})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


async def test_the_lines_that_the_empty_page_shows_make_a_server_appear_on_it(
    service: Service, page: Page, tmp_path: Path
) -> None:
    await page.goto(f"{service.url}/servers")
    lines = await page.locator("#install-line").text_content() or ""
    await expect(page.get_by_text("set TOCSIN_PUBLIC_URL to the address they can reach it at")).to_be_visible()
    await page.get_by_role("button", name="Copy", exact=True).click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert lines.startswith(f"sudo sh -c 'curl -fsS {service.url}/agent > {agent.INSTALLED} && ")
    assert " --install --token-file -' <<'END'\n" in lines
    await page.get_by_text("Other ways").click()
    trial = await page.locator("#try-line").text_content() or ""
    assert service.token in trial
    # A `sudo` that changes nobody's rights, but says what its command line was.
    sudo = tmp_path / "sudo"
    sudo.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/seen\nexec "$@"\n')
    sudo.chmod(0o755)
    python = f"{sys.executable} -I -S {tmp_path}/agent.py --once --interval 0.2"
    trial = trial.replace(f"python3 {agent.TRIED}", python).replace(agent.TRIED, f"{tmp_path}/agent.py")
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = await asyncio.to_thread(
        subprocess.run, ["sh"], input=trial, capture_output=True, text=True, timeout=60, env=environ
    )
    assert done.returncode == 0, done.stderr
    assert service.token not in (tmp_path / "seen").read_text()
    await expect(page.locator(".list li .badge")).to_have_text("up", timeout=20_000)
    await expect(page.locator(".list .meters li")).to_have_count(3)


async def test_the_list_has_readings_in_words_and_finds_a_server_by_a_part_of_its_name(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    for name in ("web-1", "web-2"):
        await report(client, name)
    await report(client, "db-1", *((ago, 97.0) for ago in range(6, -1, -1)))
    await page.goto(f"{service.url}/servers")
    rows = page.locator("#servers .list > li")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("db-1")
    await expect(rows.first.locator(".badge")).to_have_text("CPU high")
    await expect(rows.nth(1)).to_contain_text(re.compile(r"web-1.*up.*CPU\s+20 %.*RAM\s+50 %.*Disk\s+50 %", re.DOTALL))
    await page.get_by_role("searchbox").fill("WEB")
    await page.get_by_role("button", name="Search").click()
    await expect(rows).to_have_count(2)
    await page.get_by_role("searchbox").fill("nowhere")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="No hostname contains “nowhere”")).to_be_visible()


async def test_a_servers_charts_say_what_they_show_and_follow_new_readings(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await report(client, "web-1", *((ago, 95.0 if 20 <= ago < 24 else 10.0) for ago in range(50, 0, -1)))
    uuid = (await servers(client))["web-1"]["uuid"]
    await page.goto(f"{service.url}/servers/{uuid}?over=1h")
    charts = page.get_by_role("img", name=re.compile(r"^CPU over 1 h"))
    await expect(charts).to_have_count(1)
    said = await page.locator("#cpu-d").text_content()
    spread = "CPU over 1 h: between 10 % and 95 %, now 10 %"
    assert said == f"{spread}; at times over its threshold of 90 %, without an incident"
    assert await page.locator("#charts .threshold").count() == 3
    await page.evaluate("window.sameLoad = true")
    await report(client, "web-1", (0, 42.0))
    await expect(page.locator("#cpu-d")).to_have_text(re.compile("now 42 %"), timeout=10_000)
    assert await page.evaluate("window.sameLoad")
    for range_ in ("24 h", "7 d", "30 d"):
        await page.get_by_role("link", name=range_, exact=True).click()
        await expect(page.get_by_role("img", name=re.compile(f"^CPU over {range_}"))).to_have_count(1)
        said = await page.locator("#cpu-d").text_content() or ""
        assert ": means of " in said
        assert re.search("now 42 %", said), "the latest value is what is now, and no mean"


async def test_a_threshold_changed_by_the_form_is_the_one_that_counts(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await report(client)
    uuid = (await servers(client))["web-1"]["uuid"]
    await page.goto(f"{service.url}/servers/{uuid}")
    await page.get_by_label("CPU: percent").fill("a lot")
    await page.get_by_role("button", name="Save alerts").click()
    await expect(page.locator("#cpu-error")).to_have_text("CPU: must be a percentage above 0, at most 100")
    assert await page.get_by_label("CPU: percent").input_value() == "a lot"
    await page.get_by_label("CPU: percent").fill("15")
    await page.get_by_label("CPU: seconds").fill("0")
    await page.get_by_label("Disk is at or over").uncheck()
    await page.get_by_role("button", name="Save alerts").click()
    await expect(page.get_by_role("status")).to_contain_text("Alerts saved")
    alerts = (await servers(client))["web-1"]["alerts"]
    assert (alerts["cpu"], alerts["disk"]) == ({"threshold": 15, "for": 0}, None)
    assert alerts["ram"] == {"threshold": 90, "for": 300}
    warn = page.locator("fieldset.warning", has_text="RAM")
    await warn.get_by_label("warn from").check()
    await page.get_by_label("RAM warning: percent").fill("95")
    await page.get_by_role("button", name="Save alerts").click()
    await expect(page.locator("#ram-warning-error")).to_have_text("RAM warning: must be below the threshold, 90")
    await page.get_by_label("RAM warning: percent").fill("75")
    await page.get_by_label("RAM warning: seconds").fill("600")
    await page.get_by_role("button", name="Save alerts").click()
    await expect(page.get_by_role("status")).to_contain_text("Alerts saved")
    alert = {"threshold": 90, "for": 300, "warning": {"threshold": 75, "for": 600}}
    assert (await servers(client))["web-1"]["alerts"]["ram"] == alert
    await warn.get_by_label("warn from").uncheck()
    await page.get_by_role("button", name="Save alerts").click()
    await expect(page.get_by_role("status")).to_contain_text("Alerts saved")
    assert (await servers(client))["web-1"]["alerts"]["ram"] == {"threshold": 90, "for": 300}

    async def high() -> bool:
        await report(client)  # of two within one second, only the first is judged
        return await page.locator("#now .badge").inner_text() == "CPU high"

    await until(high, timeout=20, what="the badge to say so")
    await expect(page.locator("#incidents")).to_contain_text("CPU at 20 %")
    await expect(page.locator("#charts .incident")).to_have_count(1)


async def test_an_integration_is_attached_detached_and_attached_to_all(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await report(client)
    await webhook(client)
    uuid = (await servers(client))["web-1"]["uuid"]

    async def attached() -> list[str]:
        return [each["name"] for each in (await client.get(f"/api/v1/servers/{uuid}/integrations")).json()]

    await page.goto(f"{service.url}/servers/{uuid}")
    told = page.locator("#notified")
    await expect(told).to_contain_text("Nobody is notified")
    await told.get_by_role("button", name="Attach On-call hook", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("On-call hook will be notified.")
    assert await attached() == ["On-call hook"]
    await told.get_by_text("at once, change").click()
    await told.get_by_role("button", name="Detach On-call hook").click()
    await expect(page.get_by_role("status")).to_have_text("On-call hook will no longer be notified.")
    assert await attached() == []
    await told.get_by_role("button", name="Attach On-call hook to all servers and monitors").click()
    await expect(told).to_contain_text("attached to everything")
    await report(client, "web-2")
    other = (await servers(client))["web-2"]["uuid"]
    assert len((await client.get(f"/api/v1/servers/{other}/integrations")).json()) == 1


async def test_deleting_asks_first_and_says_what_goes(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await report(client)
    uuid = (await servers(client))["web-1"]["uuid"]
    await page.goto(f"{service.url}/servers/{uuid}")
    await page.get_by_role("button", name="Delete web-1").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Its charts and alerts are deleted permanently.")
    await dialog.get_by_role("button", name="Cancel").click()
    assert "web-1" in await servers(client)
    await page.get_by_role("button", name="Delete web-1").click()
    await dialog.get_by_role("button", name="Delete web-1").click()
    await expect(page.get_by_role("status")).to_have_text("web-1 deleted.")
    assert await servers(client) == {}
    answer = await page.goto(f"{service.url}/servers/{uuid}")
    assert answer
    assert answer.status == 404


async def test_a_reader_sees_everything_but_no_forms_and_no_token(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await report(client)
    uuid = (await servers(client))["web-1"]["uuid"]
    await page.goto(f"{service.url}/servers/{uuid}")
    token = await page.locator("main input[name=csrf]").first.input_value()
    await demote(service)
    await page.reload()
    assert await page.locator("main form[method=post]").count() == 0
    await expect(page.locator("#alerts")).to_contain_text(re.compile(r"CPU\s*at 90 % for 300 s"))
    for path in ("alerts", "delete", "integrations"):
        answer = await page.request.post(f"{service.url}/servers/{uuid}/{path}", form={"csrf": token})
        assert answer.status == 403, path
    await page.goto(f"{service.url}/servers/new")
    assert service.token not in await page.content()
    await expect(page.locator("#install-line")).to_contain_text("YOUR_TOKEN")


async def test_a_full_page_is_for_everybody_and_light(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    name = "<b>a-host-with-a-very-long-name</b>." + "long." * 30
    await webhook(client)
    await report(client, name, *((ago, 95.0 if ago % 7 else 3.0) for ago in range(400, -1, -2)))
    ((_, server),) = (await servers(client)).items()
    for width, scheme in ((360, "dark"), (1280, "light")):
        look: Any = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        member = await signed_in(service, browser, timezone_id="Asia/Kolkata", **look)
        console = Console(member)
        for path in (f"/servers/{server['uuid']}", f"/servers/{server['uuid']}?over=30d", "/servers", "/servers/new"):
            answer = await member.goto(f"{service.url}{path}")
            assert answer
            assert len(await answer.body()) < 34_000, path
            assert await findings(member) == []
            assert not await too_wide(member), f"{path} at {width}"
            assert await member.locator("main b").count() == 0
        assert console.said == []
        await member.context.close()


async def test_a_server_of_another_project_is_not_there(service: Service, page: Page) -> None:
    other = await service.new_project()
    async with service.client(other.api_token) as client:
        await report(client)
        uuid = (await servers(client))["web-1"]["uuid"]
        theirs = await webhook(client)
    async with service.client() as client:
        await report(client, "ours")
        ours = (await servers(client))["ours"]["uuid"]
    await page.goto(f"{service.url}/servers")
    await expect(page.get_by_text("web-1")).to_have_count(0)
    await page.goto(f"{service.url}/servers/{ours}")
    mark = await page.locator("main input[name=csrf]").first.input_value()
    for target, integration in ((ours, theirs), (uuid, theirs)):
        form = {"csrf": mark, "do": "attach", "integration": integration}
        assert (await page.request.post(f"{service.url}/servers/{target}/integrations", form=form)).status == 404
    for path in ("alerts", "delete"):
        assert (await page.request.post(f"{service.url}/servers/{uuid}/{path}", form={"csrf": mark})).status == 404
    for path in (uuid, "SRV0", f"{uuid}?over=7d"):
        answer = await page.goto(f"{service.url}/servers/{path}")
        assert answer
        assert answer.status == 404


async def test_the_page_for_a_new_server_shows_it_as_it_arrives(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/servers/new")
    await expect(page.locator("#arrived")).to_contain_text("Waiting for a first report")

    async def arrived() -> bool:
        await report(client, "fresh-1")
        return await page.locator("#arrived").get_by_role("link", name="fresh-1").is_visible()

    await until(arrived)
