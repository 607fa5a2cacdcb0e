"""What the promises are tried on: a server, its webhooks, and receivers with a trouble each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from tests.installation import Installation
from tests.receivers import Answer, Receiver, Request
from tests.service import Service, service_on, started
from tests.waiting import until

TROUBLES = {
    "refuses": None,
    "hangs": Answer(how="hang"),
    "answers 500": Answer(status=500),
    "answers 429": Answer(status=429, headers={"Retry-After": "1"}),
    "cuts": Answer(how="cut"),
}

PATIENT = ",".join(["0.3"] * 200)


@dataclass
class Scene:
    """A server with one webhook for each named receiver, attached."""

    client: httpx.AsyncClient
    server: str
    integrations: dict[str, str]

    def members(self, count: int, start: int = 0) -> list[dict[str, str]]:
        return [
            {
                "resource_type": "Server",
                "resource_uuid": self.server,
                "incident_type": f"type_{number}",
                "message": f"number {number}",
            }
            for number in range(start, start + count)
        ]

    async def open(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        answer = await self.client.post("/api/v1/incidents", json={"incidents": self.members(count, start)})
        assert answer.status_code == 201, answer.text
        return list(answer.json()["data"])

    async def resolve(self, count: int, start: int = 0) -> None:
        answer = await self.client.post("/api/v1/incidents/resolve", json={"incidents": self.members(count, start)})
        assert answer.status_code == 200, answer.text

    async def deliveries(self, name: str) -> list[dict[str, Any]]:
        """All deliveries to the webhook of that name, each with its attempts."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            path = f"/api/v1/integrations/{self.integrations[name]}/deliveries"
            answer = await self.client.get(path, params={"page": page, "per_page": 100})
            assert answer.status_code == 200, answer.text
            found += answer.json()["data"]
            if page >= answer.json()["meta"]["total_pages"]:
                return found
            page += 1

    async def delivery(self, uuid: str) -> dict[str, Any]:
        answer = await self.client.get(f"/api/v1/deliveries/{uuid}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ended(self, name: str, count: int = 1, *, timeout: float = 20.0) -> list[dict[str, Any]]:
        """The deliveries to that webhook once at least `count` have ended and none is outstanding."""

        async def look() -> list[dict[str, Any]] | None:
            found = await self.deliveries(name)
            return found if len(found) >= count and all(each["finished_at"] for each in found) else None

        return await until(look, timeout=timeout, what=f"{count} deliveries of {name} to end")


async def scene(client: httpx.AsyncClient, webhooks: dict[str, str]) -> Scene:
    """`webhooks`: a name and an address each."""
    report = {"attributes": {"motherboard_id": "mb-1", "hostname": "web-1"}, "metrics": [], "agent_version": "1.0"}
    assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
    server = (await client.get("/api/v1/servers")).json()[0]["uuid"]
    await client.patch(f"/api/v1/servers/{server}", json={"server": {"alerts": {"downtime": None}}})
    integrations = {}
    for name, url in webhooks.items():
        settings = {"type": "Integrations::WebhookIntegration", "name": name, "settings": {"webhook_url": url}}
        created = await client.post("/api/v1/integrations", json={"integration": settings})
        assert created.status_code == 201, created.text
        integrations[name] = created.json()["uuid"]
        attach = {"integration_id": integrations[name]}
        attached = await client.post(f"/api/v1/servers/{server}/integrations", json=attach)
        assert attached.status_code == 201, attached.text
    return Scene(client, server, integrations)


@pytest_asyncio.fixture
async def patient(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service of the test's own whose retries do not run out."""
    async with started(service_on(database, tmp_path, TOCSIN_RETRY_SCHEDULE=PATIENT)) as service:
        yield service


class Troubled:
    """A receiver for each trouble, until `heal`."""

    def __init__(self, make: Callable[[], Receiver]) -> None:
        self.receivers = {name: make() for name in TROUBLES}
        for name, answer in TROUBLES.items():
            if answer is None:
                self.receivers[name].refuse()
            else:
                self.receivers[name].otherwise = answer

    @property
    def urls(self) -> dict[str, str]:
        return {name: receiver.url() for name, receiver in self.receivers.items()}

    def heal(self) -> None:
        for receiver in self.receivers.values():
            receiver.otherwise = Answer()
            receiver.refuse()  # what hangs is let go
            receiver.listen()

    async def all_arrived(self, count: int, timeout: float = 40.0) -> None:
        """Everyone accepted `count` incidents; each under one `webhook-id` alone, whatever the number of tries."""
        for name, receiver in self.receivers.items():

            async def arrived(receiver: Receiver = receiver) -> bool:
                return len({request.id for request in accepted(receiver)}) >= count

            await until(
                arrived, timeout=timeout,
                what=lambda name=name, receiver=receiver: f"{count} at the one that {name}; {len(accepted(receiver))}",
            )
            ids: dict[str, set[str]] = {}
            for request in list(receiver.requests):
                ids.setdefault(request.json["incident_type"], set()).add(request.id)
            assert len(ids) == count
            assert all(len(of_one) == 1 for of_one in ids.values())


def accepted(receiver: Receiver) -> list[Request]:
    return [request for request in list(receiver.requests) if request.accepted]


def restarted(house: Installation, before: Any) -> Callable[[], Any]:
    async def look() -> bool:
        now = house.parts().postgres
        return now is not None and now != before

    return look
