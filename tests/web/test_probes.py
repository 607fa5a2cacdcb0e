"""Places in the form and on the page of a monitor, and the pages of probes, in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import Console, demote, findings, signed_in, too_wide
from tests.probe_scene import checked_from, connected, new_probe, saw
from tests.processes import Process, tocsin
from tests.receivers import Answer, Receiver
from tests.service import Service
from tests.web.test_network_monitors import make, monitor
from tocsin.domain import ids
from tocsin.storage.monitoring.places import Seen
from tocsin.web import places

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PATIENCE = 40_000
"""Milliseconds."""
QUIET = {"url": "http://127.0.0.1:9/", "interval": 3600, "paused": True}


@pytest_asyncio.fixture
async def page(service: Service, browser: Browser) -> AsyncIterator[Page]:
    page = await signed_in(service, browser)
    console = Console(page)
    yield page
    assert not [said for said in console.said if "404" not in said and "422" not in said and "403" not in said]


def named(service: Service, *names: str) -> list[str]:
    """Names of probes that no other test has taken: they are the installation's."""
    return [f"{name}-{service.project.id.hex[-10:]}" for name in names]


async def probes(service: Service, *names: str) -> list[str]:
    return [await new_probe(service.database, service.project.id, name, only=service.project.id) for name in names]


@asynccontextmanager
async def as_operator(service: Service) -> AsyncIterator[None]:
    """Whoever is signed in runs the installation for as long as this lasts."""
    change = "UPDATE users SET operator = $1 WHERE email = 'ann@example.com'"
    async with connected(service.database) as connection:
        await connection.execute(change, True)
        try:
            yield
        finally:
            await connection.execute(change, False)


async def test_places_are_chosen_in_the_form_of_a_monitor_and_none_means_here(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    graz, wien = named(service, "graz", "wien")
    await probes(service, graz, wien)
    await page.goto(f"{service.url}/network_monitors/new")
    boxes = page.get_by_role("group", name="Places")
    await expect(boxes.get_by_role("checkbox").first).to_be_checked()
    await expect(boxes).to_contain_text("Here")
    await page.get_by_label("What to monitor").fill("http://127.0.0.1:9/")
    await page.get_by_text("Check settings").click()
    await page.get_by_label("Interval in seconds").fill("often")
    await boxes.get_by_label(wien).check()
    await boxes.get_by_label("Here").uncheck()
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.locator("#interval-error")).to_be_visible()
    await expect(boxes.get_by_label(wien)).to_be_checked()
    await expect(boxes.get_by_label("Here")).not_to_be_checked()
    await page.get_by_label("Interval in seconds").fill("3600")
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.get_by_role("status")).to_contain_text("is now monitored.")
    (made,) = (await client.get("/api/v1/network_monitors")).json()["data"]
    assert (await monitor(client, made["uuid"]))["locations"] == [wien]
    await expect(page.locator("#places li")).to_have_text([re.compile(rf"^{wien}\s+not heard yet\s*$")])
    for name in ("Here", graz):
        await boxes.get_by_label(name).check()
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    assert (await monitor(client, made["uuid"]))["locations"] == [wien, "here", graz], "in the order that they had"
    for name in ("Here", graz, wien):
        await boxes.get_by_label(name).uncheck()
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.get_by_role("status")).to_have_text("Settings saved.")
    assert (await monitor(client, made["uuid"]))["locations"] is None
    await expect(boxes.get_by_label("Here")).to_be_checked()
    await expect(page.locator("#places")).to_have_count(0)


async def test_a_place_that_there_is_not_is_refused_in_the_form_with_those_that_there_are(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    (wien,) = named(service, "wien")
    await probes(service, wien)
    await page.goto(f"{service.url}/network_monitors/new")
    await page.get_by_label("What to monitor").fill("http://127.0.0.1:9/")
    await page.get_by_label(wien).check()
    async with connected(service.database) as connection:
        await connection.execute("UPDATE probes SET name = $1 || '-2' WHERE name = $1", wien)
    await page.get_by_role("button", name="Create monitor").click()
    await expect(page.locator("#locations-error")).to_contain_text(
        re.compile(f"no place {wien}; there are: here, .*{wien}-2")
    )
    await expect(page.get_by_label(f"{wien} (no longer there)")).to_be_checked()
    assert await findings(page) == []
    token = await page.locator("main input[name=csrf]").first.input_value()
    many = [f"locations=%3Cb%3E{number}{'x' * 200}" for number in range(200)]
    body = "&".join([f"csrf={token}", "url=http://127.0.0.1:9/", "places=shown", *many])
    answer = await page.request.post(
        f"{service.url}/network_monitors", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == 422
    assert len(await answer.body()) < 40_000


async def test_without_probes_the_form_asks_for_no_places_and_what_is_set_stays(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    (wien,) = named(service, "wien")
    other = await service.new_project()
    await new_probe(service.database, other.id, wien, only=other.id)
    await page.goto(f"{service.url}/network_monitors/new")
    assert wien not in await page.content(), "another project's own"
    uuid = await make(client, **QUIET)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    token = await page.locator("main input[name=csrf]").first.input_value()
    await checked_from(service.database, uuid, ["here"])
    answer = await page.request.post(
        f"{service.url}/network_monitors/{uuid}", form={"csrf": token, "url": QUIET["url"], "name": "Renamed"}
    )
    assert answer.ok
    changed = await monitor(client, uuid)
    assert (changed["name"], changed["locations"]) == ("Renamed", ["here"])


async def test_a_monitors_page_says_what_each_place_saw_and_which_place_made_each_check(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    graz, wien = named(service, "graz", "wien")
    uuid = await make(client, **QUIET)
    await page.goto(f"{service.url}/network_monitors/{uuid}")
    await expect(page.locator("#places")).to_have_count(0)
    await probes(service, graz, wien)
    await checked_from(service.database, uuid, [wien, "here", graz])
    await saw(service.database, uuid, wien, "timeout", "No answer within <b>30 s</b>")
    await saw(service.database, uuid, "here", ms=85.4)
    async with connected(service.database) as connection:
        await connection.execute("UPDATE network_monitors SET paused = false, interval = 60 WHERE name = url")
        await connection.executemany(
            "INSERT INTO checks (monitor_id, at, ok, message, response_ms, unreachable, place)"
            " SELECT id, now() - make_interval(secs => $1), $2, $3, 85, $1 = 20, $4 FROM network_monitors"
            " WHERE project_id = $5",
            [(9, False, "No answer", wien, service.project.id), (10, True, None, None, service.project.id),
             (20, False, "No answer", wien, service.project.id)],
        )
    await page.reload()
    await expect(page.locator("#places li")).to_have_text([
        re.compile(rf"^{wien}\s*No answer within <b>30 s</b>\s+timeout 3 in a row · \d+ s ago\s*$"),
        re.compile(r"^Here\s+good 7 in a row · 85 ms · \d+ s ago\s*$"), re.compile(rf"^{graz}\s+not heard yet\s*$"),
    ])  # fmt: skip
    await expect(page.locator("#checks li")).to_have_text(
        [re.compile(rf"^No answer\s+{wien} · 85 ms"), re.compile(r"^OK\s+Here · 85 ms"),
         re.compile(rf"^No downtime: No answer\s+{wien}")]
    )
    async with connected(service.database) as connection:
        await connection.execute("DELETE FROM monitor_places WHERE place <> 'here'")
    await page.reload()
    await expect(page.locator("#places li").first).to_have_text(re.compile("no longer there"))
    await page.locator("#places").get_by_role("link", name="Who sees what").click()
    await expect(page.get_by_role("rowheader")).to_have_count(1)


async def test_probes_are_listed_with_how_they_are_and_how_to_add_one(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    fresh, old, theirs = named(service, "fresh", "old", "theirs")
    await new_probe(service.database, service.project.id, fresh)
    await new_probe(service.database, service.project.id, old, only=service.project.id, seen=3_600)
    other = await service.new_project()
    await new_probe(service.database, other.id, theirs, only=other.id)
    uuid = await make(client, **QUIET)
    await checked_from(service.database, uuid, ["here", fresh])
    await page.goto(f"{service.url}/network_monitors")
    await page.get_by_role("main").get_by_role("link", name="Probes").click()
    row = page.locator("#probes li", has_text=fresh)
    await expect(row).to_have_text(re.compile(r"heard \d+ s ago · version 1\.0\s+lives\s+1 monitor"))
    await expect(page.locator("#probes li", has_text=old)).to_contain_text("silent")
    await expect(page.locator("#probes li", has_text=old)).to_contain_text(f"only for {service.project.name}")
    assert theirs not in await page.content()
    await expect(page.locator("#add-line")).to_have_text("tocsin probe add NAME")
    async with as_operator(service):
        await page.reload()
        await expect(page.locator("#probes li", has_text=theirs)).to_be_visible()


async def test_a_probes_page_shows_what_it_checks_and_who_is_told_when_it_is_silent(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    (wien,) = named(service, "wien")
    probe = await new_probe(service.database, service.project.id, wien, only=service.project.id, seen=600)
    good, bad = await make(client, name="Good", **QUIET), await make(client, name="Bad", **QUIET)
    for uuid in (good, bad):
        await checked_from(service.database, uuid, ["here", wien])
    await saw(service.database, good, wien)
    await saw(service.database, bad, wien, "dns_error", "no such name")
    async with connected(service.database) as connection:
        await connection.execute(
            "UPDATE network_monitors SET paused = false, interval = 60 WHERE project_id = $1", service.project.id
        )
    incident = {"resource_type": "Probe", "resource_uuid": probe, "incident_type": "silent", "message": "Not heard of"}
    opened = await client.post("/api/v1/incidents", json={"incident": incident})
    assert opened.is_success, opened.text
    await page.goto(f"{service.url}/probes/{probe}")
    await expect(page.locator("#now .badge")).to_have_text("silent")
    await expect(page.locator("#monitors li")).to_have_text(
        [re.compile(r"^Bad\s+name not found 3 in a row"), re.compile(r"^Good\s+good 7 in a row · 85 ms")]
    )
    await expect(page.locator("#incidents")).to_contain_text(re.compile("[Nn]ot (been )?heard"))
    await expect(page.locator("#run-line")).to_contain_text(f"--url {service.url}")
    await expect(page.get_by_role("heading", name="Who is notified")).to_be_visible()
    await page.get_by_role("link", name=re.compile("not (been )?heard", re.IGNORECASE)).click()
    await page.get_by_role("link", name=wien).first.click()
    await expect(page.get_by_role("heading", name=wien, exact=True)).to_be_visible()


async def test_another_projects_own_probe_is_not_found_and_a_common_one_shows_only_what_is_ones_own(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    own, common = named(service, "own", "common")
    other = await service.new_project()
    private = await new_probe(service.database, other.id, own, only=other.id)
    shared = await new_probe(service.database, other.id, common)
    async with service.client(other.api_token) as stranger:
        theirs = await make(stranger, name="Their secret shop", **QUIET)
    await checked_from(service.database, theirs, [common])
    await page.goto(f"{service.url}/probes/{private}")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    for unknown in ("PRB01JZZZZZZZZZZZZZZZZZZZZZZZ", "PRB", "SRV01"):
        answer = await page.request.get(f"{service.url}/probes/{unknown}")
        assert answer.status == 404, unknown
    await page.goto(f"{service.url}/probes/{shared}")
    await expect(page.locator("#monitors")).to_contain_text("None yet")
    assert "Their secret shop" not in await page.content()
    for part in ("#incidents", "#revoke", "#silences"):
        await expect(page.locator(part)).to_have_count(0)


async def test_only_the_operator_revokes_a_probe_and_confirms_it(
    service: Service, page: Page, client: httpx.AsyncClient
) -> None:
    (wien,) = named(service, "wien")
    (probe,) = await probes(service, wien)
    uuid = await make(client, **QUIET)
    await checked_from(service.database, uuid, ["here", wien])
    await page.goto(f"{service.url}/probes/{probe}")
    await expect(page.locator("#revoke")).to_have_count(0)
    token = await page.locator("main input[name=csrf]").first.input_value()
    answer = await page.request.post(f"{service.url}/probes/{probe}/revoke", form={"csrf": token})
    assert answer.status == 403
    async with as_operator(service):
        await demote(service)
        await page.reload()
        await page.get_by_role("button", name="Revoke probe").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("1 monitor is no longer checked from there")
        await dialog.get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Revoke probe").click()
        await dialog.get_by_role("button", name="Revoke probe").click()
        await expect(page.get_by_role("status")).to_contain_text(f"{wien} is revoked")
        await expect(page.locator("#now .badge")).to_have_text("revoked")
        await expect(page.locator("#revoke")).to_have_count(0)
        own = ids.public(ids.PROJECT, service.project.id)
        await expect(page.locator("#add-line")).to_have_text(f"tocsin probe add {wien} --only {own}")


async def test_the_lines_on_the_page_make_and_run_a_probe_whose_page_then_follows_it(
    service: Service, page: Page, client: httpx.AsyncClient, receiver: Receiver, tmp_path: Path
) -> None:
    (wien,) = named(service, "wien")
    await page.goto(f"{service.url}/probes")
    add = (await page.locator("#add-line").inner_text()).replace("NAME", wien).split()
    run = (await page.locator("#run-line").inner_text()).split()
    assert (add[0], run[0]) == ("tocsin", "tocsin")
    own = ids.public(ids.PROJECT, service.project.id)
    made = await tocsin(*add[1:], "--project", own, "--only", own, environ=service.environ)
    assert made.code == 0, made.err
    file = tmp_path / "token"
    file.write_text(made.out)
    await page.get_by_role("link", name=wien).click()
    await expect(page.locator("#now .badge")).to_have_text("not heard yet")
    await expect(page.locator("#add-line")).to_have_text(f"tocsin probe add {wien} --only {own}")
    await page.evaluate("window.sameLoad = true")
    receiver.otherwise = Answer(500)
    words = [str(file) if word.endswith(".token") else word for word in run[1:]]
    settings = {"TOCSIN_ENV": "development", "TOCSIN_DATA_DIR": str(tmp_path / "nothing")}
    probe = Process(*words, environ=settings, log=tmp_path / "probe.log").start()
    try:
        await expect(page.locator("#now .badge")).to_have_text("lives", timeout=PATIENCE)
        uuid = await make(client, url=receiver.url("/"), locations=[wien, "here"])
        await expect(page.locator("#monitors li")).to_have_text(re.compile("wrong status"), timeout=PATIENCE)
        assert await page.evaluate("window.sameLoad"), "without loading the page again"
        await page.goto(f"{service.url}/network_monitors/{uuid}")
        await expect(page.locator("#now .badge")).to_have_text("down", timeout=PATIENCE)
        await expect(page.locator("#incidents")).to_contain_text(f"From 2 of 2 places ({wien}, here)")
        await expect(page.locator("#checks")).to_contain_text(wien)
    finally:
        assert probe.stop() == 0, probe.said()


async def test_pages_of_probes_are_for_everybody_on_a_phone_too(
    service: Service, browser: Browser, client: httpx.AsyncClient
) -> None:
    name = f"{service.project.id.hex[-12:]}{'x' * 38}"
    (probe,) = await probes(service, name)
    uuid = await make(client, **{**QUIET, "name": "<img src=x>" + "long" * 40})
    await checked_from(service.database, uuid, ["here", name])
    await saw(service.database, uuid, name, "timeout", "y" * 2_000)
    async with connected(service.database) as connection:
        await connection.execute(
            "UPDATE network_monitors SET paused = false, interval = 60 WHERE project_id = $1", service.project.id
        )
    phone = await signed_in(service, browser, viewport={"width": 360, "height": 800}, color_scheme="dark")
    for path in ("/map", "/probes", f"/probes/{probe}", f"/network_monitors/{uuid}", "/network_monitors/new"):
        await phone.goto(service.url + path)
        assert not await too_wide(phone), path
        assert await findings(phone) == [], path


@pytest.mark.parametrize(("saw", "said"), [
    ([], ""),
    ([Seen("here"), Seen("wien")], ""),
    ([Seen("here", heard_at=NOW, lives=True), Seen("wien")], ""),
    ([Seen("here", heard_at=NOW, lives=True), Seen("wien", heard_at=NOW, lives=True), Seen("graz", heard_at=NOW)], ""),
    ([Seen("here", heard_at=NOW, lives=True), Seen("wien", gone=True)], ""),
    ([Seen("here", heard_at=NOW, lives=True), Seen("wien", heard_at=NOW)], "only Here lives"),
    ([Seen("here", heard_at=NOW), Seen("wien", heard_at=NOW)], "none lives"),
    ([Seen("wien", gone=True)], "Nobody checks it"),
])  # fmt: skip
def test_it_is_said_when_nothing_can_be_decided(saw: list[Seen], said: str) -> None:
    found = places.undecided(saw)
    assert bool(found) == bool(said)
    assert said in found
