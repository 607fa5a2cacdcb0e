"""Machines that are restarted over SSH again and again, whatever becomes of those who do so: never twice for once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

from tests.calls import alarm, new_server
from tests.cluster.two_machines import Stage
from tests.ssh_scene import Scene, scene
from tests.sshd import Machine

INSISTING_EVERY = 0.1


class Restarts:
    """One incident after the other for this machine, each of which restarts it. `ends`: what became of them, by status;
    `twice`: incidents for which it was restarted more than once.
    """

    def __init__(self, clients: Sequence[httpx.AsyncClient], where: Scene, target: Machine) -> None:
        self.ends: Counter[str] = Counter()
        self.twice: list[str] = []
        self.ordered = 0
        self.target = target
        self._clients = itertools.cycle(clients)
        self._scene = where
        self._ending = False
        self._seen = target.reboots
        self._loop = asyncio.create_task(self._go_on())

    async def end(self) -> None:
        """No more of them, once the last one has ended."""
        self._ending = True
        await self._loop

    def settle(self) -> None:
        """Look once more, long after the last one has ended: nothing may have come since."""
        self._look("after the last one", 0)

    async def _go_on(self) -> None:
        while not self._ending:
            await self._one()

    async def _one(self) -> None:
        opened = await self._insist("POST", "/api/v1/incidents", {"incident": alarm(self._scene.server, "downtime")})
        self.ordered += 1
        ended = None
        while ended is None:
            listed = await self._insist("GET", f"/api/v1/incidents/{opened['uuid']}/deliveries")
            of_ours = [each for each in listed["data"] if each["integration_uuid"] == self._scene.integration]
            ended = next((each["status"] for each in of_ours if each["finished_at"]), None)
            await asyncio.sleep(INSISTING_EVERY)
        self.ends[ended] += 1
        await self._insist("POST", "/api/v1/incidents/resolve", {"incident": alarm(self._scene.server, "downtime")})
        self._look(opened["uuid"], 1)

    def _look(self, what: str, most: int) -> None:
        """Count all since the last look: what comes late is in the next one's."""
        reboots = self.target.reboots
        if reboots - self._seen > most:
            self.twice.append(f"{what}: {reboots - self._seen} times")
        self._seen = reboots

    async def _insist(self, method: str, path: str, body: Any = None) -> Any:
        """Ask until it is granted, now here, now there."""
        while True:
            try:
                answer = await next(self._clients).request(method, path, json=body, timeout=15)
                if answer.status_code in (200, 201):
                    return answer.json()
            except httpx.TransportError:
                pass
            await asyncio.sleep(INSISTING_EVERY)


async def restarts_of(stage: Stage, target: Machine) -> Restarts:
    """It stays as it is, once it was told to restart."""
    target.behave("free", then="stay")
    client = stage.clients[0]
    where = await scene(client, target.port, await new_server(client, f"machine at {target.port}"))
    return Restarts(stage.clients, where, target)
