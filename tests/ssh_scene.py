"""A project with a server, and an SSH server restart for it: what tests of restarts do, over the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from tests.calls import alarm, new_server
from tests.sshd import PASSWORD, USER
from tests.waiting import PATIENCE, until

TYPE = "Integrations::SshServerRestartIntegration"


@dataclass
class Scene:
    """`integration` is attached to `server`."""

    client: httpx.AsyncClient
    server: str
    integration: str

    async def open(self, kind: str = "downtime") -> str:
        """A new incident; the uuid of its delivery to the integration."""
        answer = await self.client.post("/api/v1/incidents", json={"incident": alarm(self.server, kind)})
        assert answer.status_code == 201, answer.text
        return await self.delivery_of(answer.json()["uuid"])

    async def delivery_of(self, incident: str) -> str:
        listed = await self.client.get(f"/api/v1/incidents/{incident}/deliveries")
        [found] = [each for each in listed.json()["data"] if each["integration_uuid"] == self.integration]
        return str(found["uuid"])

    async def resolve(self, kind: str = "downtime") -> None:
        body = {"incident": alarm(self.server, kind)}
        assert (await self.client.post("/api/v1/incidents/resolve", json=body)).status_code == 200

    async def restart(self, kind: str = "downtime") -> dict[str, Any]:
        """Open an incident, and what became of its delivery."""
        return await self.ended(await self.open(kind))

    async def test(self) -> dict[str, Any]:
        """What became of a dry run."""
        answer = await self.client.post(f"/api/v1/integrations/{self.integration}/test")
        assert answer.status_code == 202, answer.text
        return await self.ended(answer.json()["uuid"])

    async def delivery(self, uuid: str) -> dict[str, Any]:
        return dict((await self.client.get(f"/api/v1/deliveries/{uuid}")).json())

    async def ended(self, uuid: str, timeout: float = PATIENCE) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def look() -> dict[str, Any] | None:
            found.update(await self.delivery(uuid))
            return found if found["finished_at"] else None

        return await until(look, timeout=timeout, what=lambda: f"the end of {found}")

    async def tried(self, uuid: str, times: int = 1) -> dict[str, Any]:
        """The delivery, once that many tries have ended."""

        async def look() -> dict[str, Any] | None:
            found = await self.delivery(uuid)
            ends = [each for each in found["attempts"] if each["outcome"] != "sending"]
            return found if len(ends) >= times else None

        return await until(look, what=f"{times} tries of {uuid}")

    async def settings(self) -> dict[str, Any]:
        return dict((await self.client.get(f"/api/v1/integrations/{self.integration}")).json()["settings"])

    async def change(self, **settings: Any) -> httpx.Response:
        return await self.client.patch(
            f"/api/v1/integrations/{self.integration}", json={"integration": {"settings": settings}}
        )


def given(port: int, **settings: Any) -> dict[str, Any]:
    """What creation is told; a setting of None is left out."""
    whole = {"ip": "127.0.0.1", "username": USER, "password": PASSWORD, "port": port, **settings}
    told = {name: value for name, value in whole.items() if value is not None}
    return {"integration": {"type": TYPE, "settings": told}}


async def scene(client: httpx.AsyncClient, port: int, server: str | None = None, **settings: Any) -> Scene:
    """An integration that names the machine at `port`, attached to a server (a new one, unless given)."""
    server = server or await new_server(client)
    await client.patch(f"/api/v1/servers/{server}", json={"server": {"alerts": {"downtime": None}}})
    made = await client.post("/api/v1/integrations", json=given(port, **settings))
    assert made.status_code == 201, made.text
    integration = str(made.json()["uuid"])
    attached = await client.post(f"/api/v1/servers/{server}/integrations", json={"integration_id": integration})
    assert attached.status_code == 201, attached.text
    return Scene(client, server, integration)
