"""Engines that live: each shows it by the time it was last heard of, and by a lock that its death releases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tocsin.storage.postgres.connecting import TIMELINE_NUMBER
from tocsin.storage.postgres.database import Tx

LOCKS = 0x70C51
"""The class of the advisory locks by which engines show that they are alive (pg_advisory_lock(class, number))."""

ALIVE = 10.0
"""Seconds since it was heard of, for which an engine counts as alive."""

REGISTER = "INSERT INTO engines (machine, since) VALUES ($1, now() - make_interval(secs => $2)) RETURNING number"

# Who lives rewrites its time each second: one ahead of now is of a former primary whose clock was, and says nothing.
# Locks do not outlive their server, nor do they travel to a standby: after it began, or was promoted, engines have some
# seconds to come back. A promoted standby began long before that.
DEAD = f"""
SELECT number FROM engines
WHERE seen_at NOT BETWEEN now() - interval '3 s' AND now() + interval '3 s'
  AND pg_postmaster_start_time() < now() - interval '5 s'
  AND EXISTS (SELECT FROM timeline t WHERE t.number = {TIMELINE_NUMBER} AND t.since < now() - interval '10 s')
  AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCKS} AND objid = engines.number
                  AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

LIVING = """
SELECT number, machine, since FROM engines
WHERE seen_at BETWEEN now() - make_interval(secs => $1) AND now() + make_interval(secs => $1) ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """One that lives, where, and since when."""

    number: int
    machine: str
    since: datetime


async def register(tx: Tx, number: int | None, machine: str, age: float) -> int:
    """Register an engine by its listening session: under its old number if that still exists, or a new one.

    `age` is for how many seconds it has run.
    """
    known = number and await tx.fetchval("SELECT number FROM engines WHERE number = $1 FOR UPDATE", number)
    number = int(known or await tx.fetchval(REGISTER, machine, age))
    await tx.execute("SELECT pg_advisory_lock($1, $2)", LOCKS, number)
    return number


async def heartbeat(tx: Tx, number: int, *, accepting: bool) -> None:
    """Record that the engine is alive, and whether it accepts hand-offs."""
    await tx.execute("UPDATE engines SET seen_at = now(), accepting = $2 WHERE number = $1", number, accepting)


async def unregister(tx: Tx, number: int) -> None:
    """Remove an engine, once it has returned all leases."""
    await tx.execute("DELETE FROM engines WHERE number = $1", number)


async def dead(tx: Tx) -> list[int]:
    """Those that ended without having returned their leases."""
    return [row["number"] for row in await tx.fetch(DEAD)]


async def forget(tx: Tx, numbers: list[int]) -> None:
    """Remove dead ones, once their leases are taken back."""
    await tx.execute("DELETE FROM engines WHERE number = ANY($1::int[])", numbers)


async def living(tx: Tx, within: float = ALIVE) -> list[Engine]:
    """Those that were heard of in the last seconds."""
    return [Engine(**row) for row in await tx.fetch(LIVING, within)]
