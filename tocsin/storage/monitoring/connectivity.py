"""The incident that says that Tocsin itself had no way out, at a monitor of the operator's first project.

The monitor names the first target, is made when it is first needed, and is paused: engines ask the targets by
themselves. Whoever resumes it has it checked like any other.
"""

from __future__ import annotations

from uuid import UUID

from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.monitoring import monitors
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

TYPE = "connectivity"
NAME = "Tocsin's own connectivity"
LOCK = "SELECT pg_advisory_xact_lock(1668244078)"  # any number, as long as it never changes

PROJECT = """
SELECT m.project_id FROM members m JOIN users u ON u.id = m.user_id
WHERE u.operator AND m.role = 'owner' ORDER BY m.project_id LIMIT 1
"""
MONITOR = "SELECT id FROM network_monitors WHERE project_id = $1 AND own_connectivity"
MARK = "UPDATE network_monitors SET own_connectivity = true WHERE id = $1"
ALL = "SELECT project_id, id FROM network_monitors WHERE own_connectivity"


async def open_incident(tx: Tx, vault: Vault, target: Target, message: str, *, public_url: str) -> None:
    """Open it, unless another engine did. Without an operator, nobody is told."""
    await tx.execute(LOCK)
    project = await tx.fetchval(PROJECT)
    if project is None:
        return
    found = await tx.fetchval(MONITOR, project)
    monitor_id = key(found) if found else await _create(tx, vault, key(project), target)
    request = OpenRequest(key(project), NETWORK_MONITOR.type, monitor_id, TYPE, message)
    await openings.open(tx, [request], public_url=public_url)


async def resolve(tx: Tx) -> None:
    """A target answers again."""
    closings = [
        ResolveRequest(key(row["project_id"]), key(row["id"]), TYPE, "A connectivity target answers again")
        for row in await tx.fetch(ALL)
    ]
    await incidents.resolve(tx, closings)


async def _create(tx: Tx, vault: Vault, project_id: UUID, target: Target) -> UUID:
    made = await monitors.create(tx, vault, project_id, MonitorConfig(NAME, target, paused=True))
    await tx.execute(MARK, made)
    return made
