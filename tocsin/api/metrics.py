"""`/metrics` for Prometheus: totals of all engines, and the state of the queue; nothing about single projects.

Everything exists from the start, as 0: a rate over a series that appears with its first event misses that event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, product

from litestar import Response, get
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tocsin import __version__
from tocsin.api.service import Service
from tocsin.checks import base as checks
from tocsin.domain import inner_loop as inner
from tocsin.domain.counters import COUNTERS, HISTOGRAMS, SUM, CounterKey, HistogramSpec
from tocsin.domain.punctuality import Objective
from tocsin.integrations.base import types
from tocsin.storage.delivery import counters, engines, first_tries, inner_loop
from tocsin.storage.delivery.first_tries import Counted
from tocsin.storage.postgres import replication
from tocsin.storage.postgres.database import Tx

QUEUE = """
SELECT integration_type AS type, CASE WHEN held IS NULL THEN status ELSE 'held' END AS status, count(*) AS depth,
       coalesce(extract(epoch FROM now() - min(coalesce(released_at, created_at))), 0)::float8 AS oldest
FROM outstanding WHERE integration_type <> $1 GROUP BY 1, 2
"""

ONGOING = "SELECT count(*) FROM ongoing WHERE project_id <> $1"

CONTENT_TYPE = CONTENT_TYPE_LATEST.partition("; charset")[0]
"""Without charset: Litestar adds it."""


@get("/metrics", media_type=CONTENT_TYPE)
async def metrics(service: Service) -> Response[bytes]:
    """Read the metrics

    In the text format of Prometheus: totals of all engines, and the state of the queue.
    """
    async with service.pool.acquire() as tx, tx.transaction():
        families = [*await _families(tx, service.settings.slo), *_replication(await replication.read(tx))]
    registry = CollectorRegistry()
    registry.register(_StaticCollector(families))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE)


class _StaticCollector(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


async def _families(tx: Tx, objective: Objective | None) -> list[Metric]:
    build = GaugeMetricFamily("tocsin_build_info", "Version", labels=["version"])
    build.add_metric([__version__], 1)
    depth = GaugeMetricFamily("tocsin_queue_depth", "Unfinished deliveries", labels=["type", "status"])
    oldest = GaugeMetricFamily(
        "tocsin_queue_oldest_age_seconds", "Age of the oldest unfinished delivery", labels=["type", "status"]
    )
    empty = {(each, status): (0, 0.0) for each in types() for status in ("pending", "sending")}
    rows = await tx.fetch(QUEUE, inner.INTEGRATION_TYPE)
    waiting = {(row["type"], row["status"]): (row["depth"], row["oldest"]) for row in rows}
    for labels, (count, age) in (empty | waiting).items():
        depth.add_metric(labels, count)
        oldest.add_metric(labels, age)
    incidents = await tx.fetchval(ONGOING, inner.PROJECT)
    ongoing = GaugeMetricFamily("tocsin_incidents_ongoing", "Ongoing incidents", value=incidents)
    living = await engines.living(tx)
    running = GaugeMetricFamily("tocsin_engines", "Running engines", value=len(living))
    since = GaugeMetricFamily("tocsin_engine_start_timestamp_seconds", "Since when each engine runs", labels=["engine"])
    for each in living:
        since.add_metric([str(each.number)], each.since.timestamp())
    loop = await inner_loop.state(tx)
    worked = GaugeMetricFamily(
        "tocsin_inner_loop_last_success_timestamp_seconds", "When an incident last went through from end to end",
        value=loop.worked_at.timestamp() if loop.worked_at else 0.0,
    )  # fmt: skip
    took = GaugeMetricFamily("tocsin_inner_loop_seconds", "How long that took", value=loop.took or 0.0)
    slo = Counted(0, 0) if objective is None else await first_tries.of_window(tx, objective)
    tries = GaugeMetricFamily("tocsin_slo_first_tries", "First tries of deliveries in its window", value=slo.tries)
    late = GaugeMetricFamily("tocsin_slo_late_first_tries", "Those of them that were late", value=slo.late)
    breach = objective is not None and objective.breached(slo.tries, slo.late)
    breached = GaugeMetricFamily("tocsin_slo_breached", "Whether the objective is not met", value=float(breach))
    counted = await counters.all_(tx)
    totals = {what: value for what, value in counted.items() if inner.INTEGRATION_TYPE not in what[1]}
    gauges = [build, depth, oldest, ongoing, running, *([since] if living else []), worked, took, tries, late, breached]
    return [*gauges, *_counts(totals), *_histograms(totals)]


def _replication(known: replication.Replication) -> list[Metric]:
    synchronous = GaugeMetricFamily(
        "tocsin_database_synchronous", "1 if what is accepted is on a standby, too", value=int(known.synchronous)
    )
    count = GaugeMetricFamily("tocsin_database_standbys", "Standbys that follow", value=len(known.standbys))
    behind = max((each.behind_seconds for each in known.standbys), default=0.0)
    seconds = GaugeMetricFamily("tocsin_database_behind_seconds", "How far the last standby is behind", value=behind)
    return [synchronous, count, seconds]


def _counts(totals: Mapping[CounterKey, float]) -> Iterator[Metric]:
    for name, what in COUNTERS.items():
        family = CounterMetricFamily(f"tocsin_{name}", what.help, labels=what.labels)
        kinds = checks.types() if name == "checks" else types()
        nothing: dict[tuple[str, ...], float] = dict.fromkeys(product(kinds, what.outcomes), 0.0)
        counted = {labels: value for (counted, labels), value in totals.items() if counted == name}
        for labels, value in sorted({**nothing, **counted}.items()):
            family.add_metric(labels, value)
        yield family


def _histograms(totals: Mapping[CounterKey, float]) -> Iterator[Metric]:
    for name, what in HISTOGRAMS.items():
        family = HistogramMetricFamily(f"tocsin_{name}", what.help, labels=what.labels)
        counted = {labels[:-1] for counted, labels in totals if counted == name}
        for labels in sorted(counted | {(each,) for each in types()}):
            family.add_metric(labels, _buckets(totals, name, labels, what), totals.get((name, (*labels, SUM)), 0.0))
        yield family


def _buckets(
    totals: Mapping[CounterKey, float], name: str, labels: tuple[str, ...], what: HistogramSpec
) -> list[tuple[str, float]]:
    """Stored counts are per bucket; exported ones are cumulative."""
    bounds = what.buckets
    return list(zip(bounds, accumulate(totals.get((name, (*labels, bound)), 0.0) for bound in bounds), strict=True))


routes = [metrics]
