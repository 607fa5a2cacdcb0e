"""Monitors in the operator's first project that stand for Tocsin itself: made when first needed, and paused."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.domain.incidents import OpenRequest
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.delivery import openings
from tocsin.storage.monitoring import monitors
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

LOCK = "SELECT pg_advisory_xact_lock(1668244078)"  # any number, as long as it never changes

PROJECT = """
SELECT m.project_id FROM members m JOIN users u ON u.id = m.user_id
WHERE u.operator AND m.role = 'owner' ORDER BY m.project_id LIMIT 1
"""
MONITOR = "SELECT id FROM network_monitors WHERE project_id = $1 AND {mark}"
MARK = "UPDATE network_monitors SET {mark} = true WHERE id = $1"


@dataclass(frozen=True, slots=True)
class OwnMonitor:
    """What it is called, the column that marks it, and the type of its incidents."""

    name: str
    mark: str
    incident_type: str

    async def open_incident(self, tx: Tx, vault: Vault, target: Target, message: str, *, public_url: str) -> None:
        """Open it, unless another engine did. Without an operator, nobody is told."""
        await tx.execute(LOCK)
        project = await tx.fetchval(PROJECT)
        if project is None:
            return
        found = await tx.fetchval(MONITOR.format(mark=self.mark), project)
        monitor_id = key(found) if found else await self._create(tx, vault, key(project), target)
        request = OpenRequest(key(project), NETWORK_MONITOR.type, monitor_id, self.incident_type, message)
        await openings.open(tx, [request], public_url=public_url)

    async def _create(self, tx: Tx, vault: Vault, project_id: UUID, target: Target) -> UUID:
        made = await monitors.create(tx, vault, project_id, MonitorConfig(self.name, target, paused=True))
        await tx.execute(MARK.format(mark=self.mark), made)
        return made
