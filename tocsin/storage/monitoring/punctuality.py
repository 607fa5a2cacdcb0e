"""The incident that says that deliveries are tried too late, at a monitor of the operator's first project.

The monitor names this installation, is made when it is first needed, and is paused: it stands for the service itself.
"""

from __future__ import annotations

from uuid import UUID

from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.punctuality import INCIDENT_TYPE, Objective
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.delivery import first_tries, incidents, openings
from tocsin.storage.monitoring import monitors
from tocsin.storage.monitoring.connectivity import LOCK, PROJECT
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

NAME = "Tocsin's own deliveries"
TIMEOUT = 5.0

MONITOR = "SELECT id FROM network_monitors WHERE project_id = $1 AND own_punctuality"
MARK = "UPDATE network_monitors SET own_punctuality = true WHERE id = $1"
BREACHED = f"""
SELECT m.project_id, m.id FROM (SELECT * FROM network_monitors WHERE own_punctuality OFFSET 0) m
JOIN ongoing o ON o.resource_id = m.id AND o.type = '{INCIDENT_TYPE}'
"""


async def judge(tx: Tx, vault: Vault, objective: Objective, *, public_url: str) -> None:
    """Open the incident while the objective is not met, and end it when it is met again, or is too rarely tested.

    Without an operator, nobody is told.
    """
    counted = await first_tries.of_window(tx, objective)
    ongoing = await tx.fetch(BREACHED)
    if not objective.breached(counted.tries, counted.late):
        words = f"{counted.tries - counted.late} of {counted.tries} deliveries were first tried in time"
        ends = [ResolveRequest(key(row["project_id"]), key(row["id"]), INCIDENT_TYPE, words) for row in ongoing]
        if ends:
            await incidents.resolve(tx, ends)
    elif not ongoing:
        await _open(tx, vault, objective.message(counted.tries, counted.late), public_url)


async def _open(tx: Tx, vault: Vault, message: str, public_url: str) -> None:
    await tx.execute(LOCK)
    project = await tx.fetchval(PROJECT)
    if project is None:
        return
    found = await tx.fetchval(MONITOR, project)
    monitor_id = key(found) if found else await _create(tx, vault, key(project), public_url)
    request = OpenRequest(key(project), NETWORK_MONITOR.type, monitor_id, INCIDENT_TYPE, message)
    await openings.open(tx, [request], public_url=public_url)


async def _create(tx: Tx, vault: Vault, project_id: UUID, public_url: str) -> UUID:
    target = Target(f"{public_url}/health/ready", "http", TIMEOUT)
    made = await monitors.create(tx, vault, project_id, MonitorConfig(NAME, target, paused=True))
    await tx.execute(MARK, made)
    return made
