"""One destination is dead and thousands wait for it: what that does to another's latency."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figures import Figure, at_most_of_peer, percentile
from bench.instance import Tocsin
from bench.parts.latency import RATE, paced, warm_up
from bench.workshop import Workshop
from tocsin.cli.sockets import free_port

ROUNDS = 3
SETTLE = 11
"""Seconds until the tries that hung have run into their time-out."""

ALONE, HANGING, REFUSING = "alone", "hangs", "refuses"


def measure(workshop: Workshop) -> Iterator[Figure]:
    count = workshop.sizes.paced
    latencies: dict[str, list[float]] = {ALONE: [], HANGING: [], REFUSING: []}
    dead_ports = {HANGING: workshop.receiver.dead_port, REFUSING: free_port()}
    with workshop.tocsin() as tocsin:
        warm_up(workshop, tocsin)
        for number in range(ROUNDS):
            for state in latencies:
                server = _kill_a_destination(workshop, tocsin, dead_ports[state]) if state in dead_ports else None
                keys = [f"bench_dead_{state}_{number}_{index}" for index in range(count)]
                latencies[state] += paced(workshop, tocsin, keys, tocsin.opening(keys))
                workshop.say(f"round {number + 1}, {state}: p99 {percentile(latencies[state][-count:], 0.99):.1f} ms")
                if server:
                    tocsin.call("DELETE", f"/api/v1/servers/{server}")
                    time.sleep(SETTLE)
    for state in dead_ports:
        yield Figure(
            f"p99 at {RATE}/s while another destination {state}, {workshop.sizes.waiting:,} waiting",
            percentile(latencies[state], 0.99),
            "ms",
            peer=percentile(latencies[ALONE], 0.99),
            peer_name="without",
            goal=at_most_of_peer(1.3),
        )


def _kill_a_destination(workshop: Workshop, tocsin: Tocsin, port: int) -> str:
    """A server whose only webhook is dead, with thousands of incidents; its uuid."""
    server = tocsin.add_server()
    tocsin.attach(server, tocsin.add_webhook(port))
    keys = [f"bench_waiting_{index}" for index in range(workshop.sizes.waiting)]
    workshop.load.send(tocsin.port, tocsin.opening(keys, 100, [server])).must_be(200, 201)
    time.sleep(1)
    return server
