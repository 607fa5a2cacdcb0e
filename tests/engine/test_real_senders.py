"""The real Prometheus, the real Alertmanager and PagerDuty's own client send to us; they are killed, and so are we."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pagerduty
import pytest
import trustme

from tests import prometheus
from tests.api.test_sources import incidents, made
from tests.calls import attach_to_all, integration
from tests.prometheus import Daemon, Prometheus
from tests.receivers import Receiver
from tests.service import Service
from tests.sites import site
from tests.waiting import until


@pytest.fixture
async def daemons() -> AsyncIterator[list[Daemon]]:
    started: list[Daemon] = []
    yield started
    for each in started:
        each.kill()


async def ongoing(client: httpx.AsyncClient) -> set[str]:
    found = [(await client.get(f"/api/v1/incidents/{each['uuid']}")).json() for each in await incidents(client)]
    return {each["details"]["labels"]["disk"] for each in found}


async def are_ongoing(client: httpx.AsyncClient, *disks: str) -> None:
    async def look() -> bool:
        return await ongoing(client) == {*disks}

    await until(look, what=f"incidents of {disks}")


async def ended(client: httpx.AsyncClient, service: Service) -> dict[str, str]:
    """By disk, how its incident ended."""
    connection = await asyncpg.connect(service.database)
    try:
        rows = await connection.fetch("SELECT details, resolved_by FROM incidents WHERE closed_at IS NOT NULL")
    finally:
        await connection.close()
    found = [(each["details"].split('"disk": "')[1][0], each["resolved_by"]) for each in rows]
    assert len(dict(found)) == len(found), "each once"
    return dict(found)


async def set_back(service: Service, column: str, seconds: int) -> None:
    connection = await asyncpg.connect(service.database)
    try:
        await connection.execute(f"UPDATE api_heartbeat SET {column} = {column} - interval '{seconds} s'")
    finally:
        await connection.close()


@pytest.mark.timeout(240)
async def test_every_alert_of_prometheus_ends_right_and_none_is_told_twice_whoever_is_killed(
    own_service: Service, tmp_path: Path, receiver: Receiver, daemons: list[Daemon]
) -> None:
    own_service.project = await own_service.new_project()
    async with own_service.client() as client:
        source = await made(client, "alertmanager", name="Prometheus")
        await attach_to_all(client, await integration(client, "WebhookIntegration", webhook_url=receiver.url()))
        sender = Prometheus(tmp_path / "prometheus", source["url"])
        daemons.append(sender)
        await asyncio.to_thread(sender.start)

        sender.full("ab")
        await are_ongoing(client, "a", "b")
        sender.full("a")
        await are_ongoing(client, "a")
        sender.kill()
        await asyncio.to_thread(sender.start)
        sender.full("ac")
        await are_ongoing(client, "a", "c")

        # We are gone, for longer than Prometheus lets an alert last; meanwhile one ends and another begins.
        own_service.api.kill()
        own_service.engine.kill()
        sender.full("cd")
        await set_back(own_service, "seen_at", 60)
        await asyncio.to_thread(own_service.start)
        await are_ongoing(client, "c", "d")

        # Both are killed, and only we come back: nothing ends before we have listened for four minutes.
        own_service.api.kill()
        own_service.engine.kill()
        sender.kill()
        await set_back(own_service, "seen_at", 60)
        await asyncio.to_thread(own_service.start)
        connection = await asyncpg.connect(own_service.database)
        await connection.execute("UPDATE alerts SET ends_at = now() - interval '3 s'")
        away = "SELECT now() - since > interval '2 s' FROM api_heartbeat"
        await until(lambda: connection.fetchval(away), what="engines to have looked")
        await connection.close()
        assert await ongoing(client) == {"c", "d"}
        await set_back(own_service, "since", 240)
        await are_ongoing(client)
        said, silent = "Its source said that it is over", "It was no longer reported"
        assert await ended(client, own_service) == {"a": said, "b": said, "c": silent, "d": silent}

        def told() -> set[tuple[str, str]]:
            return {(each.id, each.json["incident_status"]) for each in receiver.to("/hook")}

        async def all_told() -> bool:
            return len(told()) >= 8

        await until(all_told, what=lambda: f"8 notifications: {sorted(told())}")
        assert sorted(status for _, status in told()) == ["ongoing"] * 4 + ["resolved"] * 4


async def test_the_real_alertmanager_tells_of_each_alert_and_of_those_that_it_left_out(
    client: httpx.AsyncClient, tmp_path: Path, daemons: list[Daemon]
) -> None:
    source = await made(client, "alertmanager")
    sender = prometheus.alertmanager(tmp_path / "alertmanager", source["url"])
    daemons.append(sender)
    await asyncio.to_thread(sender.start)
    few = [{"labels": {"alertname": "DiskFull", "disk": disk, "severity": "info"}} for disk in "ab"]
    many = [{"labels": {"alertname": "Many", "disk": disk}} for disk in "cdefg"]
    async with httpx.AsyncClient(trust_env=False) as other:
        await other.post(f"{sender.url}/api/v2/alerts", json=[*few, *many])
        known = {each["labels"]["disk"]: each["fingerprint"]
                 for each in (await other.get(f"{sender.url}/api/v2/alerts")).json()}

        async def all_of_them() -> list[Any] | None:
            found = await incidents(client)
            return found if len(found) == 5 else None

        for each in await until(all_of_them, what="five incidents"):
            read = (await client.get(f"/api/v1/incidents/{each['uuid']}")).json()
            assert read["dedup_key"] == known[read["details"]["labels"]["disk"]]
        bodies = (await client.get(f"/api/v1/sources/{source['uuid']}/bodies")).json()["data"]
        assert sorted(each["became"] for each in bodies) == [
            "1 opened", "1 opened", "3 opened, 2 left out by its sender, of which nothing is known"
        ]  # fmt: skip
        over = {"endsAt": datetime.now(UTC).isoformat()}
        await other.post(f"{sender.url}/api/v2/alerts", json=[{**each, **over} for each in few])

        async def ended() -> bool:
            return {each["incident_type"] for each in await incidents(client)} == {"Many"}

        await until(ended, what="those to end that are over")


async def test_pagerdutys_own_client_triggers_acknowledges_and_resolves(
    service: Service, client: httpx.AsyncClient
) -> None:
    source = await made(client, "pagerduty", name="Old monitor")
    key = source["url"].rpartition("/")[2]

    def play(url: str, trust: ssl.SSLContext) -> str:
        stranger = pagerduty.EventsApiV2Client("x" * 32, base_url=url, verify=trust)
        with stranger, pytest.raises(pagerduty.HttpError):
            stranger.resolve("k")
        with pagerduty.EventsApiV2Client(key, base_url=url, verify=trust) as sender:
            return say(sender)

    def say(sender: Any) -> str:
        made_up = sender.trigger("The disk is full", "db1.example.com", severity="warning")
        assert sender.trigger("It is fuller", "db1.example.com", dedup_key=made_up) == made_up
        sender.acknowledge(made_up)
        sender.send_change_event({"summary": "Version 7 was deployed", "source": "ci"})
        sender.resolve(sender.trigger("Another", "db2.example.com"))
        return str(made_up)

    async with behind_tls(service) as (url, trust):
        dedup_key = await asyncio.to_thread(play, url, trust)
    [incident] = await incidents(client)
    assert (await client.get(f"/api/v1/incidents/{incident['uuid']}")).json()["dedup_key"] == dedup_key
    assert incident["error_message"] == "It is fuller (db1.example.com)"
    assert (incident["severity"], incident["acknowledged_by"]) == ("critical", "Old monitor")
    [other] = await incidents(client, "resolved")
    assert other["error_message"] == "Another (db2.example.com)"


@asynccontextmanager
async def behind_tls(service: Service) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The service as behind a proxy with TLS, without which that client talks to nobody: its address, whom to trust."""
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(serving)
    authority.configure_trust(trusting)
    at = urlsplit(service.url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(at.hostname, at.port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async with site(pass_on, tls=serving) as port:
        yield f"https://localhost:{port}", trusting
