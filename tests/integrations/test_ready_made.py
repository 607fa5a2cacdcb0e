"""Every ready-made webhook, told of every event, against a far end that is strict after the vendor's documentation."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from msgspec.structs import replace

from tests import ready_made_receivers
from tests.calls import alarm, attach_to_all, new_server
from tests.ready_made_receivers import KEY, PATHS, refusing
from tests.receivers import Receiver
from tocsin.cli.demo_receivers import DemoReceivers
from tocsin.domain.deliveries import Delivered, Failed
from tocsin.domain.incidents import Notification
from tocsin.domain.templates.names import EVENTS, samples
from tocsin.integrations.base import Transports
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer
from tocsin.web import ready_made

WEBHOOK = WebhookIntegration()
URL = "https://tocsin.example.com"
SERVICES = ready_made.all_()
NAMES = ("web-1", 'a "name" \\ {{ }} 🔔', "n" * 255)
SEVERITIES = ("critical", "warning", "info")
MESSAGES = [
    "It is down",
    'He said "no",\r\nand\tleft\\ \\n {{ message }} {% if %} {} [] </b> <users/all> @all @channel',
    "🔔" * 2_000,
    ('"\\\n{}<>&' * 300)[:2_000],
    "\u2028\u202e\x1b[31m\x7f é\u0301 \ufeff",
    "@here " * 333,
    "<!channel> <!here> <5fb5f7iw8tfrfcwssd1xmx3j7y> <https://example.com|here>",
    "\x01" * 2_000,
]

every_service = pytest.mark.parametrize("name", SERVICES)


@pytest_asyncio.fixture
async def wires(tmp_path: Path) -> AsyncIterator[Transports]:
    http = Http(Guard([ipaddress.ip_network("127.0.0.0/8")]))
    yield Transports(http, Mailer(None, "tocsin@example.com", tmp_path), URL)
    await http.close()


def given(name: str, receiver: Receiver) -> dict[str, Any]:
    """The settings that somebody would save who put their own address and key into the ready-made ones."""
    service = SERVICES[name]
    there = receiver.url(PATHS.get(name, ""))
    if service.webhook_url and name not in PATHS:
        there = receiver.url("/" + service.webhook_url.partition("://")[2].partition("/")[2])
    secrets = dict.fromkeys(service.settings.get("secrets", {}), KEY)
    return {"webhook_url": there, **service.settings, **({"secrets": secrets} if secrets else {})}


def notifications(event: str) -> list[Notification]:
    [sample] = [each for each in samples(datetime.now(UTC), URL) if each.event == event]
    return [
        replace(sample, message=message, resource_name=name, severity=severity)
        for message in MESSAGES
        for name, severity in zip(NAMES, SEVERITIES, strict=True)
    ]


def judged(receiver: Receiver, name: str) -> list[str]:
    mistakes: list[str] = []
    receiver.judge = refusing(getattr(ready_made_receivers, name), mistakes)
    return mistakes


@every_service
@pytest.mark.parametrize("event", EVENTS)
async def test_each_service_takes_every_event_with_whatever_is_in_a_message(
    name: str, event: str, wires: Transports, receiver: Receiver
) -> None:
    mistakes = judged(receiver, name)
    settings = WEBHOOK.parse(given(name, receiver))
    for each in notifications(event):
        outcome = await WEBHOOK.send(settings, each, wires)
        assert isinstance(outcome, Delivered), (mistakes, each.message[:50], each.severity)
    assert not mistakes
    assert len({request.body for request in receiver.requests}) > 1


@every_service
async def test_each_far_end_refuses_the_usual_seven_fields(name: str, wires: Transports, receiver: Receiver) -> None:
    judged(receiver, name)
    plain = {"webhook_url": given(name, receiver)["webhook_url"]}
    assert isinstance(await WEBHOOK.send(WEBHOOK.parse(plain), notifications("opened")[0], wires), Failed)


@every_service
def test_each_says_where_it_is_described_and_marks_what_is_to_be_replaced(name: str) -> None:
    service = SERVICES[name]
    assert WEBHOOK.hears_acknowledgements({"webhook_url": service.webhook_url, **service.settings})
    assert service.hint.endswith((".", ")"))
    assert service.source.startswith("https://")
    assert all(value.startswith("YOUR-") for value in service.settings.get("secrets", {}).values())
    assert service.webhook_url or "…" in service.address or service.address.endswith("/message")


async def test_what_was_opened_at_pagerduty_and_opsgenie_is_acknowledged_and_closed_there(
    wires: Transports, receiver: Receiver
) -> None:
    for name in ("pagerduty", "opsgenie"):
        judged(receiver, name)
        settings = WEBHOOK.parse(given(name, receiver))
        for event in ("opened", "acknowledged", "resolved"):
            await WEBHOOK.send(settings, notifications(event)[0], wires)
    pagerduty, opsgenie = receiver.requests[:3], receiver.requests[3:]
    assert [each.json["event_action"] for each in pagerduty] == ["trigger", "acknowledge", "resolve"]
    assert {each.json["dedup_key"] for each in pagerduty} == {"INC123"}
    assert [each.path for each in opsgenie] == [
        "/v2/alerts", "/v2/alerts/INC123/acknowledge?identifierType=alias",
        "/v2/alerts/INC123/close?identifierType=alias",
    ]  # fmt: skip
    assert opsgenie[0].json["alias"] == "INC123"


async def test_an_incident_with_a_hard_message_goes_through_the_service_to_the_ready_made_one(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    mistakes = judged(receiver, "discord")
    settings = given("discord", receiver)
    made = await client.post(
        "/api/v1/integrations", json={"integration": {"type": WebhookIntegration.type, "settings": settings}}
    )
    assert made.status_code == 201, made.text
    await attach_to_all(client, made.json()["uuid"])
    server = await new_server(client)
    await client.post("/api/v1/incidents", json={"incident": {**alarm(server), "message": MESSAGES[1]}})
    await client.post("/api/v1/incidents/resolve", json={"incident": alarm(server)})
    requests = await receiver.arrivals(2)
    assert not mistakes
    assert [request.json["embeds"][0]["color"] for request in requests] == [15158332, 3066993]
    assert requests[0].json["embeds"][0]["description"].startswith('He said "no",')
    assert requests[0].json["embeds"][0]["url"].endswith(f"/incidents/{requests[0].headers['tocsin-incident']}")
    assert requests[0].headers["tocsin-severity"] == "critical"


async def test_who_acknowledges_in_tocsin_acknowledges_at_pagerduty(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    mistakes = judged(receiver, "pagerduty")
    settings = given("pagerduty", receiver)
    made = await client.post(
        "/api/v1/integrations", json={"integration": {"type": WebhookIntegration.type, "settings": settings}}
    )
    await attach_to_all(client, made.json()["uuid"])
    opened = await client.post("/api/v1/incidents", json={"incident": alarm(await new_server(client))})
    await receiver.arrivals(1)
    uuid = opened.json()["uuid"]
    acknowledged = await client.post(f"/api/v1/incidents/{uuid}/acknowledge")
    assert acknowledged.status_code == 200, acknowledged.text
    requests = await receiver.arrivals(2)
    assert not mistakes
    assert [each.json["event_action"] for each in requests] == ["trigger", "acknowledge"]
    assert {each.json["dedup_key"] for each in requests} == {uuid}


async def test_the_demo_s_discord_takes_what_is_ready_made(wires: Transports) -> None:
    async with DemoReceivers().open() as receivers:
        settings = WEBHOOK.parse({"webhook_url": receivers.discord_url, **SERVICES["discord"].settings})
        for event in ("opened", "resolved"):
            assert isinstance(await WEBHOOK.send(settings, notifications(event)[0], wires), Delivered)
        assert (await receivers.wait_for("discord", "ongoing", "It is down")).text.startswith("Incident: timeout on")
        assert (await receivers.wait_for("discord", "resolved")).text.startswith("Resolved: timeout on")
