"""Whether anything changed in a project since one looked last: a few looks at the ends of indexes."""

from __future__ import annotations

from uuid import UUID

from tocsin.storage.database import Tx

INCIDENTS = """
SELECT concat_ws('/', (SELECT id FROM incidents WHERE project_id = $1 ORDER BY id DESC LIMIT 1), count(*),
                 max(updated_at))
FROM (SELECT updated_at FROM incidents WHERE project_id = $1 AND closed_at IS NULL ORDER BY id DESC LIMIT 1000) ongoing
"""

DELIVERIES = """
SELECT string_agg(concat_ws('/', i.version, i.failures, f.id, p.waiting, p.attempts, s.sending), ' ' ORDER BY i.id)
FROM integrations i
LEFT JOIN LATERAL (SELECT id FROM finished WHERE integration_id = i.id ORDER BY id DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS waiting, sum(attempt) AS attempts
    FROM (SELECT attempt FROM outstanding WHERE integration_id = i.id AND status = 'pending' AND behind IS NULL
          ORDER BY due_at LIMIT 200) first
) p ON true
LEFT JOIN (SELECT integration_id, count(*) AS sending FROM outstanding
           WHERE status = 'sending' AND project_id = $1 GROUP BY 1) s ON s.integration_id = i.id
WHERE i.project_id = $1
"""

SERVERS = """
SELECT concat_ws('/', count(*), max(t.seen_at))
FROM servers s LEFT JOIN server_states t ON t.server_id = s.id WHERE s.project_id = $1
"""

MONITORS = """
SELECT concat_ws('/', count(*), max(t.last_check_at), max(m.updated_at))
FROM network_monitors m LEFT JOIN monitor_states t ON t.monitor_id = m.id WHERE m.project_id = $1
"""

TOPICS = {"incidents": INCIDENTS, "deliveries": DELIVERIES, "servers": SERVERS, "monitors": MONITORS}


async def state(tx: Tx, project_id: UUID, topics: frozenset[str]) -> tuple[str | None, ...]:
    """A value that differs when something of these topics (keys of `TOPICS`) has changed. It says nothing else."""
    return tuple([await tx.fetchval(TOPICS[topic], project_id) for topic in sorted(topics)])
