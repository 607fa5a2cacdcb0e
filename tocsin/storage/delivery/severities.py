"""Raising an ongoing incident to a worse severity: the same incident, of which more may want to be told."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.domain.incidents import SEVERITIES, Incident
from tocsin.storage.delivery import incidents, queue
from tocsin.storage.delivery.incidents import INCIDENT, IncidentKey
from tocsin.storage.delivery.queue import TURNS_CHANNEL
from tocsin.storage.postgres.database import Tx


def rank(severity: str) -> str:
    """SQL: the place of a severity, the worst being 1."""
    return f"array_position(ARRAY{list(SEVERITIES)}, {severity})"


# Rows in `ongoing` are locked before incidents, as in a resolve. Those that the old severity did not concern are to
# be decided about now; whoever it concerned has been, and stays so.
RAISE = f"""
WITH locked AS (
    SELECT o.incident_id, g.severity
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS g(resource_id, type, dedup_key, severity)
    JOIN ongoing o ON o.resource_id = g.resource_id AND o.type = g.type AND o.dedup_key = g.dedup_key
    ORDER BY o.resource_id, o.type, o.dedup_key FOR UPDATE OF o
), before AS (
    SELECT l.severity AS raised_to, i.* FROM locked l
    CROSS JOIN LATERAL (
        SELECT id, resource_id, type, dedup_key, severity FROM incidents WHERE id = l.incident_id LIMIT 1
    ) i
    WHERE {rank("l.severity")} < {rank("i.severity")}
), raised AS (
    UPDATE incidents i SET severity = b.raised_to, updated_at = now() FROM before b WHERE i.id = b.id
    RETURNING {INCIDENT}
), noted AS (
    UPDATE ongoing o SET severity = b.raised_to FROM before b
    WHERE o.resource_id = b.resource_id AND o.type = b.type AND o.dedup_key = b.dedup_key
), held AS (
    INSERT INTO outstanding (id, project_id, integration_id, integration_type, for_people, repeatable, incident_id,
                             event, status, held, due_at, created_at)
    SELECT new_id(), i.project_id, i.id, i.type, i.for_people, i.repeatable, b.id, 'opened', 'pending',
           '{queue.TO_BE_DECIDED}', now(), now()
    FROM before b
    JOIN attachments a ON a.resource_id = b.resource_id AND a.severity IS NOT NULL
    JOIN integrations i ON i.id = a.integration_id
    WHERE {rank("a.severity")} >= {rank("b.raised_to")} AND {rank("a.severity")} < {rank("b.severity")}
      AND (a.incident_types IS NULL OR b.type = ANY(a.incident_types))
    RETURNING 1
), again AS (
    UPDATE outstanding o SET due_at = now(), summary = false
    FROM (
        SELECT q.id FROM before b JOIN outstanding q ON q.incident_id = b.id
        WHERE q.held IS NOT NULL AND q.event = 'opened' ORDER BY q.id FOR UPDATE OF q
    ) waiting
    WHERE o.id = waiting.id
    RETURNING 1
)
SELECT raised.*, (SELECT pg_notify('{TURNS_CHANNEL}', '') WHERE EXISTS (SELECT FROM held UNION ALL SELECT FROM again))
FROM raised
"""


async def raise_(
    tx: Tx, found: Mapping[IncidentKey, Incident], wanted: Mapping[IncidentKey, str]
) -> dict[IncidentKey, Incident]:
    """Raise those of the `found` whose `wanted` severity is worse; nothing is ever lowered. Returns what was raised.

    One statement, and so a transaction of its own where the caller has begun none.
    """
    worse = [
        (*key, wanted[key])
        for key, incident in found.items()
        if SEVERITIES.index(wanted[key]) < SEVERITIES.index(incident.severity)
    ]
    if not worse:
        return {}
    raised = map(incidents.of_row, await tx.fetch(RAISE, *map(list, zip(*worse, strict=True))))
    return {incidents.key_of(each): each for each in raised}
