"""The pages of heartbeats in a real browser: made by a form, seen to report live, changed, read on a phone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.heartbeat_scene import new_heartbeat, pings_of, shown
from tests.service import Service
from tocsin.domain.errors import Refused
from tocsin.storage.monitoring.pings import Ran
from tocsin.web import heartbeat_form, run_calendar

MANY = """
WITH made AS (
    INSERT INTO heartbeats (id, project_id, name, slug, period, timezone, grace, key_hash, key_sealed)
    SELECT new_id(), h.project_id, 'Job number ' || n, 'job-' || n, 86400, 'UTC', 3600, sha256(new_id()::text::bytea),
           h.key_sealed
    FROM heartbeats h, generate_series(1, 1000) n WHERE h.project_id = $1 RETURNING id
)
INSERT INTO heartbeat_states (heartbeat_id, due_at, last_ping_at) SELECT id, now() + interval '1 day', now() FROM made
"""


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "422" not in said]


async def test_a_heartbeat_is_made_by_the_form_and_seen_to_report_live(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/heartbeats")
    await page.get_by_role("main").get_by_role("link", name="Add a heartbeat").click()
    await page.get_by_label("Name", exact=True).fill("Nightly backup")
    await page.get_by_label("Expected every").fill("soon")
    await page.get_by_role("button", name="Create heartbeat").click()
    await expect(page.locator("#every-error")).to_contain_text("must be a duration such as 1 d")
    assert await page.get_by_label("Name", exact=True).input_value() == "Nightly backup", "what was typed is there"
    await page.get_by_label("Expected every").fill("12 h")
    await page.get_by_role("button", name="Create heartbeat").click()
    await expect(page.get_by_role("heading", name="Nightly backup", exact=True)).to_be_visible()
    await expect(page.locator("#now .badge")).to_have_text("no ping yet")
    line = await page.locator("#line-cron").inner_text()
    (made,) = (await client.get("/api/v1/heartbeats")).json()["data"]
    assert made["period"] == 43_200
    assert line.startswith("0 3 * * * /path/to/job; curl -fsS -m 10 --retry 5")
    assert f"{made['ping_url']}/$?" in line
    url = f"{service.url}/ping/{made['ping_url'].rpartition('/')[2]}"
    await page.evaluate("window.sameLoad = true")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as job:
        await job.get(f"{url}/start")
        await expect(page.locator("#now .badge")).to_have_text("running", timeout=30_000)
        await job.post(f"{url}/2", content="copied <b>3</b> files\nno space left on device\n")
        await expect(page.locator("#now .badge")).to_have_text("down", timeout=30_000)
        await expect(page.locator("#runs .today")).to_contain_text("failed")
        await expect(page.locator("#incidents")).to_contain_text("Its last line: no space left on device")
        await job.get(url)
        await expect(page.locator("#now .badge")).to_have_text("up", timeout=30_000)
    await expect(page.locator("#pings li .main")).to_contain_text(["Success", "exit status 2", "Start"])
    assert await page.evaluate("window.sameLoad"), "all of it without loading the page again"
    await page.reload()
    await expect(page.locator("#output pre")).to_have_text("copied <b>3</b> files\nno space left on device\n")
    await page.get_by_role("link", name="46 B").click()
    assert "no space left" in await page.content()


async def test_settings_are_shown_as_they_are_and_changed(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client, name="Backup", cron="0 3 * * *", timezone="Europe/Vienna", grace=5_400)
    await page.goto(f"{service.url}/heartbeats/{made['uuid']}")
    settings = page.locator("#settings")
    assert await settings.get_by_label("Or by cron expression").input_value() == "0 3 * * *"
    assert await settings.get_by_label("Grace").input_value() == "1 h 30 min"
    await settings.get_by_label("Or by cron expression").fill("at night")
    await settings.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#cron-error")).to_contain_text("must have five fields")
    await settings.get_by_label("Or by cron expression").fill("")
    await settings.get_by_label("Expected every").fill("2 d")
    await settings.get_by_text("More", exact=True).click()
    await settings.get_by_label("Only POST requests count").check()
    await settings.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    changed = await shown(client, made)
    assert (changed["period"], changed["cron"], changed["methods"]) == (172_800, None, "POST")
    assert (changed["grace"], changed["slug"], changed["timezone"]) == (5_400, "backup", "Europe/Vienna")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#now .badge")).to_have_text("paused")
    await page.wait_for_load_state()
    await page.get_by_role("button", name="Change the address").click()
    await page.get_by_role("dialog").get_by_role("button", name="Change the address").click()
    await expect(page.get_by_role("status")).to_contain_text("It has a new address")
    assert (await shown(client, made))["ping_url"] != made["ping_url"]


async def test_the_ping_key_is_made_and_shown_on_the_list(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    await page.goto(f"{service.url}/heartbeats")
    await page.get_by_role("button", name="Make a ping key").click()
    key = (await client.get("/api/v1/ping_key")).json()["ping_key"]
    await expect(page.locator("#slug-line")).to_have_text(f"{service.url}/ping/{key}/SLUG?create=1")


async def test_the_line_for_a_shell_works_when_it_is_pasted(client: httpx.AsyncClient, service: Service) -> None:
    made = await new_heartbeat(client)
    (script,) = [text for key, _, _, text in heartbeat_form.lines(made["ping_url"], _wanted()) if key == "shell"]
    script = script.replace("/path/to/job", "sh -c 'echo one; echo two; exit 3'")
    process = await asyncio.create_subprocess_exec("sh", "-c", script)
    assert await asyncio.wait_for(process.wait(), 60) == 3
    end, start = await pings_of(client, made)
    assert (start["kind"], end["kind"], end["exit_status"], end["body_bytes"]) == ("start", "fail", 3, 7)


async def test_a_reader_sees_no_address_and_can_change_nothing(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client)
    await page.goto(f"{service.url}/heartbeats/{made['uuid']}")
    token = await page.locator("main input[name=csrf]").first.input_value()
    await demote(service)
    await page.reload()
    assert made["ping_url"].rpartition("/")[2] not in await page.content()
    assert await page.locator("main form[method=post]").count() == 0
    for path in ("", "/pause", "/rotate", "/delete", "/integrations"):
        answer = await page.request.post(f"{service.url}/heartbeats/{made['uuid']}{path}", form={"csrf": token})
        assert answer.status == 403, path
    assert (await page.request.post(f"{service.url}/heartbeats/ping_key", form={"csrf": token})).status == 403
    await page.goto(f"{service.url}/heartbeats/new")
    assert await page.locator("main form[method=post]").count() == 0


async def test_pages_are_for_everybody_on_a_phone_too(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    made = await new_heartbeat(client, name="<img src=x>" + "long" * 40, cron="0 3 * * *")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as job:
        await job.post(f"{made['ping_url']}/1", content="wide" * 5_000)
    member = await signed_in(service, browser, viewport={"width": 360, "height": 800}, color_scheme="dark")
    for path in ("/heartbeats", "/heartbeats/new", f"/heartbeats/{made['uuid']}"):
        await member.goto(service.url + path)
        await member.evaluate("document.querySelectorAll('main details').forEach(each => { each.open = true })")
        assert not await too_wide(member), path
        assert await findings(member) == [], path


async def test_a_list_of_a_thousand_is_quick_and_short(service: Service, page: Page, client: httpx.AsyncClient) -> None:
    await new_heartbeat(client)
    connection = await asyncpg.connect(service.database)
    await connection.execute(MANY, service.project.id)
    await connection.close()
    # Their keys are sealed for another heartbeat: they cannot be opened, and the list does without.
    times = []
    for _ in range(5):
        began = time.perf_counter()
        answer = await page.request.get(f"{service.url}/heartbeats?sort=name")
        times.append(time.perf_counter() - began)
        assert answer.status == 200
        assert len(await answer.body()) < 100_000
    assert min(times) < 1.0  # 100 ms on a quiet machine: `make bench ARGS="pages"`


def test_the_calendar_counts_by_the_readers_days() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert run_calendar.start("UTC", now) == datetime(2026, 10, 26, tzinfo=UTC)
    runs = [
        Ran(datetime(2026, 11, 27, 23, 30, tzinfo=UTC), True, 90_000.0),
        Ran(datetime(2026, 11, 27, 12, 0, tzinfo=UTC), False, 30_000.0),
        Ran(datetime(2026, 11, 27, 11, 0, tzinfo=UTC), True, None),
    ]
    days = {day.date.day: day for day in run_calendar.days(runs, "UTC", now) if day.runs}
    assert [(day.kind, day.runs, day.took) for day in days.values()] == [
        ("bad", "3 runs, 1 failed", "30 s to 1 min 30 s"),
    ]  # fmt: skip
    vienna = run_calendar.days(runs, "Europe/Vienna", now)
    assert [(day.date.day, day.runs, day.today) for day in vienna if day.runs] == [
        (27, "2 runs, 1 failed", False), (28, "1 run", True),
    ]  # fmt: skip
    assert len(vienna) == 34
    assert vienna[0].date == (now - timedelta(days=33)).date()


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("1 d", 86_400), ("1d 12h", 129_600), ("90 s", 90), ("15", 900), ("1,5 h", 5_400), ("2 days", 172_800),
     ("10 minutes", 600), ("0.5s", 0.5)],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(typed: str, seconds: float) -> None:
    assert heartbeat_form.seconds("every", typed) == seconds
    assert heartbeat_form.seconds("every", heartbeat_form.in_words(seconds)) == seconds


@pytest.mark.parametrize("typed", ["", "soon", "1 fortnight", "-1 d", "1 d d", "1..5 h", "∞"])
def test_what_is_no_duration_is_refused(typed: str) -> None:
    with pytest.raises(Refused):
        heartbeat_form.seconds("every", typed)


def _wanted() -> heartbeat_form.HeartbeatConfig:
    return heartbeat_form.HeartbeatConfig("Nightly backup", "nightly-backup")
