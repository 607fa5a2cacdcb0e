"""Kills at random moments, under load: what is lost, and what arrives twice?

    python -m tests.chaos --kills 1000 [--seed N] [--turns | --cluster [FAULTS [SEED]]]

An installation delivers incidents to receivers that are in changing moods, while its processes are killed: the engine,
the API, PostgreSQL, or everything at once. Every incident that was opened must reach every receiver, and so must its
end, in this order. What arrives twice is counted: it is allowed, a receiver can tell by `webhook-id`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

from tests.installation import Installation, Part
from tests.receivers import Answer, Receiver, Request
from tests.waiting import until

MOODS = [
    *[Answer()] * 8,
    Answer(status=500),
    Answer(status=429, headers={"Retry-After": "1"}),
    Answer(how="cut"),
    Answer(how="reset"),
    Answer(how="hang"),
    Answer(after=0.3),
]
VICTIMS: list[Part] = ["engine", "engine", "api", "postgres", "everything"]
PATHS = ["/a", "/b", "/c", "/d", "/e"]
BATCH = 40
WORTH_WAITING_FOR = 1000
"""Deliveries outstanding at which the load pauses."""

PATIENCE = ",".join(["0.2", "0.5"] + ["1"] * 600)
"""A schedule that outlasts every mood: nothing may die in here."""


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    kills: int
    incidents: int
    expected: int
    lost: int
    repeated: int
    out_of_order: int
    refused: tuple[str, ...]
    seconds: float

    @property
    def good(self) -> bool:
        return not self.lost and not self.out_of_order and not self.refused

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.kills} kills, {self.incidents} incidents, {self.expected} deliveries, "
            f"lost {self.lost}, repeated {self.repeated}, out of order {self.out_of_order}, "
            f"{len(self.refused)} wrong answers {list(self.refused[:3])}, {self.seconds:.0f} s"
        )


class Ledger:
    """What the receivers accepted: how often each delivery, and in which order for each incident."""

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.statuses: dict[tuple[str, str], list[str]] = {}

    def record(self, request: Request) -> None:
        if not request.accepted:
            return
        said = request.json
        self.ids[request.id] += 1
        if self.ids[request.id] == 1:
            self.statuses.setdefault((request.path, said["incident_type"]), []).append(said["incident_status"])

    @property
    def repeated(self) -> int:
        return sum(count - 1 for count in self.ids.values())


class Chaos:
    """`longest` is the longest pause before a kill, in seconds."""

    def __init__(self, seed: int, *, longest: float = 1.5, say: bool = False) -> None:
        self.seed = seed
        self.longest = longest
        self.chance = random.Random(seed)
        self.say = say
        self.ledger = Ledger()
        self.receiver = Receiver()
        self.receiver.record = self.ledger.record
        self.house = Installation(TOCSIN_RETRY_SCHEDULE=PATIENCE)
        self.opened: list[str] = []
        self.resolved: list[str] = []
        self.refused: list[str] = []
        self.stopping = False

    async def run(self, kills: int) -> Result:
        began = time.monotonic()
        try:
            await asyncio.to_thread(self.house.start)
            async with self.house.client() as client:
                server = await self._prepare(client)
                load = asyncio.create_task(self._load(client, server))
                try:
                    for number in range(kills):
                        await self._kill_something(number)
                finally:
                    self.stopping = True
                    await load
                await self._settle(client)
        finally:
            await asyncio.to_thread(self.house.stop)
            self.receiver.close()
        return self._result(kills, time.monotonic() - began)

    # ------------------------------------------------------------------------------------------------ what is killed

    async def _kill_something(self, number: int) -> None:
        for path in PATHS:
            self.receiver.answers[path] = self.chance.choice(MOODS)
        if self.chance.random() < 0.2:
            self.receiver.refuse()
        await asyncio.sleep(self.chance.uniform(0.05, self.longest))
        self.receiver.listen()
        victim = self.chance.choice(VICTIMS)
        if self.say and number % 20 == 0:
            print(f"{number:5} kills, {len(self.opened)} opened, {self.outstanding} outstanding", flush=True)
        await asyncio.to_thread(self.house.kill, victim)
        if victim == "everything":
            await asyncio.to_thread(self.house.start)
        elif self.chance.random() < 0.7:
            await asyncio.to_thread(self.house.wait_ready)

    # ------------------------------------------------------------------------------------------------------ the load

    @property
    def outstanding(self) -> int:
        accepted = sum(len(statuses) for statuses in list(self.ledger.statuses.values()))
        return (len(self.opened) + len(self.resolved)) * len(PATHS) - accepted

    async def _prepare(self, client: httpx.AsyncClient) -> str:
        for path in PATHS:
            created = await client.post(
                "/api/v1/integrations",
                json={"integration": {
                    "type": "Integrations::WebhookIntegration", "settings": {"webhook_url": self.receiver.url(path)},
                }},
            )
            attached = await client.post(f"/api/v1/integrations/{created.json()['uuid']}/attach_all")
            assert attached.status_code == 200, attached.text
        # without metrics and with no wait for them: what is opened here comes from outside alone
        report = {"attributes": {"motherboard_id": "chaos", "hostname": "chaos"}, "metrics": [], "agent_version": "1"}
        assert (await client.post("/api/v1/server_metrics", json=report)).status_code == 201
        server = str((await client.get("/api/v1/servers")).json()[0]["uuid"])
        alerts = {"server": {"alerts": {"downtime": None}}}
        assert (await client.patch(f"/api/v1/servers/{server}", json=alerts)).status_code == 200
        return server

    async def _load(self, client: httpx.AsyncClient, server: str) -> None:
        number = 0
        while not self.stopping:
            names = [f"type_{number + each}" for each in range(BATCH)]
            number += BATCH
            members = [
                {"resource_type": "Server", "resource_uuid": server, "incident_type": name, "message": f"{name} broke"}
                for name in names
            ]
            await self._insist(client, "/api/v1/incidents", members)
            self.opened += names
            await self._insist(client, "/api/v1/incidents/resolve", members)
            self.resolved += names
            while self.outstanding > WORTH_WAITING_FOR and not self.stopping:
                await asyncio.sleep(0.05)

    async def _insist(self, client: httpx.AsyncClient, path: str, members: list[dict[str, Any]]) -> None:
        """Ask until it is granted. Both calls may be repeated: what is done already is not done twice."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await client.post(path, json={"incidents": members})
                if answer.status_code in (200, 201):
                    return
                if answer.status_code != 503:
                    self.refused.append(f"{answer.status_code} {answer.text[:300]}")
                    if len(self.refused) > 100:
                        raise AssertionError(f"nothing but refusals: {self.refused[-1]}")
            await asyncio.sleep(0.05)

    # ---------------------------------------------------------------------------------------------------- the reckoning

    async def _settle(self, client: httpx.AsyncClient) -> None:
        """Everybody in a good mood, until nothing is outstanding or nothing has moved for long."""
        self.receiver.answers.clear()
        self.receiver.listen()
        await asyncio.to_thread(self.house.wait_ready)
        moved, seen = time.monotonic(), -1

        async def quiet() -> bool:
            nonlocal moved, seen
            if self.ledger.ids.total() != seen:
                moved, seen = time.monotonic(), self.ledger.ids.total()
            return self.outstanding == 0 or time.monotonic() - moved > 45

        await until(quiet, timeout=600, what="everything to arrive")

    def _result(self, kills: int, seconds: float) -> Result:
        expected = [(path, name) for path in PATHS for name in self.opened]
        lists = [self.ledger.statuses.get(key, []) for key in expected]
        resolved = set(self.resolved)
        lost = sum("ongoing" not in statuses for statuses in lists)
        lost += sum(
            "resolved" not in statuses for (_, name), statuses in zip(expected, lists, strict=True) if name in resolved
        )
        return Result(
            seed=self.seed, kills=kills, incidents=len(self.opened), expected=2 * len(expected), lost=lost,
            repeated=self.ledger.repeated,
            out_of_order=sum(bool(statuses) and statuses[0] != "ongoing" for statuses in lists),
            refused=tuple(self.refused), seconds=seconds,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill processes at random moments and count what is lost.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--turns", action="store_true", help="With delayed, silenced and escalating incidents.")
    parser.add_argument(
        "--cluster", nargs="*", type=int, metavar="N", help="Of a whole cluster: so many faults (100), and their seed."
    )
    given = parser.parse_args()
    if given.cluster is not None:
        faults, given.seed = (*given.cluster, *(100, given.seed)[len(given.cluster) :])
    print(f"seed {given.seed}", flush=True)
    if given.cluster is not None:
        from tests.chaos_cluster import ClusterChaos

        of_cluster = ClusterChaos(given.seed).run(faults)
        print(of_cluster)
        return 0 if of_cluster.good else 1
    if given.turns:
        from tests.chaos_turns import TurnsChaos

        chaos = TurnsChaos(given.seed, say=True)
        result = asyncio.run(chaos.run(given.kills))
        print(f"{result}, told wrongly {len(chaos.told_wrongly)} {chaos.told_wrongly[:5]}")
        return 0 if result.good and not chaos.told_wrongly else 1
    result = asyncio.run(Chaos(given.seed, say=True).run(given.kills))
    print(result)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
