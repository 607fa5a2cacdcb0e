"""Somebody who opens incidents all the time, and writes down what each call was answered, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.waiting import until

ANSWERED_IN = 2.0
"""Seconds in which each caller has an answer."""
BUSY = 2.0
"""Seconds that a machine busy with other things may add to such figures: what they were is in the summary."""


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
    """So many openings a second, whatever becomes of them, until `end`."""

    def __init__(self, client: httpx.AsyncClient, server: str, rate: float = 20.0) -> None:
        self.calls: list[Call] = []
        self.under_way = 0
        self._client = client
        self._server = server
        self._rate = rate
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        number = 0
        while True:
            number += 1
            task = asyncio.create_task(self._open(f"trouble_{number}"))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(1 / self._rate)

    async def _open(self, name: str) -> None:
        began = time.monotonic()
        incident = {
            "resource_type": "Server", "resource_uuid": self._server, "incident_type": name, "message": name,
        }  # fmt: skip
        self.under_way += 1
        try:
            answer = await self._client.post("/api/v1/incidents", json={"incident": incident}, timeout=15)
            status, after = answer.status_code, answer.headers.get("retry-after")
            message = answer.json().get("message", "")
        except httpx.HTTPError as error:
            status, after, message = 0, None, repr(error)
        finally:
            self.under_way -= 1
        self.calls.append(Call(name, began, time.monotonic() - began, status, after, message))

    async def end(self) -> None:
        """Open nothing more, and wait for what is under way."""
        self._loop.cancel()
        await asyncio.gather(*self._running)

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


def refused_in_time(calls: Sequence[Call], since: float = 0.0) -> list[Call]:
    """Those that were refused. All were answered in time, and who was refused was told when to try again."""
    slow = [(round(call.began - since, 2), call) for call in calls if call.took > ANSWERED_IN + BUSY]
    assert not slow, slow[:5]
    refused = [call for call in calls if call.status == 503]
    assert all(call.retry_after for call in refused)
    return refused
