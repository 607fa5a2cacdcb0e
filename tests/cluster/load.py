"""Somebody who opens incidents all the time, and writes down what each call was answered, and when."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.waiting import PATIENCE, until

ANSWERED_IN = 2.0
"""Seconds in which each caller has an answer."""
BUSY = 2.0
"""Seconds that a machine busy with other things may add to such figures: what they were is in the summary."""
RESOLVED_AFTER = 0.5
"""Seconds from an incident's opening to its resolve, where everything is resolved."""
INSISTING_EVERY = 0.2


@dataclass(frozen=True)
class Call:
    """One opening. `status` is 0 if there was no answer."""

    name: str
    began: float
    took: float
    status: int
    retry_after: str | None
    message: str

    @property
    def ended(self) -> float:
        return self.began + self.took

    @property
    def good(self) -> bool:
        return self.status in (200, 201)


class Load:
    """So many openings a second, whatever becomes of them, until `end`.

    With several clients they take turns, and one whose service cannot be reached is helped out by the next, as by a
    load balancer. `resolving`: what was accepted is resolved soon after, however often that has to be asked for.
    """

    def __init__(
        self, client: httpx.AsyncClient | Sequence[httpx.AsyncClient], server: str, rate: float = 20.0, *,
        resolving: bool = False,
    ) -> None:  # fmt: skip
        self.calls: list[Call] = []
        self.resolved: set[str] = set()
        self.under_way = 0
        self._clients = [client] if isinstance(client, httpx.AsyncClient) else client
        self._turns = itertools.count()
        self._server = server
        self._rate = rate
        self._resolving = resolving
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        number = 0
        while True:
            number += 1
            self._begin(f"trouble_{number}")
            await asyncio.sleep(1 / self._rate)

    def _begin(self, name: str) -> None:
        task = asyncio.create_task(self._open(name))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _open(self, name: str) -> None:
        began = time.monotonic()
        self.under_way += 1
        try:
            answer = await self._ask("/api/v1/incidents", name)
            status, after = answer.status_code, answer.headers.get("retry-after")
            message = answer.json().get("message", "")
        except httpx.HTTPError as error:
            status, after, message = 0, None, repr(error)
        finally:
            self.under_way -= 1
        call = Call(name, began, time.monotonic() - began, status, after, message)
        self.calls.append(call)
        if self._resolving and call.good:
            await asyncio.sleep(RESOLVED_AFTER)
            await self._resolve(name)

    async def _resolve(self, name: str) -> None:
        while True:
            try:
                if (await self._ask("/api/v1/incidents/resolve", name)).status_code == 200:
                    self.resolved.add(name)
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(INSISTING_EVERY)

    async def _ask(self, path: str, name: str) -> httpx.Response:
        incident = {
            "resource_type": "Server", "resource_uuid": self._server, "incident_type": name, "message": name,
        }  # fmt: skip
        first, last = next(self._turns), len(self._clients) - 1
        for number in range(len(self._clients)):
            client = self._clients[(first + number) % len(self._clients)]
            try:
                return await client.post(path, json={"incident": incident}, timeout=15)
            except httpx.TransportError:
                if number == last:
                    raise
        raise AssertionError

    async def end(self) -> None:
        """Open nothing more, and wait for what is under way, as long as that can make sense."""
        self._loop.cancel()
        if self._running:
            _, hopeless = await asyncio.wait(self._running, timeout=PATIENCE)
            for each in hopeless:
                each.cancel()

    async def until_good(self, count: int, *, since: float = 0.0) -> list[Call]:
        """So many openings that began since then and were answered well, in the order of their answers."""

        async def enough() -> list[Call] | None:
            found = self.good_since(since)
            return found if len(found) >= count else None

        return await until(
            enough, timeout=30, what=lambda: f"{count} openings; the last calls were {self.calls[-3:]}"
        )

    def good_since(self, moment: float) -> list[Call]:
        return sorted((call for call in self.calls if call.good and call.began > moment), key=lambda call: call.ended)

    @property
    def outage(self) -> float:
        """The longest time, in seconds, in which nothing was accepted."""
        ends = sorted(call.ended for call in self.calls if call.good)
        return max((later - sooner for sooner, later in itertools.pairwise(ends)), default=0.0)



def refused_in_time(calls: Sequence[Call], since: float = 0.0) -> list[Call]:
    """Those that were refused. All were answered in time, and who was refused was told when to try again."""
    slow = [(round(call.began - since, 2), call) for call in calls if call.took > ANSWERED_IN + BUSY]
    assert not slow, slow[:5]
    refused = [call for call in calls if call.status == 503]
    assert all(call.retry_after for call in refused)
    return refused
