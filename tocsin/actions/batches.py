"""Group commits for what machines do by the thousand per second: opening and resolving incidents, reporting metrics,
pings, alerts, what probes saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg

from tocsin.domain.incidents import Incident, Opened, OpenRequest, ResolveRequest, ResourceNotFound
from tocsin.domain.pings import Ping
from tocsin.domain.reports import Recorded, Report
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.monitoring import alerts, pings, probe_results, servers
from tocsin.storage.monitoring.alerts import Became, Taken
from tocsin.storage.monitoring.pings import Result
from tocsin.storage.monitoring.probe_results import Sent
from tocsin.storage.monitoring.probe_results import Taken as ResultsTaken
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.group_commit import GroupCommit
from tocsin.storage.postgres.secrets import Vault

REPORTS = 100
"""Reports that share a commit: each may bring a backlog of six hours."""

ALERTS = 250
"""Alerts that share a commit: a storm of them leaves room for others in between."""

PATIENCE = 1.6
"""Seconds that a caller waits while no commit ends."""

OpenBatch: TypeAlias = GroupCommit[Sequence[OpenRequest], list[Opened | ResourceNotFound | None]]
"""Incidents that one request opens, all or none."""
ResolveBatch: TypeAlias = GroupCommit[Sequence[ResolveRequest], list[list[Incident]]]
ReportBatch: TypeAlias = GroupCommit[Report, Recorded]
PingBatch: TypeAlias = GroupCommit[Ping, Result]
AlertBatch: TypeAlias = GroupCommit[Taken, Became]
"""What one body of a source says of alerts."""
ResultBatch: TypeAlias = GroupCommit[Sent, ResultsTaken | None]
"""What one request of a probe brings."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The group commits of one process."""

    open: OpenBatch
    resolve: ResolveBatch
    report: ReportBatch
    ping: PingBatch
    alerts: AlertBatch
    results: ResultBatch


def of(pool: asyncpg.Pool, vault: Vault, public_url: str) -> Batches:
    """They hold no resources, so they need not be closed."""

    async def open_batches(
        tx: Tx, given: Sequence[Sequence[OpenRequest]]
    ) -> Sequence[list[Opened | ResourceNotFound | None]]:
        return await openings.open_batches(tx, given, public_url=public_url)

    async def record(tx: Tx, reports: Sequence[Report]) -> Sequence[Recorded]:
        return await servers.record(tx, reports, public_url=public_url)

    async def take_pings(tx: Tx, given: Sequence[Ping]) -> Sequence[Result]:
        return await pings.record(tx, vault, given, public_url=public_url)

    async def take_alerts(tx: Tx, bodies: Sequence[Taken]) -> Sequence[Became]:
        return await alerts.take(tx, bodies, public_url=public_url)

    async def take_results(tx: Tx, sent: Sequence[Sent]) -> Sequence[ResultsTaken | None]:
        return await probe_results.take(tx, sent, public_url=public_url)

    return Batches(
        GroupCommit(pool, open_batches, begin=False, weigh=len, patience=PATIENCE),
        GroupCommit(pool, _resolve_batches, weigh=len, patience=PATIENCE),
        GroupCommit(pool, record, limit=REPORTS, patience=PATIENCE),
        GroupCommit(pool, take_pings, weigh=pings.weight, patience=PATIENCE),
        GroupCommit(pool, take_alerts, limit=ALERTS, weigh=lambda body: max(1, len(body.alerts)), patience=PATIENCE),
        GroupCommit(pool, take_results, weigh=lambda sent: max(1, len(sent.results)), patience=PATIENCE),
    )


async def _resolve_batches(tx: Tx, given: Sequence[Sequence[ResolveRequest]]) -> Sequence[list[list[Incident]]]:
    ended = iter(await incidents.resolve(tx, [closing for batch in given for closing in batch]))
    return [[next(ended) for _ in batch] for batch in given]
