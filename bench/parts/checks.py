"""HTTP checks with verdict and result stored, against the rate of blackbox_exporter's probes of the same site."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from bench.figures import Figure, at_least_of_peer, median
from bench.instance import Tocsin
from bench.peers import Blackbox
from bench.workshop import Workshop, per_1000, shares
from tocsin.storage.postgres import embedded

COUNT = "SELECT count(*), count(*) FILTER (WHERE ok), clock_timestamp() FROM checks"
PROBES_A_SECOND = 1_000
"""Probes asked of the peer for each second of measuring; it takes them as fast as it can."""


@dataclass(frozen=True, slots=True)
class Round:
    rate: float
    cpu: dict[str, float]


def measure(workshop: Workshop) -> Iterator[Figure]:
    site = f"http://127.0.0.1:{workshop.receiver.port}/site"
    theirs: list[Round] = []
    ours: list[Round] = []
    for _ in range(2):
        with workshop.blackbox() as blackbox:
            if blackbox:
                theirs.append(_probe(workshop, blackbox, site))
                workshop.say(f"blackbox_exporter: {theirs[-1].rate:,.0f} probes/s")
        with workshop.tocsin(servers=0) as tocsin:
            ours.append(_watch(workshop, tocsin, site))
            workshop.say(f"Tocsin: {ours[-1].rate:,.0f} checks/s, stored")
    yield Figure(
        "HTTP checks, stored with their verdict",
        median([each.rate for each in ours]),
        "/s",
        peer=median([each.rate for each in theirs]) if theirs else None,
        peer_name="blackbox_exporter",
        goal=at_least_of_peer(1.0),
        rounds=tuple(each.rate for each in ours),
        peer_rounds=tuple(each.rate for each in theirs),
    )
    yield Figure(
        "CPU per 1,000 checks",
        median([each.cpu["total"] for each in ours]),
        "s",
        note=shares([each.cpu for each in ours]),
        peer=median([each.cpu["total"] for each in theirs]) if theirs else None,
        peer_name="blackbox_exporter",
    )


def _probe(workshop: Workshop, blackbox: Blackbox, site: str) -> Round:
    workshop.load.send(blackbox.port, blackbox.probes(site, 500)).must_be(200)
    count = PROBES_A_SECOND * workshop.sizes.check_seconds
    before = blackbox.cpu()
    sent = workshop.load.send(blackbox.port, blackbox.probes(site, count)).must_be(200)
    return Round(count / sent.took, per_1000(before, blackbox.cpu(), count))


def _watch(workshop: Workshop, tocsin: Tocsin, site: str) -> Round:
    """More monitors than can be checked each second, so that it is never out of work."""
    wanted = [
        {"network_monitor": {"name": f"site {number}", "url": site, "check_type": "http", "interval": 1, "timeout": 10}}
        for number in range(workshop.sizes.monitors)
    ]
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
