"""Poolers such as pgbouncer between us and PostgreSQL: sessions must be ours for as long as they last.

Prepared statements, LISTEN and session locks belong to a session. A pooler that lends one for a transaction at a time
breaks them, and most of the time only under load: so it is found out, and refused, at the start.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import asyncpg

from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import connecting
from tocsin.storage.postgres.connecting import SESSION_SETTINGS
from tocsin.storage.postgres.session import Session

ROUNDS = 4
"""How often two sessions take turns: a pooler with idle sessions of its own may lend another one at first."""
OWN_PID = "SELECT pg_backend_pid()"
NAME = "TOCSIN_DATABASE_URL"


async def check(dsn: str, session: Session) -> None:
    """Raises `Unusable` behind a pooler that lends sessions for less than their life."""
    try:
        if not await stands_before(session):
            return
        first = await _pid(session)
        try:
            other = await connecting.connect(dsn)
            await stands_before(other)
        except TimeoutError:
            if await _pid(session) == first:  # it answers, and has no room for two
                raise _for_one() from None
            raise
        try:
            for _ in range(ROUNDS):
                async with other.transaction():
                    if await other.fetchval(OWN_PID, timeout=connecting.HOST_TIMEOUT) == first:
                        raise _by_transaction()
                    if await _pid(session) != first:
                        raise _by_transaction()
        finally:
            other.terminate()
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError) as error:
        raise _by_transaction() from error


async def stands_before(session: Session) -> bool:
    """Whether there is a pooler between: it gives out numbers of its own."""
    return int(session.get_server_pid()) != await _pid(session)


async def apply(session: Session, settings: Mapping[str, str]) -> None:
    """Make these the session's settings: a pooler passes on few of those that come with a connection."""
    await session.execute(";".join(f"SET {name} = '{value}'" for name, value in settings.items() if "'" not in value))


async def _pid(session: Session) -> int:
    async with asyncio.timeout(connecting.HOST_TIMEOUT), session.transaction():
        return int(await session.fetchval(OWN_PID))


def refused_setting(error: asyncpg.PostgresError) -> Unusable:
    """What to do about a pooler that does not know a setting of ours."""
    given = " ".join(str(error).split())
    if re.search("startup parameter", given) is None:
        return Unusable(NAME, f"cannot be used ({given})")
    wanted = ",".join(name for name in SESSION_SETTINGS if name != "timezone")
    return Unusable(NAME, f"leads to a pgbouncer that refuses our settings; in pgbouncer.ini, set "
                          f"ignore_startup_parameters = {wanted}, and pool_mode = session ({given})")  # fmt: skip


def _for_one() -> Unusable:
    return Unusable(
        NAME,
        "leads to a pooler that lends one session at a time; raise default_pool_size in pgbouncer.ini, or name "
        "PostgreSQL itself",
    )


def _by_transaction() -> Unusable:
    return Unusable(
        NAME,
        "leads to a pooler that lends sessions for one transaction; set pool_mode = session in pgbouncer.ini, or name "
        "PostgreSQL itself",
    )
