"""Distinct incidents as fast as they go, each committed and delivered once, alternating with Alertmanager."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from bench.figures import Figure, Goal, at_least_of_peer, at_most, median
from bench.instance import Tocsin
from bench.parts.latency import warm_up
from bench.peers import Alertmanager
from bench.workshop import Workshop, per_1000, shares

BATCH, CONNECTIONS = 100, 32


def measure_single(workshop: Workshop) -> Iterator[Figure]:
    return _measure(workshop, "singly", 1, at_least_of_peer(0.7), aim=1.1)


def measure_batch(workshop: Workshop) -> Iterator[Figure]:
    return _measure(workshop, f"in batches of {BATCH}", BATCH, at_least_of_peer(1.0), aim=2)


@dataclass(frozen=True, slots=True)
class Round:
    rate: float
    cpu: dict[str, float]
    missing: int
    repeated: int
    harness: float


def _measure(workshop: Workshop, how: str, batch: int, goal: Goal, aim: float) -> Iterator[Figure]:
    ours: list[Round] = []
    theirs: list[Round] = []
    with workshop.tocsin() as tocsin, workshop.alertmanager() as alertmanager:
        warm_up(workshop, tocsin)
        for number in range(workshop.sizes.rounds):
            ours.append(run(workshop, tocsin, f"{how[:2]}{number}", batch))
            if alertmanager:
                alertmanager.renew()
                warm_up(workshop, alertmanager)
                theirs.append(run(workshop, alertmanager, f"{how[:2]}{number}", batch))
            beside = f", Alertmanager {theirs[-1].rate:,.0f}/s" if theirs else ""
            workshop.say(f"{how}, round {number + 1}: {ours[-1].rate:,.0f}/s{beside}")
    yield Figure(
        f"opened and delivered {how}",
        median([each.rate for each in ours]),
        "/s",
        peer=median([each.rate for each in theirs]) if theirs else None,
        peer_name="Alertmanager",
        goal=goal,
        aim=aim,
        rounds=tuple(each.rate for each in ours),
        peer_rounds=tuple(each.rate for each in theirs),
    )
    yield Figure(
        f"CPU per 1,000 {how}",
        median([each.cpu["total"] for each in ours]),
        "s",
        note=shares([each.cpu for each in ours]),
        peer=median([each.cpu["total"] for each in theirs]) if theirs else None,
        peer_name="Alertmanager",
    )
    lost, repeated = sum(each.missing for each in ours), sum(each.repeated for each in ours)
    yield Figure(
        f"lost or repeated {how}",
        lost + repeated,
        "",
        peer=sum(each.missing + each.repeated for each in theirs) if theirs else None,
        peer_name="Alertmanager",
        goal=at_most(0),
    )
    harness = median([each.harness for each in ours])
    workshop.say(f"receiver and load generator took {harness:.3f} CPU s per 1,000 of the same two cores")


def run(workshop: Workshop, sender: Tocsin | Alertmanager, name: str, batch: int) -> Round:
    """One round: from the first request sent until the last notification received."""
    count = workshop.sizes.incidents
    keys = [f"bench_{name.strip()}_{index}" for index in range(count)]
    requests = sender.opening(keys, batch)
    harness = [psutil.Process(pid) for pid in (workshop.receiver.pid, workshop.load.pid)]
    workshop.receiver.reset()
    harness_before = sum(sum(each.cpu_times()[:2]) for each in harness)
    before = sender.cpu()
    sent = workshop.load.send(sender.port, requests, connections=CONNECTIONS).must_be(200, 201)
    arrivals = workshop.receiver.wait(count, 60)
    after = sender.cpu()
    harness_after = sum(sum(each.cpu_times()[:2]) for each in harness)
    took = max(arrivals.opened.values(), default=0.0) - min(sent.sent)
    missing = count - len(arrivals.opened)
    return Round(
        count / took,
        per_1000(before, after, count),
        missing,
        arrivals.repeated,
        (harness_after - harness_before) * 1000 / count,
    )
