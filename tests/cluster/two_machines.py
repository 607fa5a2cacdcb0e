"""Tocsin on two machines before one cluster: a `serve` and an `engine` on each, with the same keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx

from tests.chaos import Ledger
from tests.cluster import patroni
from tests.cluster.load import Load
from tests.cluster.patroni import Cluster
from tests.promise_scene import PATIENT, scene
from tests.receivers import Receiver, Request
from tests.service import Service, service_on
from tests.waiting import until
from tocsin.storage.postgres.migrate import migrate


@dataclass(frozen=True, slots=True)
class TwoMachines:
    """`services`: the first and the second machine."""

    cluster: Cluster
    services: tuple[Service, Service]

    def start(self) -> None:
        """Whatever does not run, all at once."""
        for service in self.services:
            for process in (service.api, service.engine):
                if not process.alive:
                    process.start()
        for service in self.services:
            service.start()

    @asynccontextmanager
    async def under_load(self, receiver: Receiver, rate: float = 20.0) -> AsyncIterator[Stage]:
        """Incidents of a new project are opened and resolved in here, and their receiver is told; some were already."""
        project = await self.services[0].new_project()
        for service in self.services:
            service.project = project
        ledger, told = Ledger(), dict[tuple[str, str], float]()

        def record(request: Request) -> None:
            ledger.record(request)
            told.setdefault((request.json["incident_type"], request.json["incident_status"]), request.monotonic)

        receiver.record = record
        async with self.services[0].client() as one, self.services[1].client() as other:
            made = await scene(one, {"hook": receiver.url()})
            load = Load([one, other], made.server, rate, resolving=True)
            try:
                await until(lambda: _true(len(load.good_since(0)) >= rate), what="openings")
                yield Stage(self, load, ledger, told, [one, other])
            finally:
                await load.end()


@dataclass(slots=True)
class Stage:
    """A load, and the ledger of what its receiver was told; `told`: when first, of each incident, and of its end.
    `clients` of each machine are of the load's project.
    """

    machines: TwoMachines
    load: Load
    ledger: Ledger
    told: dict[tuple[str, str], float]
    clients: list[httpx.AsyncClient]

    async def more(self, count: int = 20) -> None:
        """Until so many openings that begin from now on are accepted."""
        since = time.monotonic()
        await until(
            lambda: _true(len(self.load.good_since(since)) >= count),
            what=lambda: f"{count} openings; the last calls: {self.load.calls[-3:]}\n{self.machines.cluster.tail()}",
        )

    def longest_delivery(self) -> float:
        """The longest time, in seconds, from an opening's answer until it was told."""
        told = {name: at for (name, status), at in list(self.told.items()) if status == "ongoing"}
        return max(told[call.name] - call.ended for call in self.load.calls if call.good and call.name in told)

    async def writes_again(self, promoted: float) -> float:
        """Seconds from the promotion to the first opening that was accepted after it, once there are more of them."""
        await self.more()
        return min(call.ended for call in self.load.calls if call.good and call.ended > promoted) - promoted

    async def promoted(self, since: float) -> float:
        """When another node became the primary, as `time.monotonic()`; `since` is of the same clock."""
        offset = time.time() - time.monotonic()

        async def look() -> float | None:
            found = [node.promoted_at(since + offset) for node in self.machines.cluster.nodes]
            return max((at - offset for at in found if at is not None), default=None)

        return await until(look, what=lambda: f"a promotion:\n{self.machines.cluster.tail()}")


@contextmanager
def two_machines(
    cluster: Cluster, say: Callable[[str], None] = lambda _: None, **environ: str
) -> Iterator[TwoMachines]:
    """They run in here, on a database that is made for them. `environ` are settings to add or to change."""
    say("making a database, and its tables")
    asyncio.run(patroni.create_database(cluster))
    asyncio.run(migrate(cluster.url))
    settings = {
        "TOCSIN_RETRY_SCHEDULE": PATIENT, "TOCSIN_SSH_COOLDOWN": "0", "TOCSIN_SSH_DAILY_LIMIT": "1000", **environ,
    }  # fmt: skip
    services = []
    for name in ("machine-1", "machine-2"):
        folder = cluster.folder / name
        folder.mkdir()
        services.append(service_on(cluster.url, folder, **settings))
    machines = TwoMachines(cluster, (services[0], services[1]))
    try:
        say("starting two times `serve`, and two times `engine`")
        machines.start()
        yield machines
    finally:
        for service in services:
            service.stop()


async def _true(what: object) -> bool:
    return bool(what)
