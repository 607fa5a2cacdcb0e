"""`make screenshots`: the main pages of a lively installation, as pictures in docs/screenshots.

A real service, filled through the API and the storage verbs; pages that this version does not have are left out.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from playwright.async_api import Browser, Page

from tests import screenshots_watching
from tests.browser import chromium
from tests.postgres import of_database
from tests.receivers import Answer, Mailbox, Receiver
from tests.service import Service, service_on
from tests.slack_server import SlackServer
from tests.waiting import until
from tocsin import settings as configuration
from tocsin.domain import ids
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres import embedded
from tocsin.storage.postgres.migrate import migrate
from tocsin.storage.postgres.secrets import Vault

TO = Path(__file__).parent.parent / "docs" / "screenshots"
LARGEST = 120 * 1024
OPERATOR = "ann@example.com"
GIB = 1 << 30
SERVERS = ("web-1", "web-2", "db-1", "mail-1")


@asynccontextmanager
async def installation() -> AsyncIterator[tuple[Service, Receiver, SlackServer]]:
    """A service on a database of its own, with far ends that answer."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-screenshots-"))
    running = embedded.start(folder)
    mailbox, receiver, slack = Mailbox(), Receiver(), SlackServer()
    admin = await asyncpg.connect(running.dsn)
    await admin.execute("CREATE DATABASE screenshots")
    await admin.close()
    database = of_database(running.dsn, "screenshots")
    await migrate(database)
    service = service_on(
        database, folder, TOCSIN_SMTP_URL=mailbox.url, TOCSIN_EMAIL_FROM="tocsin@example.com",
        TOCSIN_RETRY_SCHEDULE="2,2,3600", TOCSIN_SMS_PROVIDER="outbox", **slack.environ(),
    )
    try:
        service.start()
        yield service, receiver, slack
    finally:
        service.stop()
        for far_end in (mailbox, receiver, slack):
            far_end.close()
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def fill(service: Service, receiver: Receiver, browser: Page, slack: SlackServer) -> dict[str, str]:
    """A shop's day. Returns the addresses of its most telling pages by name."""
    async with service.client() as client:
        for name in SERVERS:
            await _report(client, name)
        servers = {each["hostname"]: each["uuid"] for each in (await client.get("/api/v1/servers")).json()}
        monitors = [
            await _made(client, "network_monitors", "network_monitor", name=name, url=url, interval=60)
            for name, url in (("Shop", f"{receiver.url('/shop')}"), ("Checkout", receiver.url("/checkout")))
        ]
        made: list[str] = []
        for kind, name, values in (
            ("Webhook", "Incident desk", {"webhook_url": receiver.url("/desk")}),
            ("Webhook", "Old chat", {"webhook_url": receiver.url("/gone")}),
            ("Email", "Ben", {"email": "ben@example.com"}),
            ("Sms", "Ann's phone", {"phone_number": "+431234567"}),
            ("SshServerRestart", "Restart db-1", {"ip": "192.168.1.100", "username": "admin", "password": "unused"}),
        ):
            made.append(
                await _made(
                    client, "integrations", "integration", type=f"Integrations::{kind}Integration", name=name,
                    settings=values,
                )
            )
        way = (await client.post("/api/v1/integrations/slack/initiate", json={})).json()
        await browser.goto(f"{service.url}{slack.consent(way['oauth_url'], slack.workspace())}")
        receiver.then(*[Answer(404, body=b"no such hook")] * 30, path="/gone")
        for each, after in zip(made[:4], (0, 0, 0, 600), strict=True):
            answer = await client.post(f"/api/v1/integrations/{each}/attach_all", json={"after": after})
            answer.raise_for_status()
        duty = await _made(
            client, "integrations", "integration", type="Integrations::OnCallIntegration", name="Operations",
            settings={"timezone": "Europe/Vienna", "rotation": "weekly", "handover": "MO 09:00",
                      "integrations": [made[2], made[3]]},
        )  # fmt: skip
        starts = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        await _made(
            client, "silences", "silence", name="Backups", starts_at=starts.isoformat(), resources=[servers["mail-1"]],
            recurrence={"rrule": "FREQ=WEEKLY", "duration": 10_800, "timezone": "Europe/Vienna"},
        )
        opened = []
        for server, kind, message in (
            ("db-1", "disk", "disk is 96.2% full, over the threshold of 90%"),
            ("web-1", "cpu", "CPU at 97.4% for 5 min, over the threshold of 90%"),
            ("web-2", "ram", "RAM at 93.1% for 5 min, over the threshold of 90%"),
        ):
            incident = {"resource_type": "Server", "resource_uuid": servers[server], "incident_type": kind,
                        "message": message}  # fmt: skip
            answer = await client.post("/api/v1/incidents", json={"incident": incident})
            opened.append(answer.json()["uuid"])
        await client.post(f"/api/v1/incidents/{opened[1]}/resolve")
        await browser.goto(f"{service.url}/incidents/{opened[0]}")
        await browser.get_by_role("button", name="Acknowledge for 1 h").click()

        async def told() -> bool:
            rows = (await client.get(f"/api/v1/integrations/{made[0]}/deliveries")).json()
            rows = rows["data"] if isinstance(rows, dict) else rows
            return len([each for each in rows if each["status"] == "delivered"]) >= 4

        async def given_up() -> bool:
            rows = (await client.get(f"/api/v1/integrations/{made[1]}/deliveries?status=dead")).json()
            return bool(rows["data"])

        await until(told, what="the deliveries of the demo", timeout=30)
        await until(given_up, what="a delivery that is given up", timeout=30)
        listed = (await client.get(f"/api/v1/integrations/{made[0]}/deliveries")).json()
        delivery = (listed["data"] if isinstance(listed, dict) else listed)[0]["uuid"]
        watching = await screenshots_watching.fill(service, receiver, client)
        listed = (await client.get("/api/v1/network_monitors")).json()["data"]
        monitors += [each["uuid"] for each in listed if each["uuid"] not in monitors]
    await _history(service, monitors)
    return {
        "overview": "/overview", "incidents": "/incidents", "incident": f"/incidents/{opened[0]}",
        "silences": "/silences", "on-call": f"/integrations/{duty}", "integrations": "/integrations",
        "integration": f"/integrations/{made[0]}", "delivery": f"/deliveries/{delivery}", "servers": "/servers",
        "server": f"/servers/{servers['web-1']}", "monitors": "/network_monitors",
        "monitor": f"/network_monitors/{monitors[0]}", "settings": "/settings",
        "notified": f"/servers/{servers['web-1']}#notified", **watching,
    }  # fmt: skip


async def _made(client: httpx.AsyncClient, where: str, root: str, **values: Any) -> str:
    answer = await client.post(f"/api/v1/{where}", json={root: values})
    answer.raise_for_status()
    return str(answer.json()["uuid"])


async def _report(client: httpx.AsyncClient, name: str) -> None:
    """A day of samples, three minutes apart, with a spike two hours ago on web-1."""
    chance, now = random.Random(name), datetime.now(UTC)
    metrics, sent = [], 0.0
    for minutes in range(1440, -1, -3):
        wave = math.sin(minutes / 230 + len(name)) * 12
        spike = 84 * math.exp(-(((minutes - 120) / 25) ** 2)) if name == "web-1" else 0
        sent += chance.uniform(2e6, 9e6)
        values = {
            "cpu_used": min(98.0, max(2.0, 30 + wave + spike + chance.uniform(-4, 4))),
            "mem_used_b": (0.55 + wave / 200 + chance.uniform(0, 0.02)) * 16 * GIB,
            "disk_used_b": (0.7 - minutes / 20_000) * 512 * GIB,
            "net_sent_b": sent, "net_recv_b": sent * 0.4,
        }  # fmt: skip
        at = (now - timedelta(minutes=minutes)).isoformat()
        metrics += [{"metric": metric, "value": value, "timestamp": at} for metric, value in values.items()]
    attributes = {
        "motherboard_id": f"board-{name}", "hostname": name, "public_ip": "203.0.113.10", "private_ip": "10.0.0.4",
        "cpu_cores": 8, "cpu_model": "AMD EPYC 7443P", "operating_system": "linux", "kernel_version": "6.8.0",
        "disk_total_bytes": 512 * GIB, "memory_total_bytes": 16 * GIB, "uptime": 1_234_567,
    }  # fmt: skip
    body = {"attributes": attributes, "metrics": metrics, "agent_version": "1.2.3"}
    answer = await client.post("/api/v1/server_metrics", json=body)
    answer.raise_for_status()


async def _history(service: Service, monitors: list[str]) -> None:
    """A day of checks, a minute apart: one monitor is slow for a while, and down for six minutes."""
    chance, now = random.Random(7), datetime.now(UTC)
    rows = []
    for uuid in monitors:
        for minutes in range(1440, 0, -1):
            down = 300 < minutes <= 306 and uuid == monitors[0]
            slow = 380 * math.exp(-(((minutes - 310) / 30) ** 2)) if uuid == monitors[0] else 0
            took = None if down else 90 + slow + chance.expovariate(1 / 25)
            rows.append(
                (ids.parse(ids.MONITOR, uuid), now - timedelta(minutes=minutes), not down,
                 "http_status" if down else None, "503 Service Unavailable" if down else None,
                 503 if down else 200, took)
            )  # fmt: skip
    hours = [
        (ids.parse(ids.MONITOR, uuid), (now - timedelta(hours=hour)).replace(minute=0, second=0, microsecond=0), 60,
         60 if hour % 190 > 1 else 41, 95.0 + chance.uniform(0, 30))
        for uuid in monitors for hour in range(26, 720)
    ]  # fmt: skip
    connection = await asyncpg.connect(service.database)
    await connection.copy_records_to_table(
        "checks_hourly", records=hours, columns=["monitor_id", "at", "total", "ok", "response_ms"]
    )
    await connection.copy_records_to_table(
        "checks", records=rows,
        columns=["monitor_id", "at", "ok", "problem", "message", "status_code", "response_ms"],
    )
    await connection.close()


async def _sign_in(service: Service) -> str:
    keys = configuration.load(environ=service.environ).secret_keys
    pool, vault = await storage.pool(service.database, size=1, name="screenshots"), Vault(keys)
    async with pool.acquire() as tx, tx.transaction():
        service.project = await accounts.create_project(tx, vault, "Web shop", "paid", OPERATOR)
        user = await accounts.ensure_user(tx, OPERATOR)
        await accounts.set_name(tx, user.id, "Ann")
        await accounts.verify(tx, user.id, OPERATOR)
        await tx.execute("UPDATE users SET operator = true WHERE id = $1", user.id)
        for name, role in (("bob@example.com", "member"), ("cleo@example.com", "reader")):
            other = await accounts.ensure_user(tx, name)
            await tx.execute(accounts.INSERT_MEMBER, service.project.id, other.id, role)
        token = await sessions.begin(tx, vault, user, "Chrome on Linux")
    await pool.close()
    return token


async def _page(service: Service, browser: Browser, token: str, width: int, height: int) -> Page:
    context = await browser.new_context(viewport={"width": width, "height": height})
    await context.add_cookies([{"name": "tocsin", "value": token, "url": service.url}])
    return await context.new_page()


async def main() -> None:
    TO.mkdir(parents=True, exist_ok=True)
    async with installation() as (service, receiver, slack), chromium() as browser:
        token = await _sign_in(service)
        wide = await _page(service, browser, token, 1280, 800)
        places = await fill(service, receiver, wide, slack)
        phone = await _page(service, browser, token, 360, 780)
        for name, place in places.items():
            await _shoot(wide, f"{service.url}{place}", TO / f"{name}.png")
        for name in ("incident", "overview", "server", "map"):
            await _shoot(phone, f"{service.url}{places[name]}", TO / f"{name}-phone.png")


async def _shoot(page: Page, url: str, file: Path) -> None:
    answer = await page.goto(url)
    if answer is None or answer.status != 200:
        print(f"left out: {file.name} ({answer and answer.status})")
        return
    part = page.locator(f"#{place}") if (place := url.partition("#")[2]) else page
    await part.screenshot(path=file, animations="disabled")
    size = file.stat().st_size
    print(f"{file.name}: {size / 1024:.0f} KiB")
    if size > LARGEST:
        sys.exit(f"{file} is larger than {LARGEST} bytes")


if __name__ == "__main__":
    asyncio.run(main())
