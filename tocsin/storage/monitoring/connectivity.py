"""The incident that says that Tocsin itself had no way out, at a monitor of the operator's first project.

The monitor names the first target, is made when it is first needed, and is paused: engines ask the targets by
themselves. Whoever resumes it has it checked like any other.
"""

from __future__ import annotations

from tocsin.domain.incidents import ResolveRequest
from tocsin.storage.delivery import incidents
from tocsin.storage.monitoring.own_monitors import OwnMonitor
from tocsin.storage.postgres.database import Tx, key

TYPE = "connectivity"
MONITOR = OwnMonitor("Tocsin's own connectivity", "own_connectivity", TYPE)
ALL = "SELECT project_id, id FROM network_monitors WHERE own_connectivity"


async def resolve(tx: Tx) -> None:
    """A target answers again."""
    closings = [
        ResolveRequest(key(row["project_id"]), key(row["id"]), TYPE, "A connectivity target answers again")
        for row in await tx.fetch(ALL)
    ]
    await incidents.resolve(tx, closings)
