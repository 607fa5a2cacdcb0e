"""Rate limits (token buckets), shared by all processes: a burst, then an even refill."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tocsin.storage.postgres.database import Tx

TAKE = """
WITH old AS (
    DELETE FROM throttles WHERE subject IN (
        SELECT subject FROM throttles WHERE free_again < now() AND subject <> $1 LIMIT 10 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO throttles AS t (subject, free_again) VALUES ($1, now() + $2::float8 / $3 * interval '1 s')
ON CONFLICT (subject) DO UPDATE SET free_again = greatest(t.free_again, now()) + $2::float8 / $3 * interval '1 s'
WHERE greatest(t.free_again, now()) + $2::float8 / $3 * interval '1 s' <= now() + $2::float8 * interval '1 s'
RETURNING true
"""

WAIT = """
SELECT extract(epoch FROM free_again - now())::float8 - $2::float8 * (1 - 1.0 / $3) FROM throttles WHERE subject = $1
"""

GIVE_BACK = "DELETE FROM throttles WHERE subject = $1"
REFUND = "UPDATE throttles SET free_again = free_again - $2::float8 / $3 * interval '1 s' WHERE subject = $1"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts at once, and as many again within so many seconds."""

    tries: int
    seconds: float


async def take(tx: Tx, subject: str, limit: Limit) -> float:
    """Seconds to wait before trying again, or 0 if this attempt is within the limit.

    A refused attempt does not count. The caller commits, whatever the outcome of the attempt.
    """
    key = _key(subject)
    if await tx.fetchval(TAKE, key, limit.seconds, limit.tries):
        return 0.0
    return max(1.0, await tx.fetchval(WAIT, key, limit.seconds, limit.tries) or 0.0)


async def give_back(tx: Tx, subject: str) -> None:
    """Reset the limit: the attempts turned out to be legitimate."""
    await tx.execute(GIVE_BACK, _key(subject))


async def refund(tx: Tx, subject: str, limit: Limit) -> None:
    """Take back the last counted attempt."""
    await tx.execute(REFUND, _key(subject), limit.seconds, limit.tries)


def _key(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()
