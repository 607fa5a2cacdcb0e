"""Chaos with turns: delayed, silenced, escalating and acknowledged incidents, while processes are killed.

Beside those that are told of everything, there are receivers with conditions. Nobody may be told an end whose
beginning they were not told, nobody twice; of what lasts until all is well again, everybody whom it concerns must hear.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.chaos import PATHS, WORTH_WAITING_FOR, Chaos
from tests.waiting import until

CONDITIONS: dict[str, dict[str, Any]] = {
    "/late": {"after": 1},
    "/grave": {"severity": "critical"},
    "/again": {"repeat": 60},
    "/quiet": {},
}
BATCH = 24
LASTING = 4
"""Of each batch, as many last until the end."""
SETTLED = 60.0


class TurnsChaos(Chaos):
    """`told_wrongly` says what was told that should not have been, or the other way round."""

    def __init__(self, seed: int, *, longest: float = 1.5, say: bool = False) -> None:
        super().__init__(seed, longest=longest, say=say)
        self.integrations: dict[str, str] = {}
        self.lasting: dict[str, str] = {}
        """Severities by type."""
        self.acknowledged: set[str] = set()
        self.told_wrongly: list[str] = []

    @property
    def outstanding(self) -> int:
        accepted = sum(
            len(said)
            for (path, name), said in list(self.ledger.statuses.items())
            if path in PATHS and name not in self.acknowledged
        )
        return (len(self.opened) + len(self.resolved)) * len(PATHS) - accepted

    async def _prepare(self, client: httpx.AsyncClient) -> str:
        server = await super()._prepare(client)
        for path, condition in CONDITIONS.items():
            settings = {"webhook_url": self.receiver.url(path)}
            wanted = {"integration": {"type": "Integrations::WebhookIntegration", "settings": settings}}
            uuid = (await client.post("/api/v1/integrations", json=wanted)).json()["uuid"]
            self.integrations[path] = str(uuid)
            attach = {"integration_id": uuid, **condition}
            assert (await client.post(f"/api/v1/servers/{server}/integrations", json=attach)).status_code == 201
        return server

    async def _load(self, client: httpx.AsyncClient, server: str) -> None:
        number = 0
        while not self.stopping:
            names = [f"type_{number + each}" for each in range(BATCH)]
            number += BATCH
            severities = {name: self.chance.choice(["critical", "warning"]) for name in names}
            if self.chance.random() < 0.5:
                await self._silence(client)
            await self._insist(client, "/api/v1/incidents", self._members(server, severities))
            had = self.chance.sample(names, 3)  # whoever waits for their turn then is not told of these
            self.opened += [name for name in names if name not in had]
            await self._acknowledge(client, had)
            raised = dict.fromkeys(self.chance.sample(names, 6), "critical")
            await self._insist(client, "/api/v1/incidents", self._members(server, raised))
            severities |= raised
            await asyncio.sleep(self.chance.uniform(0, 2))
            over = {name: severities[name] for name in names[LASTING:]}
            await self._insist(client, "/api/v1/incidents/resolve", self._members(server, over))
            self.resolved += [name for name in over if name not in had]
            self.lasting |= {name: severities[name] for name in names[:LASTING]}
            while self.outstanding > WORTH_WAITING_FOR and not self.stopping:
                await asyncio.sleep(0.05)

    def _members(self, server: str, severities: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {"resource_type": "Server", "resource_uuid": server, "incident_type": name, "message": f"{name} broke",
             "severity": severity}
            for name, severity in severities.items()
        ]  # fmt: skip

    async def _silence(self, client: httpx.AsyncClient) -> None:
        """A short one, for one of the receivers; if it cannot be made, there is none."""
        now = datetime.now(UTC)
        wanted = {
            "name": "Chaos", "starts_at": (now - timedelta(seconds=1)).isoformat(),
            "ends_at": (now + timedelta(seconds=1)).isoformat(), "integrations": [self.integrations["/quiet"]],
        }  # fmt: skip
        with contextlib.suppress(httpx.TransportError):
            await client.post("/api/v1/silences", json={"silence": wanted})

    async def _acknowledge(self, client: httpx.AsyncClient, names: list[str]) -> None:
        self.acknowledged |= set(names)  # also where an answer is lost
        with contextlib.suppress(httpx.TransportError, KeyError):
            found = (await client.get("/api/v1/incidents", params={"status": "ongoing", "per_page": 100})).json()
            for incident in found["data"]:
                if incident["incident_type"] in names:
                    await client.post(f"/api/v1/incidents/{incident['uuid']}/acknowledge")

    async def _settle(self, client: httpx.AsyncClient) -> None:
        """Whoever must hear of what lasts hears of it; then it ends, and so does everything that waits."""
        await super()._settle(client)
        server = str((await client.get("/api/v1/servers")).json()[0]["uuid"])
        await self._wait(lambda: not self._untold(), "what lasts to be told")
        self.told_wrongly += [f"{path}: {name} was not told" for path, name in self._untold()]
        await self._insist(client, "/api/v1/incidents/resolve", self._members(server, self.lasting))
        self.resolved += self.lasting.keys() - self.acknowledged
        await super()._settle(client)
        await self._wait(lambda: not self._open_ended(), "ends to arrive")
        self.told_wrongly += [f"{path}: {name}: {said}" for path, name, said in self._open_ended()]
        for path, uuid in self.integrations.items():
            waiting = (await client.get(f"/api/v1/integrations/{uuid}/deliveries", params={"status": "pending"})).json()
            if waiting["meta"]["total_count"]:
                self.told_wrongly.append(f"{path}: {waiting['meta']['total_count']} wait although everything is over")

    def _untold(self) -> list[tuple[str, str]]:
        """Of what lasts, whom it concerns and who has not been told. An acknowledgement may have come first."""
        return [
            (path, name)
            for name, severity in self.lasting.items()
            for path in CONDITIONS
            if (path != "/grave" or severity == "critical")
            and name not in self.acknowledged
            and "ongoing" not in self.ledger.statuses.get((path, name), [])
        ]

    def _open_ended(self) -> list[tuple[str, str, list[str]]]:
        """Those who were told a beginning and no end, or an end and no beginning, or one of them twice."""
        found = []
        for (path, name), said in list(self.ledger.statuses.items()):
            if path in CONDITIONS and (said.count("resolved") != 1 or said[0] != "ongoing" or said[-1] != "resolved"):
                found.append((path, name, said))
        return found

    async def _wait(self, done: Any, what: str) -> None:
        began = time.monotonic()

        async def look() -> bool:
            return bool(done()) or time.monotonic() - began > SETTLED

        await until(look, timeout=SETTLED + 10, what=what)
