"""Hostile heads, bodies and timings over sockets, while somebody else wants to be answered.

    python -m tests.fuzz --seconds 300 [--seed N] [--case N]

Every process must live, memory stay under a bound, each answer be well-formed HTTP with a status that a client may
get, no request get two, every connection end, and others be answered, however many stay connected, within 100 ms,
99 of 100 of them (`tests/probe.py` says how that is told from a machine that is busy). One case is made from the seed
and its number alone, so it can be sent again by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.hostile import Case, Hostile
from tests.installation import Installation
from tests.raw_http import Malformed, Wire, answers, ask, dial

HANDS = 8
"""Connections at once, each with the next case as soon as one is done; beside them as many as do not read."""
PATIENCE = 45.0
"""Seconds after which a connection must have been ended by the service, whatever was sent."""
GROWTH = 80 << 20
"""Bytes by which the API's memory may have grown in the end."""
PEAK = GROWTH + 2 * (64 << 20)
"""And at any moment: two passwords at once take 64 MiB each while they are looked at."""
QUICK, SHARE = 0.1, 0.99
"""Seconds in which so great a share of others' requests is answered."""
SLOW = 1.0
"""And all of them."""
UNAVAILABLE = (501, 503)
ELSEWHERE = "127.0.0.99", "127.0.0.98"
"""Where others come from: the one who is timed, and who comes in the middle of a crowd."""
LAST = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SETTINGS = {
    "TOCSIN_HEAD_TIMEOUT": "2", "TOCSIN_IDLE_TIMEOUT": "3", "TOCSIN_TRANSFER_GRACE": "2",
    "TOCSIN_MAX_CONNECTIONS": "200", "TOCSIN_MAX_CONNECTIONS_PER_ADDRESS": "150",
}  # fmt: skip


@dataclass
class Result:
    seed: int
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    grown: int = 0
    peak: int = 0
    waited: float = 0.0
    longest: float = 0.0
    by_the_clock: float = 0.0

    @property
    def good(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        told = "".join(f"\n  {fault}" for fault in self.faults[:20])
        return (
            f"seed {self.seed}: {self.kinds.total()} cases in {self.seconds:.0f} s, answered "
            f"{dict(sorted(self.statuses.items()))}; memory grew by {self.grown >> 20} MB "
            f"({self.peak >> 20} MB for moments); others waited {self.waited * 1000:.0f} ms at p99, "
            f"{self.longest * 1000:.0f} ms at most (with the machine's share "
            f"{self.by_the_clock * 1000:.0f} ms at p99); {len(self.faults)} faults{told}"
        )


class Fuzz:
    def __init__(self, seed: int) -> None:
        self.result = Result(seed)
        self.house = Installation(**SETTINGS)
        self.port = int(self.house.url.rpartition(":")[2])
        self.next = 0
        self.crowding = asyncio.Lock()
        self.ending = 0.0

    async def run(self, seconds: float, case: int | None = None) -> Result:
        began = time.monotonic()
        try:
            await asyncio.to_thread(self.house.start)
            # what is made once, when it is asked for first
            await ask(self.port, b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            before = self.pids()
            if case is None:
                await self._storm(seconds)
            else:
                await self._play(case, say=True)
            await asyncio.to_thread(self.house.wait_ready)
            if self.pids() != before:
                self.fault(f"processes {before} became {self.pids()}")
            said = [line for line in self.house.up.said().splitlines() if '"level": "error"' in line]
            for line in said[:3]:
                self.fault(f"in the log: {line[:700]}")
        finally:
            await asyncio.to_thread(self.house.stop)
        self.result.seconds = time.monotonic() - began
        return self.result

    def pids(self) -> list[int]:
        parts = self.house.parts()
        return [part.pid for part in (parts.api, parts.engine, parts.postgres) if part]

    def fault(self, what: str) -> None:
        self.result.faults.append(what)

    async def _storm(self, seconds: float) -> None:
        api = self.house.parts().api
        assert api
        probe = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.probe", str(self.port), str(api.pid), ELSEWHERE[0], stdin=PIPE, stdout=PIPE
        )
        memory = api.memory_info().rss
        self.ending = time.monotonic() + seconds
        watching = asyncio.create_task(self._watch_memory(api))
        try:
            await asyncio.gather(*(self._hand() for _ in range(HANDS)))
        finally:
            watching.cancel()
            measured, _ = await probe.communicate(b"\n")
        self._judge_waiting(json.loads(measured))
        await self._judge_memory(api, memory)

    def _judge_waiting(self, measured: dict[str, Any]) -> None:
        result, took = self.result, measured["took"]
        result.by_the_clock = at([seconds for seconds, _ in took], SHARE)
        waited = [max(seconds - machine, 0.0) for seconds, machine in took]
        result.waited, result.longest = at(waited, SHARE), max(waited)
        if result.waited > QUICK or result.longest > SLOW:
            self.fault(f"others waited {result.waited:.3f} s at p99, {result.longest:.3f} s at most")
        for said in measured["wrong"][:3]:
            self.fault(f"others were answered {said!r}")

    async def _watch_memory(self, api: psutil.Process) -> None:
        first = api.memory_info().rss
        while (grown := api.memory_info().rss - first) <= PEAK:
            self.result.peak = max(self.result.peak, grown)
            await asyncio.sleep(0.1)
        self.fault(f"memory grew by {grown >> 20} MB, before case {self.next}")

    async def _judge_memory(self, api: psutil.Process, before: int) -> None:
        """What stays, once nothing is under way any more."""
        grown = [api.memory_info().rss - before]
        while len(grown) < 50 and min(grown) > GROWTH:
            await asyncio.sleep(0.2)
            grown.append(api.memory_info().rss - before)
        self.result.grown = min(grown)
        if self.result.grown > GROWTH:
            self.fault(f"memory has grown by {self.result.grown >> 20} MB")

    async def _hand(self) -> None:
        while time.monotonic() < self.ending and len(self.result.faults) < 20:
            number, self.next = self.next, self.next + 1
            await self._play(number)

    async def _play(self, number: int, *, say: bool = False) -> None:
        case = Hostile(random.Random(f"{self.result.seed}-{number}"), self.house.token).case()
        if say:
            print(case, flush=True)
        self.result.kinds[case.kind] += 1
        try:
            await (self._crowd(case) if case.sources else self._send(case))
        except (Malformed, TimeoutError, OSError, ValueError, KeyError) as error:
            self.fault(f"case {number} ({case.kind}, {sum(map(len, case.parts))} bytes, {case.end}): {error!r}")

    async def _send(self, case: Case) -> None:
        wire = await dial(self.port)
        try:
            if case.end == "never read":
                wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
            sending = asyncio.create_task(wire.send(*case.parts, pause=case.pause))
            try:
                if case.end == "wait":
                    self._judge(case, await wire.rest(PATIENCE))
                else:
                    await asyncio.wait({sending}, timeout=1.0)
                    if case.end == "leave":
                        wire.writer.close()
            finally:
                sending.cancel()
                await asyncio.wait({sending})
        finally:
            wire.close()

    async def _crowd(self, case: Case) -> None:
        """One crowd at a time."""
        made: list[Wire] = []
        async with self.crowding:
            try:
                for number, source in enumerate(case.sources):
                    made.append(await dial(self.port, source))
                    await made[-1].send(*case.parts)
                    if number % 20 == 0:
                        said = await ask(self.port, LAST, source=ELSEWHERE[1])
                        if [answer.status for answer in said] != [200]:
                            raise Malformed(f"somebody else was answered {said!r} after {number}")
            finally:
                for wire in made:
                    wire.close()

    def _judge(self, case: Case, received: bytes) -> None:
        said = answers(received, *case.methods)
        self.result.statuses.update(answer.status for answer in said)
        if len(said) > case.most:
            raise Malformed(f"{len(said)} answers, not {case.most}: {[answer.status for answer in said]}")
        for answer in said:
            if answer.status >= 500 and answer.status not in UNAVAILABLE:
                raise Malformed(f"answered {answer.status}: {answer.body[:300]!r}")


def at(values: list[float], share: float) -> float:
    """The value that so great a share of them does not pass."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Send what nobody should, and see that the service does not mind.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--case", type=int, help="Send this one alone, and show it.")
    given = parser.parse_args()
    again = f"python -m tests.fuzz --seconds {given.seconds:g} --seed {given.seed}"
    print(f"seed {given.seed}; again with: {again}; one case with: --case N", flush=True)
    result = asyncio.run(Fuzz(given.seed).run(given.seconds, given.case))
    print(result)
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
