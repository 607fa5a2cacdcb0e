"""Incidents of what is found beside verdicts: a certificate, or a domain's registration, that ends soon."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from tocsin.domain.incidents import OpenRequest, Severity, truncated_message
from tocsin.domain.monitors import Finding
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.postgres.database import Tx, key

ONGOING = """
SELECT resource_id, type, dedup_key, severity FROM ongoing
WHERE resource_id = ANY ($1::uuid[]) AND type = ANY ($2::text[]) AND dedup_key <> ''
"""


async def ongoing(
    tx: Tx, monitors: Collection[UUID], types: Collection[str]
) -> dict[UUID, dict[tuple[str, str], Severity]]:
    """Those of these types for each of the monitors: how bad each is, by type and fingerprint."""
    found: dict[UUID, dict[tuple[str, str], Severity]] = {each: {} for each in monitors}
    for row in await tx.fetch(ONGOING, list(monitors), list(types)):
        found[key(row["resource_id"])][row["type"], row["dedup_key"]] = row["severity"]
    return found


def opening(project_id: UUID, monitor_id: UUID, found: Finding) -> OpenRequest:
    """What opens an incident of it, or raises the one that there is."""
    return OpenRequest(
        project_id, NETWORK_MONITOR.type, monitor_id, found.type, truncated_message(found.message),
        severity=found.severity, dedup_key=found.fingerprint, details=found.details, origin=None,
    )  # fmt: skip
