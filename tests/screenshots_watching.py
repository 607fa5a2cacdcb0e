"""For `make screenshots`: a job that reports, a source that sends alerts, and monitors that several places watch."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx

from tests import sent_alerts
from tests.heartbeat_scene import here
from tests.probe_scene import connected, new_probe, saw
from tests.receivers import Receiver
from tests.service import Service
from tocsin.domain import ids

PLACES = {"frankfurt": 22.0, "oslo": 41.0, "toronto": 118.0}
"""Probes, and about how many milliseconds they are away."""
OUTPUT = "db/2026-11-28.sql.zst\ndb/latest\n\nsent 5,811,447,201 bytes, total size 5.8G\n"
PING = "INSERT INTO pings (heartbeat_id, at, n, kind, duration_ms) VALUES ($1, $2, $3, $4, $5)"


async def fill(service: Service, receiver: Receiver, client: httpx.AsyncClient) -> dict[str, str]:
    """The addresses of the pages by name."""
    return {
        "heartbeat": await _heartbeat(service, client), "source": await _source(service, client),
        "map": await _map(service, receiver, client),
    }  # fmt: skip


async def _heartbeat(service: Service, client: httpx.AsyncClient) -> str:
    """Five weeks of a nightly backup that failed once; the last run is of a moment ago."""
    wanted = {"name": "Nightly backup", "cron": "15 2 * * *", "timezone": "Europe/Vienna", "grace": 3_600}
    answer = await client.post("/api/v1/heartbeats", json={"heartbeat": wanted})
    answer.raise_for_status()
    made = here(client, answer.json())
    chance, now, key = random.Random(3), datetime.now(UTC), ids.parse(ids.HEARTBEAT, made["uuid"])
    rows = []
    for day in range(33, 0, -1):
        at, took = now - timedelta(days=day), chance.uniform(1_500, 1_900)
        kind = "fail" if day == 12 else "success"
        rows += [
            (key, at - timedelta(seconds=took), -2 * day - 1, "start", None), (key, at, -2 * day, kind, took * 1_000),
        ]  # fmt: skip
    async with connected(service.database) as connection:
        await connection.executemany(PING, rows)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as job:
        (await job.post(made["ping_url"], content=OUTPUT)).raise_for_status()
    return f"/heartbeats/{made['uuid']}"


async def _source(service: Service, client: httpx.AsyncClient) -> str:
    """Alertmanager tells of two alerts, and that one of them is over; somebody sends it something else."""
    answer = await client.post("/api/v1/sources", json={"source": {"name": "Cluster", "type": "alertmanager"}})
    answer.raise_for_status()
    made = answer.json()
    url = service.url + urlsplit(made["url"]).path
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    alerts = [sent_alerts.told(starts=now, instance=name) for name in ("db-1:9100", "db-2:9100")]
    over = sent_alerts.told("resolved", now, now, instance="db-2:9100")
    async with httpx.AsyncClient(trust_env=False, timeout=30) as other:
        (await other.post(url, json=sent_alerts.alertmanager(*alerts))).raise_for_status()
        (await other.post(url, json=sent_alerts.alertmanager(over, status="resolved"))).raise_for_status()
        await other.post(url, json={"version": "3", "alerts": []})
    return f"/sources/{made['uuid']}"


async def _map(service: Service, receiver: Receiver, client: httpx.AsyncClient) -> str:
    """Monitors from four places: about one of them they disagree, and a place is silent."""
    chance = random.Random(5)
    for name in PLACES:
        await new_probe(service.database, service.project.id, name)
    for name in ("API", "Docs", "Search", "Status page"):
        url = receiver.url(f"/{name.split()[0].lower()}")
        wanted = {"name": name, "url": url, "interval": 60, "locations": ["here", *PLACES]}
        answer = await client.post("/api/v1/network_monitors", json={"network_monitor": wanted})
        answer.raise_for_status()
        for place, away in PLACES.items():
            trouble = ("timeout", "No answer within 30 s") if (name, place) == ("Search", "toronto") else (None, None)
            ago = 1_500.0 if (name, place) == ("Docs", "oslo") else chance.uniform(3, 15)
            uuid = answer.json()["uuid"]
            await saw(service.database, uuid, place, *trouble, ago=ago, ms=away + chance.uniform(1, 15))
    return "/map"
