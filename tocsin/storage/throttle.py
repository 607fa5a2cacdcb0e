"""Limits on how often something may be tried, shared by all processes: so many at once, given back evenly."""

from __future__ import annotations

import hashlib

from tocsin.storage.database import Tx

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


async def take(tx: Tx, subject: str, *, limit: int, per: float) -> float:
    """Seconds to wait before trying again, or 0 where this try is within `limit` tries in `per` seconds.

    A try that is refused does not count. The caller commits, whatever comes of the try.
    """
    key = _key(subject)
    if await tx.fetchval(TAKE, key, per, limit):
        return 0.0
    return max(1.0, await tx.fetchval(WAIT, key, per, limit) or 0.0)


async def give_back(tx: Tx, subject: str) -> None:
    """Forget what was taken: the tries turned out to be good ones."""
    await tx.execute(GIVE_BACK, _key(subject))


def _key(subject: str) -> bytes:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()
