"""From the request sent to the webhook received, opening and resolving, at 20 a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.figures import Figure, at_most, percentile
from bench.instance import Tocsin
from bench.load import Sent
from bench.peers import Alertmanager
from bench.workshop import Workshop

RATE = 20
GOALS = {0.50: at_most(3.5), 0.99: at_most(10)}


def measure(workshop: Workshop) -> Iterator[Figure]:
    count = workshop.sizes.paced
    keys = [f"bench_latency_{index}" for index in range(count)]
    with workshop.tocsin() as ours:
        warm_up(workshop, ours)
        workshop.say(f"opening {count} incidents at {RATE}/s, then resolving them")
        opened = paced(workshop, ours, keys, ours.opening(keys))
        resolved = paced(workshop, ours, keys, ours.resolving(keys), resolving=True)
    peer = []
    with workshop.alertmanager() as theirs:
        if theirs:
            warm_up(workshop, theirs)
            workshop.say(f"opening {count} alerts at {RATE}/s in Alertmanager")
            peer = paced(workshop, theirs, keys, theirs.opening(keys))
    for name, latencies, others in (("opening", opened, peer), ("resolving", resolved, [])):
        for share, goal in GOALS.items():
            yield Figure(
                f"{name}, request to webhook, p{share:.0%}".replace("%", ""),
                percentile(latencies, share),
                "ms",
                goal=goal,
                peer=percentile(others, share) if others else None,
                peer_name="Alertmanager" if name == "opening" else None,
            )


def warm_up(workshop: Workshop, sender: Tocsin | Alertmanager) -> None:
    """Plans, connections and caches, as any installation has them after its first minute."""
    keys = [f"bench_warm_{index}" for index in range(300)]
    workshop.receiver.reset()
    workshop.load.send(sender.port, sender.opening(keys)).must_be(200, 201)
    if len(workshop.receiver.wait(len(keys), 30).opened) < len(keys):
        raise RuntimeError(f"{sender.name} did not deliver {len(keys)} notifications in 30 s")


def paced(
    workshop: Workshop,
    sender: Tocsin | Alertmanager,
    keys: Sequence[str],
    requests: Sequence[bytes],
    *,
    resolving: bool = False,
    rate: float = RATE,
) -> list[float]:
    """Milliseconds from each request sent to its webhook received."""
    workshop.receiver.reset()
    sent: Sent = workshop.load.send(sender.port, requests, connections=8, rate=rate).must_be(200, 201)
    arrivals = workshop.receiver.wait(len(keys), 30)
    arrived = arrivals.resolved if resolving else arrivals.opened
    if len(arrived) < len(keys):
        raise RuntimeError(f"{len(keys) - len(arrived)} of {len(keys)} never arrived")
    return [(arrived[key] - began) * 1000 for key, began in zip(keys, sent.sent, strict=True)]
