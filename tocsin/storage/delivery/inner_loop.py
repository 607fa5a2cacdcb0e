"""The inner loop's rounds: one row says how far the latest one is, so that any engine carries it on.

A round opens an incident, waits until that is delivered, resolves it, and waits until that is delivered: through the
statements that everybody's incidents go through.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.domain import inner_loop as inner
from tocsin.domain.incidents import Opened, OpenRequest, ResolveRequest
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.delivery import incidents, openings
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.retention import first_key
from tocsin.storage.postgres.secrets import Vault, new_token

MESSAGE = "Nothing is wrong: this shows that incidents are opened, delivered and resolved."
RESOLVED_BY = "the inner loop"

PREPARED = """
SELECT EXISTS (SELECT FROM attachments a JOIN integrations i ON i.id = a.integration_id
               WHERE a.resource_id = $1 AND i.id = $2 AND i.sealed IS NOT NULL)
"""
PROJECT = """
INSERT INTO projects (id, name, plan, token_hash, token_sealed) VALUES ($1, $2, 'free', $3, $4) ON CONFLICT DO NOTHING
"""
RESOURCE = """
INSERT INTO servers (id, project_id, motherboard_id, hostname, agent_version, alerts) VALUES ($1, $2, '', $3, '', '{}')
ON CONFLICT DO NOTHING
"""
INTEGRATION = """
INSERT INTO integrations (id, project_id, type, settings, sealed, for_people, repeatable)
VALUES ($1, $2, $3, $4, $5, false, true)
ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed, version = integrations.version + 1
WHERE integrations.sealed IS NULL
"""
ATTACHMENT = "INSERT INTO attachments (resource_id, integration_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"

# The first round is one interval after the first look: what lives shorter need not know.
THERE = "INSERT INTO inner_loop DEFAULT VALUES ON CONFLICT DO NOTHING"
# What is later than now was told by another clock: that of a primary that was replaced.
LOCKED = """
SELECT incident_id, resolving, now() - began_at >= make_interval(secs => $1) OR began_at > now() AS due,
       now() - began_at >= make_interval(secs => $2) OR began_at > now() AS stuck
FROM inner_loop WHERE only_row FOR UPDATE SKIP LOCKED
"""
BEGIN = "UPDATE inner_loop SET began_at = now(), incident_id = $1, resolving = false WHERE only_row"
RESOLVING = "UPDATE inner_loop SET resolving = true WHERE only_row"
GIVE_UP = "UPDATE inner_loop SET incident_id = NULL WHERE only_row"
WORKED = "UPDATE inner_loop SET incident_id = NULL, worked_at = $1, took = $2 WHERE only_row"

DELIVERED = """
SELECT event, finished_at, extract(epoch FROM finished_at - created_at)::float8 AS took
FROM finished WHERE incident_id = $1 AND integration_id = $2 AND status = 'delivered'
"""
FORGET_DELIVERIES = "DELETE FROM finished WHERE integration_id = $1 AND id < $2"
FORGET_INCIDENTS = "DELETE FROM incidents WHERE project_id = $1 AND id < $2 AND closed_at IS NOT NULL"

# An API process must be there too: who cannot report is not watched.
CALL = """
UPDATE inner_loop SET called_at = now()
WHERE only_row AND now() - worked_at <= make_interval(secs => $1) AND worked_at <= now() + interval '2 s'
  AND (called_at IS NULL OR now() - called_at >= make_interval(secs => $2) OR called_at > now())
  AND EXISTS (SELECT FROM api_heartbeat WHERE only_row AND abs(extract(epoch FROM now() - seen_at)) <= 10)
RETURNING true
"""
CALLED = "UPDATE inner_loop SET call_problem = $1 WHERE only_row AND call_problem IS DISTINCT FROM $1"

STATE = """
SELECT worked_at, extract(epoch FROM now() - worked_at)::float8 AS ago, took, call_problem,
       extract(epoch FROM now() - called_at)::float8 AS called_ago
FROM inner_loop WHERE only_row
"""

TRIED_FOR = """
SELECT extract(epoch FROM now() - least(began_at, (SELECT created_at FROM projects WHERE id = $1)))::float8
FROM inner_loop WHERE only_row
"""


@dataclass(frozen=True, slots=True)
class State:
    """When the loop last went through, how many seconds ago, and how many seconds it took; None before it did.

    `call_problem` is why the call that says so was not taken, and `called_ago` how many seconds ago that was made.
    """

    worked_at: datetime | None = None
    ago: float | None = None
    took: float | None = None
    call_problem: str | None = None
    called_ago: float | None = None


async def advance(tx: Tx, vault: Vault, every: float, *, public_url: str) -> None:
    """Carry the round under way one step on, or begin one if one is due, unless another engine is at it."""
    row = await tx.fetchrow(LOCKED, every, every * inner.ROUNDS)
    if row is None:
        await tx.execute(THERE)
    elif row["incident_id"] is None:
        if row["due"]:
            await _begin(tx, vault, public_url)
    else:
        await _carry_on(tx, key(row["incident_id"]), row["resolving"], row["stuck"])


async def may_call(tx: Tx, every: float, tolerance: float) -> bool:
    """Whether somebody is to be told now that all works: it does, and the last call was `every` seconds ago, give or
    take the `tolerance`. Then it is this caller who tells.
    """
    return bool(await tx.fetchval(CALL, every * inner.ROUNDS, every - tolerance))


async def called(tx: Tx, problem: str | None) -> None:
    """What became of the call."""
    await tx.execute(CALLED, problem)


async def state(tx: Tx) -> State:
    row = await tx.fetchrow(STATE)
    return State() if row is None else State(**row)


async def tried_for(tx: Tx) -> float | None:
    """Seconds since an engine first looked after it; None if none ever has."""
    found: float | None = await tx.fetchval(TRIED_FOR, inner.PROJECT)
    return found


async def _begin(tx: Tx, vault: Vault, public_url: str) -> None:
    await _prepare(tx, vault)
    await incidents.resolve(tx, [_end()])  # of a round that was given up
    request = OpenRequest(inner.PROJECT, SERVER.type, inner.SERVER, inner.INCIDENT_TYPE, MESSAGE)
    [answer] = await openings.open(tx, [request], public_url=public_url)
    if isinstance(answer, Opened):
        await tx.execute(BEGIN, answer.incident.id)


async def _carry_on(tx: Tx, incident_id: UUID, resolving: bool, stuck: bool) -> None:
    delivered = {row["event"]: row for row in await tx.fetch(DELIVERED, incident_id, inner.INTEGRATION)}
    if resolving and delivered.keys() >= {"opened", "resolved"}:
        at = delivered["resolved"]["finished_at"]
        await tx.execute(WORKED, at, delivered["opened"]["took"] + delivered["resolved"]["took"])
        oldest = first_key(at - inner.KEPT)
        await tx.execute(FORGET_DELIVERIES, inner.INTEGRATION, oldest)
        await tx.execute(FORGET_INCIDENTS, inner.PROJECT, oldest)
    elif not resolving and "opened" in delivered:
        await incidents.resolve(tx, [_end()])
        await tx.execute(RESOLVING)
    elif stuck:
        await tx.execute(GIVE_UP)


def _end() -> ResolveRequest:
    return ResolveRequest(inner.PROJECT, inner.SERVER, inner.INCIDENT_TYPE, RESOLVED_BY)


async def _prepare(tx: Tx, vault: Vault) -> None:
    """Its project, server and integration, if they are not there."""
    if await tx.fetchval(PREPARED, inner.SERVER, inner.INTEGRATION):
        return
    token = new_token("tci_")
    sealed = vault.seal(inner.PROJECT, inner.PROJECT, "api_token", token.encode())
    await tx.execute(PROJECT, inner.PROJECT, inner.NAME, vault.token_hash(token), sealed)
    await tx.execute(RESOURCE, inner.SERVER, inner.PROJECT, inner.NAME)
    secret = {inner.SETTING: new_token("")}
    shown, envelope = vault.split(inner.PROJECT, inner.INTEGRATION, "settings", secret, secret)
    await tx.execute(INTEGRATION, inner.INTEGRATION, inner.PROJECT, inner.INTEGRATION_TYPE, shown, envelope)
    await tx.execute(ATTACHMENT, inner.SERVER, inner.INTEGRATION)
