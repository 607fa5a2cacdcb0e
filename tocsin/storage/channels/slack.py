"""Slack: pending connections, and which integration a press of a button concerns."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault, new_token

STATE_MINUTES = 10

SLACK = "Integrations::SlackIntegration"

BEGIN = f"""
WITH old AS (
    DELETE FROM slack_states WHERE hash IN (
        SELECT hash FROM slack_states WHERE expires_at < now() LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO slack_states (hash, project_id, session_id, user_id, who, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + interval '{STATE_MINUTES} min')
"""

BEGUN = """
SELECT s.project_id, p.name AS project_name, s.session_id, s.user_id, s.who
FROM slack_states s JOIN projects p ON p.id = s.project_id
WHERE s.hash = ANY($1::bytea[]) AND s.expires_at > now()
FOR UPDATE OF s
"""

SPEND = "DELETE FROM slack_states WHERE hash = ANY($1::bytea[])"

# If a project is connected to that workspace more than once, the integration of that channel.
OF_WORKSPACE = f"""
SELECT n.id, n.project_id FROM incidents i JOIN integrations n ON n.project_id = i.project_id
WHERE i.id = $1 AND n.type = '{SLACK}' AND n.settings->>'team_id' = $2
ORDER BY n.settings->>'channel_id' = $3 DESC, n.id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class PendingConnection:
    """A connection that somebody started: for which project, and in which browser session (None: through the API)."""

    project_id: UUID
    project_name: str
    session_id: UUID | None
    who: UUID | str


async def begin(tx: Tx, vault: Vault, project_id: UUID, who: UUID | str, session_id: UUID | None = None) -> str:
    """A new state: valid once, for ten minutes, and only in that browser session if there is one."""
    state = new_token("")
    user_id, name = (who, None) if isinstance(who, UUID) else (None, who)
    await tx.execute(BEGIN, vault.token_hash(state), project_id, session_id, user_id, name)
    return state


async def begun(tx: Tx, vault: Vault, state: str) -> PendingConnection | None:
    """The connection of that state, locked until the transaction ends; None if it is unknown or expired."""
    row = await tx.fetchrow(BEGUN, vault.token_hashes(state))
    if row is None:
        return None
    return PendingConnection(
        key(row["project_id"]),
        row["project_name"],
        key(row["session_id"]) if row["session_id"] else None,
        key(row["user_id"]) if row["user_id"] else row["who"],
    )


async def use_state(tx: Tx, vault: Vault, state: str) -> None:
    """Invalidate the state."""
    await tx.execute(SPEND, vault.token_hashes(state))


async def of_workspace(tx: Tx, incident_id: UUID, team_id: str, channel_id: str) -> tuple[UUID, UUID] | None:
    """The Slack integration that notifies that workspace of an incident, and its project; None if there is none."""
    row = await tx.fetchrow(OF_WORKSPACE, incident_id, team_id, channel_id)
    return (key(row["id"]), key(row["project_id"])) if row else None
