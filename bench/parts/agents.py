"""Reports of servers: how many a second on one core, and whether a report costs more where there are many servers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence

from bench import seed
from bench.figures import Figure, at_least, at_most_of_peer, median
from bench.instance import Tocsin, report
from bench.workshop import Workshop, per_1000, shares

AGENTS, CONNECTIONS = 200, 32
FEW, FEW_CONNECTIONS = 10, 8
"""Fewer connections than servers, so that no two reports of one server share a commit: no agent sends that often."""


def measure(workshop: Workshop) -> Iterator[Figure]:
    count = workshop.sizes.reports
    core = max(os.sched_getaffinity(0))
    with workshop.tocsin(cores={core}, servers=0) as tocsin:
        send(workshop, tocsin, range(AGENTS))
        numbers = [index % AGENTS for index in range(count)]
        rates, costs = [], []
        for number in range(workshop.sizes.rounds):
            rate, cpu = send(workshop, tocsin, numbers)
            rates.append(rate)
            costs.append(cpu)
            workshop.say(f"round {number + 1}: {rate:,.0f} reports/s on one core")
    yield Figure("reports of 7 metrics, judged, on one core", median(rates), "/s", goal=at_least(AGENTS))
    yield Figure("CPU per 1,000 reports", median([cpu["total"] for cpu in costs]), "s", note=shares(costs))
    yield _from_few_to_many(workshop)


def _from_few_to_many(workshop: Workshop) -> Figure:
    count, many = workshop.sizes.reports, workshop.sizes.many_servers
    chance = random.Random(1)
    reporting = {"few": lambda: list(range(FEW)) * (count // FEW), "many": lambda: chance.choices(range(many), k=count)}
    costs: dict[str, list[dict[str, float]]] = {"few": [], "many": []}
    with workshop.tocsin(servers=0) as small, workshop.tocsin(servers=0) as large:
        send(workshop, small, range(FEW))
        send(workshop, large, range(FEW))
        workshop.say(f"seeding {many:,} servers")
        seed.servers(large.folder, large.project, many)
        for number in range(workshop.sizes.rounds):
            for name, instance in (("few", small), ("many", large)):
                _, cpu = send(workshop, instance, reporting[name](), FEW_CONNECTIONS)
                costs[name].append(cpu)
            workshop.say(
                f"round {number + 1}: {costs['few'][-1]['total']:.3f} s per 1,000 with {FEW} servers, "
                f"{costs['many'][-1]['total']:.3f} s with {many:,}"
            )
    totals = {name: tuple(cpu["total"] for cpu in rounds) for name, rounds in costs.items()}
    return Figure(
        f"CPU per 1,000 reports with {many:,} servers",
        median(totals["many"]),
        "s",
        note=shares(costs["many"]),
        peer=median(totals["few"]),
        peer_name=f"with {FEW}: {shares(costs['few'])}",
        goal=at_most_of_peer(1.2),
        rounds=totals["many"],
        peer_rounds=totals["few"],
    )


def send(
    workshop: Workshop, tocsin: Tocsin, numbers: Sequence[int], connections: int = CONNECTIONS
) -> tuple[float, dict[str, float]]:
    """One report from each of these servers, as fast as they go: the rate, and CPU seconds per 1,000."""
    requests = tocsin.requests("POST", "/api/v1/server_metrics", [report(number) for number in numbers])
    before = tocsin.cpu()
    sent = workshop.load.send(tocsin.port, requests, connections=connections).must_be(201)
    return len(numbers) / sent.took, per_1000(before, tocsin.cpu(), len(numbers))
