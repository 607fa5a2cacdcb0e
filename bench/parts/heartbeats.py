"""Pings of heartbeats: how many a second on one core; and what the look for late ones costs among 100,000."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence

from bench import heartbeat_seed
from bench.figures import Figure, at_least, at_most, median
from bench.instance import ENGINE, POSTGRES, Tocsin
from bench.load import request
from bench.workshop import Workshop, per_1000, shares

CONNECTIONS = 128
"""More than agents have: each job reports by a connection of its own."""


def measure(workshop: Workshop) -> Iterator[Figure]:
    sizes = workshop.sizes
    core, chance = max(os.sched_getaffinity(0)), random.Random(1)
    with workshop.tocsin(cores={core}, servers=0) as tocsin:
        without = idle(tocsin, sizes.idle_seconds)
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
        beside = idle(tocsin, sizes.idle_seconds)
    yield Figure(
        f"CPU each second that the look among {sizes.heartbeats:,} heartbeats costs, hourly ones",
        max(0.0, beside - without), "ms", goal=at_most(10), note=f"idle without any: {without:.0f} ms",
    )  # fmt: skip


def idle(tocsin: Tocsin, seconds: int) -> float:
    """Milliseconds of CPU that engine and database take each second while nobody asks for anything."""
    time.sleep(2)
    before, began = tocsin.cpu(), time.monotonic()
    time.sleep(seconds)
    after, took = tocsin.cpu(), time.monotonic() - began
    return sum(after[part] - before.get(part, 0.0) for part in (ENGINE, POSTGRES)) * 1_000 / took


def send(workshop: Workshop, tocsin: Tocsin, keys: Sequence[str]) -> tuple[float, dict[str, float]]:
    """One ping of each of these, as fast as they go: the rate, and CPU seconds per 1,000."""
    requests = [request("GET", f"/ping/{key}") for key in keys]
    before = tocsin.cpu()
    sent = workshop.load.send(tocsin.port, requests, connections=CONNECTIONS).must_be(200)
    return len(keys) / sent.took, per_1000(before, tocsin.cpu(), len(keys))
