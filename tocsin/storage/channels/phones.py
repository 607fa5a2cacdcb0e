"""Codes that verify phone numbers, and the delivery reports of SMS providers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from tocsin.storage.delivery import health
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

CODE_MINUTES = 10
CODE_TRIES = 5
CODES_PER_NUMBER, CODES_PER_PROJECT = 5, 20
"""Codes per hour for a number, over all projects, and per day for a project."""

HOLD_NUMBER = "SELECT pg_advisory_xact_lock(hashtextextended('sms number ' || $1::text, 0))"
HOLD_PROJECT = "SELECT pg_advisory_xact_lock(hashtextextended('sms project ' || $1::uuid, 0))"

# Seconds until one more is within the limit; null if it is now.
WAIT = """
SELECT max(wait) FROM (
    (SELECT extract(epoch FROM at + interval '1 hour' - now())::float8 AS wait FROM phone_codes_sent
     WHERE number = $1 AND at > now() - interval '1 hour' ORDER BY at DESC OFFSET $3 - 1 LIMIT 1)
    UNION ALL
    (SELECT extract(epoch FROM at + interval '1 day' - now())::float8 FROM phone_codes_sent
     WHERE project_id = $2 AND at > now() - interval '1 day' ORDER BY at DESC OFFSET $4 - 1 LIMIT 1)
) waits
"""

# Expired rows are deleted in small steps, without waiting for concurrent deletes.
NOTE_SENT = """
WITH old AS (
    DELETE FROM phone_codes_sent WHERE ctid IN (
        SELECT ctid FROM phone_codes_sent WHERE at < now() - interval '1 day' LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO phone_codes_sent (project_id, number, at) VALUES ($1, $2, now())
"""

SET_CODE = f"""
WITH old AS (
    DELETE FROM phone_codes WHERE ctid IN (
        SELECT ctid FROM phone_codes WHERE expires_at < now() AND (project_id, number) <> ($1, $2)
        LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO phone_codes (project_id, number, hash, expires_at, tries_left)
VALUES ($1, $2, $3, now() + interval '{CODE_MINUTES} min', {CODE_TRIES})
ON CONFLICT (project_id, number)
DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at, tries_left = excluded.tries_left
"""

TRY_CODE = """
UPDATE phone_codes SET tries_left = tries_left - 1
WHERE project_id = $1 AND number = $2 AND tries_left > 0 AND expires_at > now()
RETURNING hash = ANY($3::bytea[]) AS good, tries_left
"""

FORGET_CODE = "DELETE FROM phone_codes WHERE project_id = $1 AND number = $2"

PLAN = "SELECT plan FROM projects WHERE id = $1"

# Whichever comes later, the record of the attempt or the report, finds the other. A failure is final: parts of a
# message may be reported one by one.
REPORT = """
WITH old AS (
    DELETE FROM sms_reports WHERE id IN (
        SELECT id FROM sms_reports WHERE at < now() - interval '7 days' AND id <> $1
        LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO sms_reports AS t (id, delivery_id, status_text, error) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE
SET status_text = CASE WHEN t.error IS NULL THEN coalesce(excluded.status_text, t.status_text) ELSE t.status_text END,
    error = coalesce(t.error, excluded.error)
WHERE t.delivery_id = excluded.delivery_id
RETURNING status_text, error
"""

DELIVERED = """
UPDATE finished
SET attempts = jsonb_set(attempts, ARRAY[(jsonb_array_length(attempts) - 1)::text, 'response'], to_jsonb($2::text))
WHERE id = $1 AND status = 'delivered' AND jsonb_array_length(attempts) > 0
RETURNING integration_id
"""

UNDELIVERED = """
UPDATE finished
SET status = 'dead', reason = $3,
    attempts = jsonb_set(attempts, ARRAY[(jsonb_array_length(attempts) - 1)::text],
                         attempts->-1
                         || jsonb_build_object('outcome', 'failed', 'response', $2::text, 'error', $3::text))
WHERE id = $1 AND status = 'delivered' AND jsonb_array_length(attempts) > 0
RETURNING integration_id
"""


@dataclass(frozen=True, slots=True)
class Wait:
    """No code now; the next one in so many seconds."""

    seconds: float


async def plan(tx: Tx, project_id: UUID) -> str:
    """The project's plan now."""
    found: str | None = await tx.fetchval(PLAN, project_id)
    return found or "free"


async def new_code(tx: Tx, vault: Vault, project_id: UUID, number: str) -> str | Wait:
    """Six digits for a number, replacing earlier ones; valid for 10 minutes, 5 attempts, and once.

    At most 5 an hour for a number, over all projects, and 20 a day for a project; whether they arrive does not matter.
    """
    await hold(tx, project_id, number)
    wait = await tx.fetchval(WAIT, number, project_id, CODES_PER_NUMBER, CODES_PER_PROJECT)
    if wait is not None:
        return Wait(max(1.0, wait))
    code = f"{secrets.randbelow(1_000_000):06}"
    await tx.execute(NOTE_SENT, project_id, number)
    await tx.execute(SET_CODE, project_id, number, _hashes(vault, project_id, number, code)[0])
    return code


async def forget_code(tx: Tx, project_id: UUID, number: str) -> None:
    """Invalidate the code."""
    await tx.execute(FORGET_CODE, project_id, number)


async def redeem(tx: Tx, vault: Vault, project_id: UUID, number: str, code: str) -> Literal["right", "wrong", "none"]:
    """Use one of the code's attempts; the right code is used up. `none`: there is no code that could be right.

    The caller commits, whatever the outcome.
    """
    row = await tx.fetchrow(TRY_CODE, project_id, number, _hashes(vault, project_id, number, code))
    if row is None:
        return "none"
    if row["good"] or not row["tries_left"]:
        await forget_code(tx, project_id, number)
    return "right" if row["good"] else "wrong"


async def hold(tx: Tx, project_id: UUID, number: str) -> None:
    """Lock the counts of what is sent to this number, and by this project, until the transaction ends."""
    await tx.execute(HOLD_NUMBER, number)
    await tx.execute(HOLD_PROJECT, project_id)


async def record_report(tx: Tx, message_id: str, delivery_id: UUID, status_text: str | None, error: str | None) -> None:
    """Record what is known about a message with its delivery: called when the result is recorded, and for each report.

    `status_text` is None if the provider has reported nothing yet. A delivery that failed after all is dead.
    """
    report = await tx.fetchrow(REPORT, message_id, delivery_id, status_text, error)
    if report is None or report["status_text"] is None:
        return
    if report["error"] is None:
        await tx.execute(DELIVERED, delivery_id, report["status_text"])
        return
    failed = await tx.fetchval(UNDELIVERED, delivery_id, report["status_text"], report["error"])
    if failed is not None:
        await health.record_results(tx, {}, {failed: 1})


def _hashes(vault: Vault, project_id: UUID, number: str, code: str) -> Sequence[bytes]:
    return vault.token_hashes(f"code {project_id} {number} {code}")
