"""What would happen: everybody of a project, in the order in which they would be told of an incident, or why not.

It asks the same function as `storage.notifying.turns`, at each moment at which that would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec.structs import replace

from tocsin.domain import ids, notifying
from tocsin.domain.attachments import Attachment
from tocsin.domain.incidents import Incident, Severity
from tocsin.domain.notifying import Candidate, Never, Tell, Wait
from tocsin.domain.resources.base import Resource
from tocsin.storage.notifying import circumstances, floods
from tocsin.storage.notifying.circumstances import Circumstances
from tocsin.storage.postgres.database import Tx, key

MOST = 1_000
"""Integrations that a plan has: those that are attached first."""

AT_ONCE = 100
"""Decisions after which the event loop gets a turn."""
MAX_STEPS = 100
FAR = timedelta(days=370)

EVERYBODY = """
SELECT i.id, i.type, a.integration_id IS NOT NULL AS attached, coalesce(a.to_everything, false) AS to_everything
FROM integrations i LEFT JOIN attachments a ON a.integration_id = i.id AND a.resource_id = $2
WHERE i.project_id = $1
ORDER BY a.integration_id IS NULL, i.id LIMIT $3
"""


class Planned(msgspec.Struct, frozen=True):
    """What would become of one integration: told `at` that moment, or `why_not`.

    `on_duty` is who would be told in its place; `attachment` is None where it is not attached. `waits_for` is what it
    would wait for first, where it is not told at once.
    """

    integration_id: UUID
    type: str
    attachment: Attachment | None
    at: datetime | None = None
    why_not: str | None = None
    on_duty: UUID | None = None
    waits_for: str | None = None

    @property
    def held_back(self) -> str | None:
        """Why it is not told before `at`, if that is not its own `after`."""
        return None if self.waits_for is None or self.waits_for.startswith(notifying.ITS_TURN) else self.waits_for


async def plan(
    tx: Tx, project_id: UUID, kind: Resource, resource_id: UUID, incident_type: str, severity: Severity, at: datetime
) -> list[Planned]:
    """Who would be told of such an incident that begins `at` that moment and that nobody acknowledges.

    Those who would be told come first, in the order in which they would be.
    """
    rows = await tx.fetch(EVERYBODY, project_id, resource_id, MOST)
    types = {key(row["id"]): row["type"] for row in rows}
    incident = Incident(
        id=ids.new(), project_id=project_id, resource_type=kind.type, resource_id=resource_id, resource_name="",
        resource_url="", type=incident_type, message="", created_at=at, updated_at=at, severity=severity,
    )  # fmt: skip
    known = await circumstances.of_incidents(tx, [incident], types, at)
    limits = await floods.of(tx, list(known.everybody), lock=False)
    flooded = {
        id_: limits.until(id_, resource_id, at)
        for id_ in known.everybody
    }
    found = []
    for number, (integration_id, type_) in enumerate(types.items(), 1):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
        candidate = known.candidate(integration_id, resource_id)
        if candidate is not None:
            candidate = replace(candidate, flooded_until=flooded[integration_id])
            found.append(await _planned(tx, known, incident, candidate, type_, flooded))
    return sorted(found, key=lambda each: (each.at is None, each.at or at, each.attachment is None))


async def _planned(
    tx: Tx, known: Circumstances, incident: Incident, to: Candidate, type_: str,
    flooded: Mapping[UUID, datetime | None],
) -> Planned:  # fmt: skip
    everybody = known.flooded(flooded)
    now, waited_for, first = incident.created_at, "", None
    for _ in range(MAX_STEPS):
        known.now = now
        spans = await known.silences(tx, incident, to)
        decision = notifying.decide("opened", to, known.occasion(incident, ()), everybody, spans, now, waited_for)
        match decision:
            case Tell(who):
                return Planned(to.id, type_, to.attachment, now, None, who if to.schedule else None, first)
            case Never(why_not):
                return Planned(to.id, type_, to.attachment, None, why_not)
            case Wait(until, reason):
                if until is None or until <= now or until - incident.created_at > FAR:
                    return Planned(to.id, type_, to.attachment, None, reason)
                now, waited_for, first = until, reason, first or reason
    return Planned(to.id, type_, to.attachment, None, waited_for)
