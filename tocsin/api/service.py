"""What the API works with: the one value that every handler is given."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from tocsin.domain.incidents import Closing, Incident, Missing, Opened, Opening
from tocsin.settings import Settings
from tocsin.storage import incidents, openings, servers
from tocsin.storage.database import GroupCommit, Tx
from tocsin.storage.secrets import Vault

REPORTS = 100
"""Reports that share a commit: each may bring what its agent kept through six hours."""

OpenedUnit = list[Opened | Missing | None]
ClosedUnit = list[list[Incident]]


class Service:
    """One installation, as the API sees it.

    The group commits take what one request brings: openings that stand or fall together, closings, one server's report.
    """

    # No dataclass: the framework would look into one, field by field, for each handler.

    def __init__(
        self,
        *,
        pool: asyncpg.Pool,
        settings: Settings,
        vault: Vault,
        public_url: str,
        open_incidents: GroupCommit[Sequence[Opening], OpenedUnit],
        resolve_incidents: GroupCommit[Sequence[Closing], ClosedUnit],
        report: GroupCommit[servers.Report, servers.Recorded],
    ) -> None:
        self.pool = pool
        self.settings = settings
        self.vault = vault
        self.public_url = public_url
        self.open_incidents = open_incidents
        self.resolve_incidents = resolve_incidents
        self.report = report


def of(pool: asyncpg.Pool, settings: Settings, vault: Vault, public_url: str) -> Service:
    """The service on this pool. It holds no resource of its own, so it need not be closed."""

    async def open_units(tx: Tx, units: Sequence[Sequence[Opening]]) -> Sequence[OpenedUnit]:
        return await openings.open_units(tx, units, public_url=public_url)

    async def record(tx: Tx, reports: Sequence[servers.Report]) -> Sequence[servers.Recorded]:
        return await servers.record(tx, reports, public_url=public_url)

    return Service(
        pool=pool,
        settings=settings,
        vault=vault,
        public_url=public_url,
        open_incidents=GroupCommit(pool, open_units, begin=False, weigh=len),
        resolve_incidents=GroupCommit(pool, _resolve_units, weigh=len),
        report=GroupCommit(pool, record, limit=REPORTS),
    )


async def _resolve_units(tx: Tx, units: Sequence[Sequence[Closing]]) -> Sequence[ClosedUnit]:
    ended = iter(await incidents.resolve(tx, [closing for unit in units for closing in unit]))
    return [[next(ended) for _ in unit] for unit in units]
