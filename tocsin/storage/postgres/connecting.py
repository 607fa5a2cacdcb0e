"""The one place that makes sessions: all hosts of an address are asked side by side, and the one that is writable wins.

As libpq and pgx understand `target_session_attrs`, but neither one after the other nor with one deadline for all:
a host that vanished costs nothing while another one answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from tocsin.domain.database_hosts import NAME, Host, hosts_of
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres.session import LOST, Session

HOST_TIMEOUT = 3.0
"""Seconds in which a host must have let us in."""
SOCKET_TIMEOUT = 10.0
"""The same for a socket on this machine: if it is slow, so is everything."""
HEAD_START = 0.3
"""Seconds that the host which was good last is asked before the others are, too."""

SESSION_SETTINGS = {"timezone": "UTC", "jit": "off", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
"""Settings of every session. Statements are planned once, not for the values of each call: planning took longer than
running them. A queue is empty most of the time, and a plan that was made then (read all of nothing) stays while
thousands come in: so index scans are forced. tests/storage/delivery/test_plans.py checks the hot
statements for that.
"""

CLUSTER = "(SELECT system_identifier FROM pg_control_system())"
TIMELINE_NUMBER = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int"
"""SQL: which cluster it is, and on which timeline. That of pg_control_checkpoint() is the old one until the first
checkpoint after a promotion has ended, which takes minutes where there is much to write.
"""

TIMELINE = f"SELECT {CLUSTER} AS cluster, {TIMELINE_NUMBER} AS timeline"


class NotPrimary(ConnectionError):
    """A host answers, but nothing can be written there."""


class Foreign(NotPrimary):
    """What can be written there belongs to another cluster."""


class NoPrimary(ConnectionError):
    """None of the hosts takes anything: `said` has each one's reason. `standbys_only`: all that answer are standbys."""

    def __init__(self, said: Mapping[Host, BaseException]) -> None:
        self.said = dict(said)
        self.standbys_only = any(isinstance(error, NotPrimary) for error in said.values())
        super().__init__("; ".join(f"{host} {reason(error)}" for host, error in said.items()))


Newest = dict[int, int]
"""The newest timeline that was seen of a cluster: no session goes back behind it, to a primary that was replaced."""


async def connect(
    url: str, *, hosts: Sequence[Host] | None = None, first: Host | None = None, newest: Newest | None = None,
    **options: Any,
) -> Session:  # fmt: skip
    """A session with the primary. `options` are the driver's.

    Who has seen none yet (`newest` is empty) also hears those that answer soon after the first, and takes the one that
    was promoted last. Raises `NotPrimary`, `NoPrimary` or the driver's errors; `Unusable` for an address that names no
    host to ask, or hosts of two clusters.
    """
    hosts = hosts_of(url) if hosts is None else hosts
    if len(hosts) < 2:
        return await ask(url, hosts[0] if hosts else None, **options)
    fresh = newest is not None and not newest
    go = asyncio.Event()
    if first not in hosts:
        go.set()

    async def in_turn(host: Host) -> Session:
        if host != first:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEAD_START):
                    await go.wait()
        return await ask(url, host, one_of_several=True, newest=newest, **options)

    asked = {asyncio.create_task(in_turn(host)): host for host in hosts}
    said: dict[Host, BaseException] = {}
    won: list[Session] = []
    waiting = set(asked)
    winner: Session | None = None
    try:
        while waiting and not won:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if fresh and waiting and any(each.exception() is None for each in done):
                later, waiting = await asyncio.wait(waiting, timeout=HEAD_START)
                done |= later
            for each in done:
                if (error := each.exception()) is not None:
                    said[asked[each]] = error
                    go.set()
                else:
                    won.append(each.result())
        if fresh and won and any(isinstance(error, Foreign) for error in said.values()):
            foreign = ", ".join(str(host) for host, error in said.items() if isinstance(error, Foreign))
            raise Unusable(NAME, f"names hosts of two clusters: {won[0].host}, and {foreign}; name those of one")
        winner = max(won, key=lambda each: each.timeline, default=None)
    finally:
        for each in asked:
            if not each.done():
                each.cancel()
            elif each.exception() is None and each.result() is not winner:
                each.result().terminate()
    if winner is not None:
        return winner
    refusals = [error for error in said.values() if not isinstance(error, LOST)]
    if len(refusals) == len(said):
        raise refusals[0]
    raise NoPrimary({host: said[host] for host in hosts})


async def ask(
    url: str, host: Host | None, *, one_of_several: bool = False, newest: Newest | None = None, **options: Any
) -> Session:
    """A session with this host. Raises `NotPrimary` if it cannot write."""
    place = {"host": host.name, "port": host.port} if one_of_several and host is not None else {}
    local = host is None or host.name.startswith("/")
    session: Session = await asyncpg.connect(
        url, **place, target_session_attrs="any", connection_class=Session,
        **{"timeout": SOCKET_TIMEOUT if local else HOST_TIMEOUT, **options},
    )
    try:
        session.host = host
        problem = await _unfit(session, newest)
    except BaseException:
        session.terminate()
        raise
    if problem is not None:
        session.terminate()
        raise NotPrimary(problem)
    return session


async def _unfit(session: Session, newest: Newest | None) -> str | None:
    """Why this session is of no use, if it is none. PostgreSQL says so itself when it lets somebody in. Raises
    `Foreign`.
    """
    settings = session.get_settings()
    standby = getattr(settings, "in_hot_standby", None)
    if standby is None:
        standby = "on" if await session.fetchval("SELECT pg_is_in_recovery()", timeout=HOST_TIMEOUT) else "off"
    if standby == "on":
        return "is a standby"
    if getattr(settings, "default_transaction_read_only", "off") == "on":
        return "is read-only (default_transaction_read_only)"
    if newest is None:
        return None
    try:
        row = await session.fetchrow(TIMELINE, timeout=HOST_TIMEOUT)
    except asyncpg.InsufficientPrivilegeError:
        return None
    if newest and row["cluster"] not in newest:
        raise Foreign("is writable, but belongs to another cluster")
    seen = newest.get(row["cluster"], 0)
    if row["timeline"] < seen:
        return f"was the primary before another took over (timeline {row['timeline']}, and {seen} was seen)"
    newest[row["cluster"]] = session.timeline = row["timeline"]
    return None


def reason(error: BaseException) -> str:
    """Why a host is of no use, to follow its name."""
    if isinstance(error, NotPrimary):
        return str(error)
    if isinstance(error, TimeoutError):
        return "does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections"
    return " ".join(str(error).split()) or type(error).__name__
