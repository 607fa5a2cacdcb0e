"""The incident that says that deliveries are tried too late, at a monitor of the operator's first project.

The monitor names this installation, is made when it is first needed, and is paused: it stands for the service itself.
"""

from __future__ import annotations

from tocsin.domain.incidents import ResolveRequest
from tocsin.domain.monitors import Target
from tocsin.domain.punctuality import INCIDENT_TYPE, Objective
from tocsin.storage.delivery import first_tries, incidents
from tocsin.storage.monitoring.own_monitors import OwnMonitor
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

MONITOR = OwnMonitor("Tocsin's own deliveries", "own_punctuality", INCIDENT_TYPE)
TIMEOUT = 5.0

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
        target = Target(f"{public_url}/health/ready", "http", TIMEOUT)
        message = objective.message(counted.tries, counted.late)
        await MONITOR.open_incident(tx, vault, target, message, public_url=public_url)
