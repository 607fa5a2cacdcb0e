"""How soon it is ready, and what it holds while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figures import Figure, at_most, median
from bench.instance import Tocsin
from bench.workshop import Workshop

STARTS = 3
MEGABYTE = 1_000_000


def measure(workshop: Workshop) -> Iterator[Figure]:
    firsts, warms = [], []
    for number in range(STARTS):
        instance = Tocsin(workshop.folder / f"ready-{number}")
        firsts.append(instance.start())
        instance.stop()
        warms.append(instance.start())
        workshop.say(f"ready after {firsts[-1]:.2f} s on the first start, {warms[-1]:.2f} s on a warm one")
        if number < STARTS - 1:
            instance.close()
    try:
        time.sleep(workshop.sizes.idle_seconds)
        before = sum(instance.cpu().values())
        time.sleep(workshop.sizes.idle_seconds)
        cpu = (sum(instance.cpu().values()) - before) / workshop.sizes.idle_seconds
        held = instance.pss()
    finally:
        instance.close()
    peers: list[int] = []
    with workshop.alertmanager() as alertmanager, workshop.blackbox() as blackbox:
        peers += [peer.pss().total() for peer in (alertmanager, blackbox) if peer]
    yield Figure("ready on the first start", median(firsts), "s", goal=at_most(5), rounds=tuple(firsts))
    yield Figure("ready on a warm start", median(warms), "s", goal=at_most(2), rounds=tuple(warms))
    yield Figure(
        "memory of all processes, idle",
        held.total() / MEGABYTE,
        "MB",
        goal=at_most(150),
        note=" / ".join(f"{part} {size / MEGABYTE:.0f}" for part, size in sorted(held.items())),
        peer=sum(peers) / MEGABYTE if len(peers) == 2 else None,
        peer_name="both peers, without a database",
    )
    yield Figure("CPU while idle", cpu * 100, "% of a core")
