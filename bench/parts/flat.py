"""Whether the cost grows with what has been: an empty database and a full one, alternating, in CPU seconds."""

from __future__ import annotations

from collections.abc import Iterator

from bench import seed
from bench.figures import Figure, at_most_of_peer, median
from bench.instance import Tocsin
from bench.parts import agents
from bench.parts.latency import warm_up
from bench.workshop import Workshop, per_1000

BATCH = 100
Costs = dict[str, float]


def measure(workshop: Workshop) -> Iterator[Figure]:
    sizes = workshop.sizes
    empties: list[Costs] = []
    fulls: list[Costs] = []
    with workshop.tocsin() as empty, workshop.tocsin() as full:
        workshop.say(f"seeding {sizes.old_deliveries:,} old deliveries and {sizes.old_integrations:,} integrations")
        seed.history(full.folder, full.project, sizes.old_deliveries, sizes.old_integrations)
        for instance in (empty, full):
            warm_up(workshop, instance)
        for number in range(sizes.flat_rounds):
            empties.append(_round(workshop, empty, number))
            fulls.append(_round(workshop, full, number))
            ratios = ", ".join(f"{work} {fulls[-1][work] / empties[-1][work]:.2f}" for work in empties[-1])
            workshop.say(f"round {number + 1}, full to empty: {ratios}")
    for work in empties[0]:
        yield Figure(
            f"CPU per 1,000 {work}, full database",
            median([costs[work] for costs in fulls]),
            "s",
            peer=median([costs[work] for costs in empties]),
            peer_name="empty database",
            goal=at_most_of_peer(1.2),
            rounds=tuple(costs[work] for costs in fulls),
            peer_rounds=tuple(costs[work] for costs in empties),
        )


def _round(workshop: Workshop, tocsin: Tocsin, number: int) -> Costs:
    """CPU seconds per 1,000 of each kind of work."""
    count = workshop.sizes.incidents // 2
    singly = [f"bench_flat_single_{number}_{index}" for index in range(count)]
    together = [f"bench_flat_batch_{number}_{index}" for index in range(count)]
    costs = {
        "opened singly": _cost(workshop, tocsin, tocsin.opening(singly), count),
        "resolved singly": _cost(workshop, tocsin, tocsin.resolving(singly), count),
        "opened in batches": _cost(workshop, tocsin, tocsin.opening(together, BATCH), count),
        "resolved in batches": _cost(workshop, tocsin, tocsin.resolving(together, BATCH), count),
    }
    _, reports = agents.send(workshop, tocsin, [index % agents.AGENTS for index in range(count)])
    return {**costs, "reports": reports["total"]}


def _cost(workshop: Workshop, tocsin: Tocsin, requests: list[bytes], count: int) -> float:
    workshop.receiver.reset()
    before = tocsin.cpu()
    workshop.load.send(tocsin.port, requests).must_be(200, 201)
    arrivals = workshop.receiver.wait(count, 60)
    if len(arrivals.opened) + len(arrivals.resolved) < count:
        raise RuntimeError(f"only {len(arrivals.opened) + len(arrivals.resolved)} of {count} arrived in 60 s")
    return per_1000(before, tocsin.cpu(), count)["total"]
