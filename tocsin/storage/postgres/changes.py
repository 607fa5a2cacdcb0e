"""Whether anything changed in a project since the last call: a few index look-ups."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from tocsin.storage.postgres.database import Tx, key

INCIDENTS = """
SELECT concat_ws('/', (SELECT id FROM incidents WHERE project_id = $1 ORDER BY id DESC LIMIT 1), count(*),
                 max(updated_at))
FROM (SELECT updated_at FROM incidents WHERE project_id = $1 AND closed_at IS NULL ORDER BY id DESC LIMIT 1000) ongoing
"""

DELIVERIES = """
SELECT string_agg(concat_ws('/', i.version, i.failures, f.id, p.waiting, p.attempts, s.sending, r.state,
                            r.reason, r.queued), ' ' ORDER BY i.id)
FROM integrations i
LEFT JOIN LATERAL (SELECT state, reason, queued FROM replays WHERE integration_id = i.id ORDER BY id DESC LIMIT 1) r
    ON true
LEFT JOIN LATERAL (SELECT id FROM finished WHERE integration_id = i.id ORDER BY id DESC LIMIT 1) f ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS waiting, sum(attempt) AS attempts
    FROM (SELECT attempt FROM outstanding WHERE integration_id = i.id AND status = 'pending' AND blocked_by IS NULL
            AND held IS NULL ORDER BY due_at LIMIT 200) first
) p ON true
LEFT JOIN (SELECT integration_id, count(*) AS sending FROM outstanding
           WHERE status = 'sending' AND project_id = $1 GROUP BY 1) s ON s.integration_id = i.id
WHERE i.project_id = $1
"""

# What the deliveries of a project's integrations come to: those that were given up, and their health.
HEALTH = """
SELECT concat_ws('/', (SELECT finished_at FROM finished WHERE project_id = $1 AND status = 'dead'
                       ORDER BY finished_at DESC LIMIT 1), count(*), sum(version), sum(failures))
FROM integrations WHERE project_id = $1
"""

SERVERS = """
SELECT concat_ws('/', count(*), max(t.seen_at))
FROM servers s LEFT JOIN server_states t ON t.server_id = s.id WHERE s.project_id = $1
"""

MONITORS = """
SELECT concat_ws('/', count(*), max(t.last_check_at), max(m.updated_at))
FROM network_monitors m LEFT JOIN monitor_states t ON t.monitor_id = m.id WHERE m.project_id = $1
"""

HEARTBEATS = """
SELECT concat_ws('/', count(*), max(t.last_ping_at), max(t.due_at) FILTER (WHERE t.due_at <= now()), max(h.updated_at))
FROM heartbeats h LEFT JOIN heartbeat_states t ON t.heartbeat_id = h.id WHERE h.project_id = $1
"""

SOURCES = """
SELECT concat_ws('/', count(*), max(last_body_at), max(updated_at)) FROM sources WHERE project_id = $1
"""

# Those that any project may use are known to all.
PROBES = """
SELECT concat_ws('/', count(*), max(seen_at), count(revoked_at))
FROM probes WHERE only_project IS NULL OR $1 IN (only_project, project_id)
"""

# After a switch of projects, a user's pages no longer show the old one.
ON_SHOW = """
SELECT o.session_id, o.project_id
FROM unnest($1::uuid[], $2::uuid[]) AS o (session_id, project_id)
JOIN user_tokens t ON t.id = o.session_id AND t.expires_at > now()
JOIN users u ON u.id = t.user_id
JOIN members m ON m.user_id = u.id AND m.project_id = o.project_id
WHERE u.current_project_id IS NULL OR u.current_project_id = o.project_id
   OR NOT EXISTS (SELECT FROM members c WHERE c.user_id = u.id AND c.project_id = u.current_project_id)
"""

TOPICS = {
    "incidents": INCIDENTS, "deliveries": DELIVERIES, "health": HEALTH, "servers": SERVERS, "monitors": MONITORS,
    "heartbeats": HEARTBEATS, "sources": SOURCES, "probes": PROBES,
}  # fmt: skip


async def on_show(tx: Tx, shown: Collection[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Which of these sessions (by `SignedIn.session_id`) still shows that project: valid, its user a member."""
    session_ids, project_ids = [each[0] for each in shown], [each[1] for each in shown]
    return {(key(row[0]), key(row[1])) for row in await tx.fetch(ON_SHOW, session_ids, project_ids)}


async def state(tx: Tx, project_id: UUID, topics: frozenset[str]) -> tuple[str | None, ...]:
    """A value that differs when something of these topics (keys of `TOPICS`) has changed. It has no other meaning."""
    return tuple([await tx.fetchval(TOPICS[topic], project_id) for topic in sorted(topics)])
