"""Who follows the primary, how far behind, and what would be lost with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.storage.postgres.database import Tx

FOLLOWS = """state IS DISTINCT FROM 'backup' AND application_name IS DISTINCT FROM 'pg_basebackup'
    AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')"""
"""SQL: whether the row `r` of pg_stat_replication follows the primary: no backup under way, and no subscriber."""
SYNCHRONOUS = "coalesce(sync_state IN ('sync', 'quorum'), false)"
SHOWN = "pg_has_role(current_user, 'pg_monitor', 'MEMBER')"
WANTED = "(current_setting('synchronous_standby_names') <> '')"
"""SQL: whether commits wait for a standby where synchronous_commit says so."""

STANDBYS = f"""
SELECT coalesce(nullif(application_name, ''), 'standby') AS name, state,
       {SYNCHRONOUS} AS synchronous,
       greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint AS bytes,
       coalesce(extract(epoch FROM replay_lag), 0)::float8 AS seconds
FROM pg_stat_replication r WHERE {FOLLOWS} ORDER BY 1
"""

SETTINGS = f"""
SELECT {SHOWN} AS shown, current_user AS role,
       current_setting('synchronous_commit') AS commits
"""

WAITING = ("on", "remote_write", "remote_apply")
"""Values of `synchronous_commit` with which a commit waits for a synchronous standby."""

# `remote_write` does not outlive a standby's machine, and the other values wait for none.
AT_LEAST_ON = """
SELECT pg_backend_pid(), CASE WHEN current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
                         THEN set_config('synchronous_commit', 'on', true) END
"""

STOP_WAITING = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE pid = $1 AND usename = current_user AND wait_event = 'SyncRep'
"""

FLUSHED = "SELECT pg_current_wal_flush_lsn()::text"

# A commit's wait also ends when nobody is to be waited for any more, as Patroni decides for a lost standby.
CONFIRMED = f"""
SELECT {WANTED} AND (NOT {SHOWN} OR EXISTS (
    SELECT FROM pg_stat_replication WHERE {SYNCHRONOUS} AND flush_lsn >= $1::text::pg_lsn))
"""
CONFIRMED_WITHIN, LOOK_EVERY = 1.0, 0.05
"""Seconds for which a standby is seen to lag behind what has just been committed, at most; and between two looks."""


@dataclass(frozen=True, slots=True)
class Standby:
    """One that follows. `behind` is in bytes of the log, and in seconds as last measured."""

    name: str
    synchronous: bool
    behind_bytes: int | None
    behind_seconds: float


@dataclass(frozen=True, slots=True)
class Replication:
    """What is known of it. `waits`: commits wait for a synchronous standby; `hidden`: what role may not see all."""

    standbys: Sequence[Standby]
    waits: bool
    hidden: str | None

    @property
    def synchronous(self) -> bool:
        """Whether what is accepted exists on a standby, too, by then."""
        return self.waits and any(each.synchronous for each in self.standbys)

    def warnings(self, hosts: int, *, names: bool = True) -> list[str]:
        """What can be lost, in words; `hosts` are named in the database's address. Without `names`, for everybody."""
        if hosts < 2 and not self.standbys:
            return []  # one database alone, as its operator meant it
        if self.hidden is not None:
            remedy = f"there, run: GRANT pg_monitor TO {self.hidden}" if names else "see tocsin doctor"
            return [f"what follows the primary is hidden from us; {remedy}"]
        if not self.standbys:
            return ["no standby follows the primary: with it, everything would be lost, and restarts are not made"]
        if not any(each.synchronous for each in self.standbys):
            furthest = max(each.behind_seconds for each in self.standbys)
            words = f"replication is asynchronous ({furthest:.1f} s behind at present)"
            return [f"{words}: {LAST}, and restarts are not made; {REMEDY}"]
        if not self.waits:
            return [f"synchronous_commit is off or local: {LAST}"]
        return []


LAST = "what was accepted last would be lost with the primary"
REMEDY = "set synchronous_standby_names, or Patroni's synchronous_mode"


async def read(tx: Tx) -> Replication:
    """To be asked on the primary."""
    settings = await tx.fetchrow(SETTINGS)
    standbys = [
        Standby(row["name"], row["synchronous"], row["bytes"], row["seconds"]) for row in await tx.fetch(STANDBYS)
    ]
    return Replication(standbys, settings["commits"] in WAITING, None if settings["shown"] else settings["role"])


async def wait_for_standby(tx: Tx) -> int:
    """Let the commit of this transaction wait for a synchronous standby, whatever is usual for others. Returns whom to
    stop waiting.
    """
    return int(await tx.fetchval(AT_LEAST_ON))


async def stop_waiting(session: Tx, backend: int) -> None:
    """End a commit's wait for a standby. It is seen here then, and may exist nowhere else: only for what nobody has
    acted upon, nor will. While it waits, whoever needs the same rows waits, too.
    """
    await session.execute(STOP_WAITING, backend)


async def confirmed(session: Tx) -> bool:
    """Whether a synchronous standby has what this session has just committed."""
    flushed = await session.fetchval(FLUSHED)
    for _ in range(round(CONFIRMED_WITHIN / LOOK_EVERY)):
        if await session.fetchval(CONFIRMED, flushed):
            return True
        await asyncio.sleep(LOOK_EVERY)
    return False


def in_words(replication: Replication) -> str:
    """Who follows, in one line."""
    if not replication.standbys:
        return "none"
    return ", ".join(
        f"{each.name} ({'synchronous' if each.synchronous else 'asynchronous'}, {each.behind_seconds:.1f} s behind)"
        for each in replication.standbys
    )
