"""Checks of each type with verdict and result stored, against the rate of blackbox_exporter's probes of the same."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from bench.far_ends import ADDRESS, NAME, FarEnds
from bench.figures import Figure, Goal, at_least, at_least_of_peer, median
from bench.instance import Tocsin
from bench.peers import Blackbox
from bench.workshop import Workshop, per_1000, shares
from tocsin.storage.postgres import embedded

COUNT = "SELECT count(*), count(*) FILTER (WHERE ok), clock_timestamp() FROM checks"
PROBES_A_SECOND = 1_000
"""Probes asked of the peer for each second of measuring; it takes them as fast as it can."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is checked: by us with `url` and `options`, by the peer with `module` and `target`."""

    name: str
    url: str
    module: str
    target: str
    goal: Goal
    options: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    """Of the probes that the peer is asked for; some kinds take it longer."""


@dataclass(frozen=True, slots=True)
class Round:
    rate: float
    cpu: dict[str, float]


def measure(workshop: Workshop) -> Iterator[Figure]:
    site = f"http://127.0.0.1:{workshop.receiver.port}/site"
    yield from _of(workshop, Kind("HTTP", site, "http_2xx", site, at_least_of_peer(1.0)), rounds=2)
    far = FarEnds(workshop.folder)
    os.environ["SSL_CERT_FILE"] = str(far.authority)
    try:
        dns, tls = f"127.0.0.1:{far.dns_port}", f"127.0.0.1:{far.tls_port}"
        for kind in (
            Kind("Ping", "ping://127.0.0.1", "ping", "127.0.0.1", at_least(2_000), {"packets": 1}),
            Kind("DNS", f"dns://{dns}/{NAME}", "dns", dns, at_least(2_000), {"expected": [ADDRESS]}),
            Kind("TLS", f"tls://{tls}", "tls", tls, at_least(300), share=0.3),
        ):
            yield from _of(workshop, kind, rounds=1)
    finally:
        del os.environ["SSL_CERT_FILE"]
        far.close()


def _of(workshop: Workshop, kind: Kind, rounds: int) -> Iterator[Figure]:
    theirs: list[Round] = []
    ours: list[Round] = []
    for _ in range(rounds):
        with workshop.blackbox() as blackbox:
            if blackbox:
                theirs.append(_probe(workshop, blackbox, kind))
                workshop.say(f"blackbox_exporter: {theirs[-1].rate:,.0f} {kind.name} probes/s")
        with workshop.tocsin(servers=0) as tocsin:
            ours.append(_watch(workshop, tocsin, kind))
            workshop.say(f"Tocsin: {ours[-1].rate:,.0f} {kind.name} checks/s, stored")
    yield Figure(
        f"{kind.name} checks, stored with their verdict",
        median([each.rate for each in ours]),
        "/s",
        peer=median([each.rate for each in theirs]) if theirs else None,
        peer_name="blackbox_exporter",
        goal=kind.goal,
        rounds=tuple(each.rate for each in ours),
        peer_rounds=tuple(each.rate for each in theirs),
    )
    yield Figure(
        f"CPU per 1,000 {kind.name} checks",
        median([each.cpu["total"] for each in ours]),
        "s",
        note=shares([each.cpu for each in ours]),
        peer=median([each.cpu["total"] for each in theirs]) if theirs else None,
        peer_name="blackbox_exporter",
    )


def _probe(workshop: Workshop, blackbox: Blackbox, kind: Kind) -> Round:
    workshop.load.send(blackbox.port, blackbox.probes(kind.target, 100, kind.module)).must_be(200)
    count = int(PROBES_A_SECOND * workshop.sizes.check_seconds * kind.share)
    before = blackbox.cpu()
    sent = workshop.load.send(blackbox.port, blackbox.probes(kind.target, count, kind.module)).must_be(200)
    return Round(count / sent.took, per_1000(before, blackbox.cpu(), count))


def _watch(workshop: Workshop, tocsin: Tocsin, kind: Kind) -> Round:
    """More monitors than can be checked each second, so that it is never out of work."""
    wanted = [
        {
            "network_monitor": {
                "name": f"{kind.name} {number}", "url": kind.url, "interval": 1, "timeout": 10, **kind.options,
            }
        }
        for number in range(workshop.sizes.monitors)
    ]  # fmt: skip
    workshop.load.send(tocsin.port, tocsin.requests("POST", "/api/v1/network_monitors", wanted)).must_be(201)
    time.sleep(workshop.sizes.check_seconds / 3)
    before, (had, _, began) = tocsin.cpu(), _stored(tocsin)
    time.sleep(workshop.sizes.check_seconds)
    after, (has, good, ended) = tocsin.cpu(), _stored(tocsin)
    if good < 0.99 * has:
        raise RuntimeError(f"{has - good} of {has} checks failed, so their rate says nothing")
    return Round((has - had) / (ended - began).total_seconds(), per_1000(before, after, has - had))


def _stored(tocsin: Tocsin) -> tuple[int, int, datetime]:
    async def count() -> tuple[int, int, datetime]:
        connection = await asyncpg.connect(embedded.dsn_of(tocsin.folder))
        try:
            return tuple(await connection.fetchrow(COUNT))
        finally:
            await connection.close()

    return asyncio.run(count())
