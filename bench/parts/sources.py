"""Alerts of another system, each an incident with its deliveries, and a storm of them beside another project."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from bench import load
from bench.figures import Figure, at_least, at_most, at_most_of_peer, median, percentile
from bench.instance import Tocsin
from bench.load import Load
from bench.parts.latency import RATE, paced, warm_up
from bench.workshop import Workshop, per_1000, shares

BATCH, CONNECTIONS = 100, 32
RULES = ("DiskFull", "DiskSlow", "HostDown", "LoadHigh", "MemoryFull", "NetworkSlow")
"""Whose alerts they are: in a storm, a few rules fire on many machines."""


@dataclass(frozen=True, slots=True)
class Round:
    taken: float
    delivered: float
    cpu: dict[str, float]
    missing: int
    repeated: int


def measure(workshop: Workshop) -> Iterator[Figure]:
    yield from _rates(workshop)
    yield from _storm(workshop)


def _rates(workshop: Workshop) -> Iterator[Figure]:
    rounds: list[Round] = []
    with workshop.tocsin() as tocsin:
        warm_up(workshop, tocsin)
        paths = sources(workshop, tocsin)
        _round(workshop, tocsin, paths, "warm")
        for number in range(workshop.sizes.rounds):
            rounds.append(_round(workshop, tocsin, paths, str(number)))
            workshop.say(
                f"round {number + 1}: {rounds[-1].taken:,.0f} alerts/s taken, {rounds[-1].delivered:,.0f}/s delivered"
            )
    taken = tuple(each.taken for each in rounds)
    yield Figure(
        f"alerts taken in batches of {BATCH}, each an incident with its delivery", median(taken), "/s",
        goal=at_least(5_000), rounds=taken,
    )  # fmt: skip
    yield Figure("the same until the last is delivered", median([each.delivered for each in rounds]), "/s")
    yield Figure(
        "CPU per 1,000 alerts", median([each.cpu["total"] for each in rounds]), "s",
        note=shares([each.cpu for each in rounds]),
    )  # fmt: skip
    yield Figure("alerts lost or repeated", sum(each.missing + each.repeated for each in rounds), "", goal=at_most(0))


def _storm(workshop: Workshop) -> Iterator[Figure]:
    """Of one project, while another one's incidents go on."""
    count, beside = 10 * workshop.sizes.incidents, workshop.sizes.paced
    latencies: dict[str, list[float]] = {}
    storming = Load()
    try:
        with workshop.tocsin(servers=10) as tocsin:
            warm_up(workshop, tocsin)
            keys = {state: [f"bench_{state}_{index}" for index in range(beside)] for state in ("alone", "beside")}
            requests = {state: tocsin.opening(each) for state, each in keys.items()}
            latencies["alone"] = paced(workshop, tocsin, keys["alone"], requests["alone"])
            tocsin.create_project()
            bodies = alerts(sources(workshop, tocsin, 1), [f"storm_{index}" for index in range(count)])
            storm = threading.Thread(target=lambda: storming.send(tocsin.port, bodies, connections=8).must_be(200))
            workshop.say(f"a storm of {count:,} alerts in one project, {RATE} incidents/s in another")
            storm.start()
            latencies["beside"] = paced(workshop, tocsin, keys["beside"], requests["beside"])
            storm.join()
            stored = tocsin.call("GET", "/api/v1/incidents?status=ongoing&per_page=1")["meta"]["total_count"]
    finally:
        storming.close()
    yield Figure(f"of {count:,} alerts in a storm lost", count - stored, "", goal=at_most(0))
    yield Figure(
        f"p99 of another project at {RATE}/s beside the storm", percentile(latencies["beside"], 0.99), "ms",
        peer=percentile(latencies["alone"], 0.99), peer_name="without", goal=at_most_of_peer(1.3),
    )  # fmt: skip


def sources(workshop: Workshop, tocsin: Tocsin, count: int | None = None) -> list[str]:
    """The paths of so many sources, each attached to a webhook of its own."""
    found = []
    for number in range(count or workshop.destinations):
        made = tocsin.call("POST", "/api/v1/sources", {"source": {"type": "alertmanager", "name": f"{number}"}})
        hook = tocsin.add_webhook(workshop.receiver.port, number)
        tocsin.call("POST", f"/api/v1/sources/{made['uuid']}/integrations", {"integration_id": hook})
        found.append("/in/" + made["url"].rpartition("/")[2] + "/api/v2/alerts")
    return found


def alerts(paths: Sequence[str], names: Sequence[str]) -> list[bytes]:
    """Requests as Prometheus sends them, an alert for each name."""
    now = datetime.now(UTC)
    starts, ends = (now - timedelta(minutes=1)).isoformat(), (now + timedelta(minutes=30)).isoformat()
    each = [
        {
            "labels": {
                "alertname": RULES[index % len(RULES)], "severity": "warning", "instance": f"{name}.example.com:9100",
                "job": "node", "cluster": "production", "device": "/dev/sda1", "fstype": "ext4", "mountpoint": "/",
            },
            "annotations": {"summary": f"Something is wrong with {name}", "description": "98 % of / are used"},
            "startsAt": starts, "endsAt": ends, "generatorURL": "http://prometheus.example.com/graph?g0.expr=disk_full",
        }
        for index, name in enumerate(names)
    ]  # fmt: skip
    return [
        load.request("POST", paths[start // BATCH % len(paths)], msgspec.json.encode(each[start : start + BATCH]))
        for start in range(0, len(each), BATCH)
    ]


def _round(workshop: Workshop, tocsin: Tocsin, paths: Sequence[str], name: str) -> Round:
    count = 2 * workshop.sizes.incidents
    requests = alerts(paths, [f"bench_source_{name}_{index}" for index in range(count)])
    workshop.receiver.reset()
    before = tocsin.cpu()
    sent = workshop.load.send(tocsin.port, requests, connections=CONNECTIONS).must_be(200)
    arrivals = workshop.receiver.wait(count, 60)
    after = tocsin.cpu()
    took = max(arrivals.opened.values(), default=0.0) - min(sent.sent)
    missing = count - len(arrivals.opened)
    return Round(count / sent.took, count / took, per_1000(before, after, count), missing, arrivals.repeated)
