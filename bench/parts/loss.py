"""`kill -9` of everything in the middle: what was accepted and never arrived, and what arrived twice."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure, at_most
from bench.instance import Tocsin
from bench.parts.latency import warm_up
from bench.peers import Alertmanager
from bench.workshop import Workshop

ACCEPTED, BATCH = 1_000, 100
PATIENCE = 60


def measure(workshop: Workshop) -> Iterator[Figure]:
    with workshop.tocsin() as tocsin:
        lost, repeated = _kill(workshop, tocsin, PATIENCE)
    theirs = None
    with workshop.alertmanager() as alertmanager:
        if alertmanager:
            theirs = _kill(workshop, alertmanager, 10)
    name = "Alertmanager"
    yield Figure(
        f"lost of {ACCEPTED:,} accepted, kill -9 in the middle", lost, "",
        peer=theirs[0] if theirs else None, peer_name=name, goal=at_most(0),
    )  # fmt: skip
    yield Figure("repeated after it", repeated, "", peer=theirs[1] if theirs else None, peer_name=name)


def _kill(workshop: Workshop, sender: Tocsin | Alertmanager, patience: float) -> tuple[int, int]:
    """The receiver answers 300 and then hangs, so that the rest is under way when everything is killed."""
    warm_up(workshop, sender)
    keys = [f"bench_loss_{index}" for index in range(ACCEPTED)]
    workshop.receiver.reset()
    workshop.receiver.hold(after=300)
    workshop.load.send(sender.port, sender.opening(keys, BATCH)).must_be(200, 201)
    before = workshop.receiver.wait(300, 10)
    sender.kill()
    workshop.receiver.hold(after=10**9)
    sender.start()
    arrivals = workshop.receiver.wait(ACCEPTED, patience)
    lost = ACCEPTED - len(arrivals.opened)
    workshop.say(f"{sender.name}: {len(before.opened)} had arrived, {lost} lost, {arrivals.repeated} repeated")
    return lost, arrivals.repeated
