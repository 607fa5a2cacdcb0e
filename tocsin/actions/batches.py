"""Group commits for what machines do by the thousand per second: opening and resolving incidents, reporting metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg

from tocsin.domain.incidents import Incident, Opened, OpenRequest, ResolveRequest, ResourceNotFound
from tocsin.domain.reports import Recorded, Report
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.monitoring import servers
from tocsin.storage.postgres.database import GroupCommit, Tx

REPORTS = 100
"""Reports that share a commit: each may bring a backlog of six hours."""

OpenBatch: TypeAlias = GroupCommit[Sequence[OpenRequest], list[Opened | ResourceNotFound | None]]
"""Incidents that one request opens, all or none."""
ResolveBatch: TypeAlias = GroupCommit[Sequence[ResolveRequest], list[list[Incident]]]
ReportBatch: TypeAlias = GroupCommit[Report, Recorded]


@dataclass(frozen=True, slots=True)
class Batches:
    """The group commits of one process."""

    open: OpenBatch
    resolve: ResolveBatch
    report: ReportBatch


def of(pool: asyncpg.Pool, public_url: str) -> Batches:
    """They hold no resources, so they need not be closed."""

    async def open_batches(
        tx: Tx, given: Sequence[Sequence[OpenRequest]]
    ) -> Sequence[list[Opened | ResourceNotFound | None]]:
        return await openings.open_batches(tx, given, public_url=public_url)

    async def record(tx: Tx, reports: Sequence[Report]) -> Sequence[Recorded]:
        return await servers.record(tx, reports, public_url=public_url)

    return Batches(
        GroupCommit(pool, open_batches, begin=False, weigh=len),
        GroupCommit(pool, _resolve_batches, weigh=len),
        GroupCommit(pool, record, limit=REPORTS),
    )


async def _resolve_batches(tx: Tx, given: Sequence[Sequence[ResolveRequest]]) -> Sequence[list[list[Incident]]]:
    ended = iter(await incidents.resolve(tx, [closing for batch in given for closing in batch]))
    return [[next(ended) for _ in batch] for batch in given]
