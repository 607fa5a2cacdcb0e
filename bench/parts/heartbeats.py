"""Pings of heartbeats: how many a second on one core; and what the look for late ones costs among 100,000."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

from bench import heartbeat_seed
from bench.figures import Figure, at_least, at_most, median
from bench.instance import Tocsin
from bench.load import request
from bench.workshop import Workshop, per_1000, shares

CONNECTIONS = 128
"""More than agents have: each job reports by a connection of its own."""


def measure(workshop: Workshop) -> Iterator[Figure]:
    sizes = workshop.sizes
    core, chance = max(os.sched_getaffinity(0)), random.Random(1)
    with workshop.tocsin(cores={core}, servers=0) as tocsin:
        workshop.say(f"seeding {sizes.heartbeats:,} heartbeats")
        keys = heartbeat_seed.heartbeats(tocsin.folder, tocsin.project, sizes.heartbeats)
        send(workshop, tocsin, keys[:500])
        rates, costs = [], []
        for number in range(sizes.rounds):
            rate, cpu = send(workshop, tocsin, chance.choices(keys, k=sizes.pings))
            rates.append(rate)
            costs.append(cpu)
            workshop.say(f"round {number + 1}: {rate:,.0f} pings/s on one core")
        yield Figure(
            f"pings of {sizes.heartbeats:,} heartbeats, judged, on one core", median(rates), "/s", goal=at_least(5_000),
            rounds=tuple(rates),
        )  # fmt: skip
        yield Figure("CPU per 1,000 pings", median([cpu["total"] for cpu in costs]), "s", note=shares(costs))
        found = heartbeat_seed.looks(tocsin.folder, sizes.idle_seconds)
    took = [1_000 * seconds for _, seconds in found]
    due = median([float(each) for each, _ in found])
    yield Figure(
        f"look each second for what is late of {sizes.heartbeats:,} heartbeats, hourly", median(took), "ms",
        goal=at_most(10), note=f"{due:g} due for one each time", rounds=tuple(took),
    )  # fmt: skip


def send(workshop: Workshop, tocsin: Tocsin, keys: Sequence[str]) -> tuple[float, dict[str, float]]:
    """One ping of each of these, as fast as they go: the rate, and CPU seconds per 1,000."""
    requests = [request("GET", f"/ping/{key}") for key in keys]
    before = tocsin.cpu()
    sent = workshop.load.send(tocsin.port, requests, connections=CONNECTIONS).must_be(200)
    return len(keys) / sent.took, per_1000(before, tocsin.cpu(), len(keys))
