"""Who follows the primary, how far behind, and what would be lost with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.storage.postgres.database import Tx

STANDBYS = """
SELECT coalesce(nullif(application_name, ''), 'standby') AS name, state,
       coalesce(sync_state IN ('sync', 'quorum'), false) AS synchronous,
       greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint AS bytes,
       coalesce(extract(epoch FROM replay_lag), 0)::float8 AS seconds
FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY 1
"""

SETTINGS = """
SELECT pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS shown, current_user AS role,
       current_setting('synchronous_commit') AS commits
"""

WAITING = ("on", "remote_write", "remote_apply")
"""Values of `synchronous_commit` with which a commit waits for a synchronous standby."""


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

    def warnings(self, hosts: int) -> list[str]:
        """What can be lost, in words; `hosts` are named in the database's address."""
        if hosts < 2 and not self.standbys:
            return []  # one database alone, as its operator meant it
        if self.hidden is not None:
            return [f"what follows the primary is hidden from us; there, run: GRANT pg_monitor TO {self.hidden}"]
        if not self.standbys:
            return ["no standby follows the primary: with it, everything would be lost"]
        if not self.waits:
            return [f"synchronous_commit is off or local: {LAST}"]
        if not self.synchronous:
            furthest = max(each.behind_seconds for each in self.standbys)
            return [f"replication is asynchronous ({furthest:.1f} s behind at present): {LAST}; {REMEDY}"]
        return []


LAST = "what was accepted last would be lost with the primary, and restarts be made twice"
REMEDY = "set synchronous_standby_names, or Patroni's synchronous_mode"


async def read(tx: Tx) -> Replication:
    """To be asked on the primary."""
    settings = await tx.fetchrow(SETTINGS)
    standbys = [
        Standby(row["name"], row["synchronous"], row["bytes"], row["seconds"]) for row in await tx.fetch(STANDBYS)
    ]
    return Replication(standbys, settings["commits"] in WAITING, None if settings["shown"] else settings["role"])


def in_words(replication: Replication) -> str:
    """Who follows, in one line."""
    if not replication.standbys:
        return "none"
    return ", ".join(
        f"{each.name} ({'synchronous' if each.synchronous else 'asynchronous'}, {each.behind_seconds:.1f} s behind)"
        for each in replication.standbys
    )
