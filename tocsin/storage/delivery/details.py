"""What an incident's reporter says besides: read where one incident is shown or told of, and in no list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tocsin.storage.postgres.database import Tx

OF_INCIDENT = "SELECT details FROM incidents WHERE id = $1 AND project_id = $2"


async def of_incident(tx: Tx, project_id: UUID, incident_id: UUID) -> Mapping[str, Any] | None:
    """None where nothing was said, or the project has no such incident."""
    found: Mapping[str, Any] | None = await tx.fetchval(OF_INCIDENT, incident_id, project_id)
    return found
