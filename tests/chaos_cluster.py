"""Chaos for a whole cluster: faults of its nodes, of the network between them, and of our own processes.

    python -m tests.chaos --cluster [FAULTS [SEED]]

Under 20 openings a second, each resolved soon after, while machines are restarted over SSH: nothing that was accepted
may be lost or come out of order, and no machine be restarted twice for one incident.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from tests.cluster import patroni
from tests.cluster.patroni import TTL, Cluster, Node
from tests.cluster.promised import ANSWERED_IN, BUSY, IN_FLIGHT
from tests.cluster.reckoning import Reckoning, reckon
from tests.cluster.restarts import Restarts, restarts_of
from tests.cluster.telling import Teller
from tests.cluster.two_machines import Stage, TwoMachines, two_machines
from tests.receivers import Receiver
from tests.sshd import machine

MACHINES = 3
"""Machines that are restarted, one after the other restart each."""


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    faults: Counter[str]
    seen: Reckoning
    ordered: int
    made: int
    ends: Counter[str]
    twice: tuple[str, ...]
    seconds: float

    @property
    def good(self) -> bool:
        return (
            not (self.seen.lost or self.seen.out_of_order or self.seen.wrong or self.twice)
            and self.made <= self.ordered
            and self.seen.repeated <= IN_FLIGHT * self.faults.total()
            and self.seen.longest_answer <= ANSWERED_IN + BUSY
        )

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.faults.total()} faults in {self.seconds:.0f} s ({_listed(self.faults)})\n"
            f"{self.seen}\n"
            f"{self.ordered} restarts ordered, {self.made} made, {len(self.twice)} twice {[*self.twice[:3]]} "
            f"({_listed(self.ends)}); wrong answers {self.seen.wrong}; lost {[*self.seen.lost[:3]]}"
        )


class ClusterChaos:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.say = Teller()
        self.faults: dict[str, Callable[[], Awaitable[None]]] = {
            "PostgreSQL of the primary is killed": self._kill_primary,
            "the primary's machine is killed": self._kill_machine,
            "the primary vanishes": self._vanish,
            "the primary stands still": self._freeze,
            "a switchover": self._switch_over,
            "Patroni of the primary is killed": self._kill_patroni,
            "a standby is killed": self._kill_standby,
            "a standby stands still": self._freeze_standby,
            "etcd stands still": self._freeze_etcd,
            "an engine is killed": self._kill_engine,
            "an API is killed": self._kill_api,
        }

    def run(self, faults: int) -> Result:
        began = time.monotonic()
        with ExitStack() as stack:
            receiver = stack.enter_context(closing(Receiver()))
            targets = [stack.enter_context(closing(machine())) for _ in range(MACHINES)]
            self.cluster: Cluster = stack.enter_context(patroni.cluster(self.say))
            self.machines: TwoMachines = stack.enter_context(two_machines(self.cluster, self.say))

            async def work() -> tuple[Counter[str], Reckoning, list[Restarts]]:
                async with self.machines.under_load(receiver) as stage:
                    restarts = [await restarts_of(stage, target) for target in targets]
                    done = await self._make(faults, stage)
                    await asyncio.gather(*(each.end() for each in restarts))
                    await stage.load.end()
                    seen = await reckon(stage.load, stage.ledger)
                    for each in restarts:
                        each.settle()
                    return done, seen, restarts

            done, seen, restarts = asyncio.run(work())
            return Result(
                seed=self.seed, faults=done, seen=seen, ordered=sum(each.ordered for each in restarts),
                made=sum(target.reboots for target in targets),
                ends=sum((each.ends for each in restarts), Counter()),
                twice=tuple(words for each in restarts for words in each.twice), seconds=time.monotonic() - began,
            )

    async def _make(self, faults: int, stage: Stage) -> Counter[str]:
        done: Counter[str] = Counter()
        for number in range(1, faults + 1):
            names = [self.chance.choice([*self.faults])]
            if self.chance.random() < 0.2:
                also = {"an engine is killed", "an API is killed"} - {*names}  # one of each is left
                names.append(self.chance.choice(sorted(also)))
            accepted = sum(call.good for call in stage.load.calls)
            self.say(f"{number}: {', and '.join(names)} ({accepted} accepted, {len(stage.ledger.ids)} delivered)")
            await asyncio.gather(*(self.faults[name]() for name in names))
            done.update(names)
            await asyncio.to_thread(self.cluster.heal)
            await asyncio.to_thread(self.machines.start)
            await stage.more()
            await asyncio.sleep(self.chance.uniform(0, 2))
        return done

    # --------------------------------------------------------------------------------------------------------- faults

    async def _kill_primary(self) -> None:
        (await self._primary()).kill_postgres()
        await self._while(0, 5)

    async def _kill_machine(self) -> None:
        (await self._primary()).kill()
        await self._while(0, TTL + 5)

    async def _vanish(self) -> None:
        (await self._primary()).vanish()
        await self._while(1, TTL + 10)

    async def _freeze(self) -> None:
        node = await self._primary()
        node.freeze()
        await self._while(1, TTL + 10)
        node.thaw()
        await self._while(0, 3)

    async def _switch_over(self) -> None:
        standbys = await asyncio.to_thread(self.cluster.standbys)
        await asyncio.to_thread(self.cluster.switch_over, standbys[0])

    async def _kill_patroni(self) -> None:
        (await self._primary()).kill_patroni()
        await self._while(0, TTL + 5)

    async def _kill_standby(self) -> None:
        (await self._standby()).kill()
        await self._while(0, 10)

    async def _freeze_standby(self) -> None:
        (await self._standby()).freeze()
        await self._while(1, 10)

    async def _freeze_etcd(self) -> None:
        self.cluster.etcd.freeze()
        await self._while(1, TTL + 5)

    async def _kill_engine(self) -> None:
        await asyncio.to_thread(self.chance.choice(self.machines.services).engine.kill)
        await self._while(0, 2)

    async def _kill_api(self) -> None:
        await asyncio.to_thread(self.chance.choice(self.machines.services).api.kill)
        await self._while(0, 2)

    async def _primary(self) -> Node:
        return await asyncio.to_thread(self.cluster.primary)

    async def _standby(self) -> Node:
        return self.chance.choice(await asyncio.to_thread(self.cluster.standbys))

    async def _while(self, least: float, most: float) -> None:
        await asyncio.sleep(self.chance.uniform(least, most))


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counted.most_common())
