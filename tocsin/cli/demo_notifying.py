"""The demo's second act: who is notified, and when. An escalation that somebody stops in time, a silence, one cause and
one message, and a message as Discord wants it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tocsin.cli.demo_receivers import PATIENCE, DemoReceivers, Failed, Site
from tocsin.web import ready_made

ESCALATE_AFTER = 3
"""Seconds after which somebody else is told, unless it is acknowledged."""
SILENCE = 3
SHOPS = 15

Ask = Callable[..., Awaitable[Any]]
Say = Callable[..., None]


async def show(ask: Ask, say: Say, receivers: DemoReceivers, server: str) -> None:
    """Everything, one after the other. `ask` calls the API, `say` prints. Raises `Failed`."""
    discord = await _discord(ask, say, receivers)
    await ask("POST", f"/api/v1/servers/{server}/integrations", {"integration_id": discord})
    boss = await hook(ask, receivers, "boss")
    later = {"integration_id": boss, "after": ESCALATE_AFTER}
    await ask("POST", f"/api/v1/servers/{server}/integrations", later)
    say(f"Discord is told of the server at once, a second webhook after {ESCALATE_AFTER} s unless acknowledged")
    await _escalation(ask, say, receivers, server, boss)
    await _silence(ask, say, receivers, server)
    await _one_cause(ask, say, receivers)


async def _discord(ask: Ask, say: Say, receivers: DemoReceivers) -> str:
    """The ready-made webhook for Discord, to a stand-in on this machine."""
    settings = {**ready_made.all_()["discord"].settings, "webhook_url": receivers.discord_url}
    wanted = {"type": "Integrations::WebhookIntegration", "name": "Discord", "settings": settings}
    made = await ask("POST", "/api/v1/integrations", {"integration": wanted})
    return str(made["uuid"])


async def hook(ask: Ask, receivers: DemoReceivers, name: str) -> str:
    """A webhook to one of the receivers."""
    settings = {"webhook_url": f"http://127.0.0.1:{receivers.webhook_port}/{name}"}
    wanted = {"type": "Integrations::WebhookIntegration", "name": name, "settings": settings}
    made = await ask("POST", "/api/v1/integrations", {"integration": wanted})
    return str(made["uuid"])


async def _open(ask: Ask, server: str, kind: str, message: str) -> dict[str, Any]:
    incident = {"resource_type": "Server", "resource_uuid": server, "incident_type": kind, "message": message}
    made: dict[str, Any] = await ask("POST", "/api/v1/incidents", {"incident": incident})
    return made


async def _escalation(ask: Ask, say: Say, receivers: DemoReceivers, server: str, boss: str) -> None:
    say("a program opens an incident: a RAID is degraded", "bold red")
    incident = await _open(ask, server, "raid_degraded", "Disk sda has failed")
    arrival = await receivers.wait_for("discord", "ongoing", "sda")
    say(f"  discord {arrival.text}", "cyan")
    await ask("POST", f"/api/v1/incidents/{incident['uuid']}/acknowledge", {"for": 3600})
    log = await ask("GET", f"/api/v1/integrations/{boss}/deliveries")
    [called_off] = log["data"]
    if called_off["status"] != "suppressed":
        raise Failed(f"the escalation was not called off: {called_off}")
    say(f"acknowledged in time; the escalation is not sent: {called_off['reason']}", "bold green")
    await ask("POST", f"/api/v1/incidents/{incident['uuid']}/resolve")
    arrival = await receivers.wait_for("discord", "resolved", "raid")
    say(f"  discord {arrival.text}", "cyan")


async def _silence(ask: Ask, say: Say, receivers: DemoReceivers, server: str) -> None:
    now = datetime.now(UTC)
    wanted = {"name": "Demo", "ends_at": (now + timedelta(seconds=SILENCE)).isoformat(), "resources": [server]}
    await ask("POST", "/api/v1/silences", {"silence": wanted})
    say(f"the server is silenced for {SILENCE} s, and something breaks", "bold red")
    began = time.time()
    incident = await _open(ask, server, "backup_failed", "The backup failed")
    arrival = await receivers.wait_for("discord", "ongoing", "backup")
    if arrival.at - began < SILENCE / 2:
        raise Failed("the silence was broken")
    say(f"  discord {arrival.text}  [{arrival.at - began:.1f} s after it broke: when the silence ended]", "cyan")
    await ask("POST", f"/api/v1/incidents/{incident['uuid']}/resolve")
    await receivers.wait_for("discord", "resolved", "backup")


async def _one_cause(ask: Ask, say: Say, receivers: DemoReceivers) -> None:
    """A router with shops behind it: all are at one address, which goes away."""
    network = Site()
    await network.start()
    try:
        router = await _monitor(ask, network, "core-router", [])
        shops = [await _monitor(ask, network, f"shop-{number}", [router]) for number in range(1, SHOPS + 1)]
        everybody = await hook(ask, receivers, "hook")
        for each in [router, *shops]:
            await ask("POST", f"/api/v1/network_monitors/{each}/integrations", {"integration_id": everybody})
        await _until(ask, {router, *shops}, "success", "the router and its shops are up")
        say(f"a router with {SHOPS} shops behind it goes down", "bold red")
        await network.stop()
        arrival = await receivers.wait_for("webhook", "ongoing", "core-router")
        say(f"  webhook {arrival.text}", "cyan")
        await _until(ask, set(shops), "unreachable", "the shops are unreachable")
        told = [each for each in receivers.arrivals if each.text.startswith("ongoing: shop-")]
        if told:
            raise Failed(f"more than one message for one cause: {told}")
        say(f"one message, not {SHOPS + 1}: the shops are unreachable, not down", "bold green")
        await network.start()
        arrival = await receivers.wait_for("webhook", "resolved", "core-router")
        say(f"  webhook {arrival.text}", "cyan")
    finally:
        await network.stop()


async def _monitor(ask: Ask, site: Site, name: str, depends_on: list[str]) -> str:
    wanted = {
        "name": name, "url": site.url, "check_type": "http", "interval": 1, "timeout": 5, "depends_on": depends_on
    }  # fmt: skip
    made = await ask("POST", "/api/v1/network_monitors", {"network_monitor": wanted})
    return str(made["uuid"])


async def _until(ask: Ask, uuids: set[str], status: str, what: str) -> None:
    """Until all of these monitors have that status."""
    deadline = time.monotonic() + PATIENCE
    while True:
        listed = await ask("GET", "/api/v1/network_monitors?per_page=100")
        found = {each["uuid"] for each in listed["data"] if each["status"] == status}
        if uuids <= found:
            return
        if time.monotonic() > deadline:
            raise Failed(f"it did not happen that {what}")
        await asyncio.sleep(0.2)
