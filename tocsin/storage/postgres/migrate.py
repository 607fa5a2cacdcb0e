"""Database migrations: numbered SQL files, each applied once, by one process at a time.

Only the session that holds the advisory lock migrates, so any number of machines may start at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path

import asyncpg
import structlog

from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import connecting, pooler, retention
from tocsin.storage.postgres.connecting import SESSION_SETTINGS, NoPrimary, NotPrimary, reason
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.session import LOST, Session

log = structlog.get_logger(__name__)

FILES = Path(__file__).with_name("migrations")
OLDEST_POSTGRESQL = 15
UNREACHABLE = "database_unreachable"
"""The error code if nothing answers."""

LOCK = 0x7063_696E  # any number, as long as it never changes
PAUSE = 0.1
TRIES = 10
"""Retries of one step that deadlocks with a process that is still running."""
PROMOTION = 60.0
"""Seconds in which one of several standbys must have been promoted, if nothing else answers."""
SETTINGS = {"application_name": "tocsin migrate", **SESSION_SETTINGS}
SILENT = 2.0
"""Seconds of waiting before it is logged."""

# Behind a step that waits for a table, everybody waits who uses that: so it waits in between, with nothing in hand.
NOT_LONG = "SET lock_timeout = '500ms'"
LOCK_PAUSE = 2.0
TAKE_LOCK = "SELECT pg_try_advisory_lock($1)"
GIVE_LOCK = "SELECT pg_advisory_unlock($1)"
TAKE_LOCK_TOGETHER = "SELECT pg_try_advisory_lock_shared($1)"
ANY_RECORD = """
SELECT EXISTS (SELECT FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name = '_pogo_migration' AND column_name = 'schema_name')
"""
APPLIED = "SELECT migration_id FROM public._pogo_migration WHERE schema_name = 'public'"


async def migrate(dsn: str, *, patience: float = 0.0) -> list[str]:
    """Apply what is pending and make the partitions of the coming weeks. Returns what was applied, oldest first.

    Waits up to `patience` seconds for an unavailable database. Raises `Refused` if it stays unavailable, is older than
    PostgreSQL 15, or belongs to a newer version of Tocsin.
    """
    deadline = time.monotonic() + patience
    while True:
        connection = await reach(dsn, max(deadline - time.monotonic(), 0.0))
        try:
            return await _migrate(connection)
        except LOST as error:  # each step is recorded with what it does: what is not is done again
            if not connection.is_closed():
                raise
            if time.monotonic() >= deadline:
                raise _unreachable(error) from error
            log.warning("Database lost while it was migrated; going on when it is back", error=said(error))
        finally:
            connection.terminate()
        await asyncio.sleep(PAUSE)


async def _migrate(connection: Session) -> list[str]:
    async with asyncio.timeout(connecting.HOST_TIMEOUT):
        await connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
    await _lock(connection, TAKE_LOCK)
    await connection.execute(NOT_LONG)
    pending = await _pending(connection)
    if pending:
        if len(pending) < len(known()):
            log.warning("The database is of an older version; migrating it", steps=", ".join(pending))
        await apply(connection, pending)
    await retention.ensure_partitions(connection)
    await connection.fetchval(GIVE_LOCK, LOCK)
    return pending


async def is_current(dsn: str) -> bool:
    """Whether nothing is pending. Raises as `migrate` does."""
    connection = await reach(dsn, 0.0)
    try:
        async with asyncio.timeout(connecting.HOST_TIMEOUT):
            return not await _pending(connection)
    except LOST as error:
        raise _unreachable(error) from error
    finally:
        connection.terminate()


async def wait_until_current(dsn: str, patience: float = 60.0) -> None:
    """Wait for the database for as long as it is unavailable, then up to `patience` seconds for its migration."""
    deadline = None
    while True:
        connection = await reach(dsn, float("inf"))
        try:
            # Held by the migrating process, until the partitions exist too.
            await _lock(connection, TAKE_LOCK_TOGETHER)
            async with asyncio.timeout(connecting.HOST_TIMEOUT):
                if not await _pending(connection):
                    return
        except UNAVAILABLE as error:
            log.warning("Database lost; waiting for it", error=said(error))
            await asyncio.sleep(PAUSE)
            continue
        finally:
            connection.terminate()
        if deadline is None:
            deadline = time.monotonic() + patience
            log.info("Waiting for migrations to be applied")
        if time.monotonic() > deadline:
            raise Refused(503, "database_outdated", "Migrations are pending; run: tocsin migrate")
        await asyncio.sleep(PAUSE)


async def _lock(connection: Session, take: str) -> None:
    """However long another one holds it; but a server that does not answer is not waited for."""
    while True:
        async with asyncio.timeout(connecting.HOST_TIMEOUT):
            if await connection.fetchval(take, LOCK):
                return
        await asyncio.sleep(PAUSE)


async def reach(dsn: str, patience: float) -> Session:
    """A connection of its own, outside any pool. Waits up to `patience` seconds while the database is unavailable.

    Raises `Unusable` for an address that cannot be one, `Refused` if the database stays unavailable, rejects the login
    or is too old.
    """
    began = time.monotonic()
    logged = False
    while True:
        try:
            return await _usable(dsn)
        except (asyncpg.exceptions.ClientConfigurationError, ValueError) as error:
            raise Unusable("TOCSIN_DATABASE_URL", f"cannot be used ({error})") from error
        except asyncpg.ProtocolViolationError as error:
            raise pooler.refused_setting(error) from error
        except UNAVAILABLE as error:
            waited = time.monotonic() - began
            if waited >= (min(patience, PROMOTION) if only_standbys(error) else patience):
                raise _unreachable(error) from error
            if waited > SILENT and not logged:
                logged = True
                log.warning("Database unavailable; waiting for it", error=said(error))
            await asyncio.sleep(min(PAUSE + waited / 10, 2.0))
        except asyncpg.PostgresError as error:
            raise _away(f"The database rejected the login: {reason(error)}; see TOCSIN_DATABASE_URL") from error


async def _usable(dsn: str) -> Session:
    """A connection that answers, with a server that is new enough, and no pooler between that is of no use."""
    connection = await connecting.connect(dsn, newest={}, server_settings=SETTINGS)
    try:
        version = connection.get_server_version()
        if version.major < OLDEST_POSTGRESQL:
            raise _away(f"The database is PostgreSQL {version.major}; Tocsin needs {OLDEST_POSTGRESQL} or newer")
        await pooler.check(dsn, connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


def only_standbys(error: BaseException) -> bool:
    """Whether all that answers are standbys: then no primary is away, there may be none."""
    return isinstance(error, NotPrimary) or (isinstance(error, NoPrimary) and error.standbys_only)


def said(error: BaseException) -> str:
    """Why there is no session, in one line."""
    if isinstance(error, NotPrimary):
        return f"it {error}, and Tocsin writes: name the primary, or all hosts of the cluster, in TOCSIN_DATABASE_URL"
    if isinstance(error, NoPrimary):
        return f"none of its hosts is a primary: {error}"
    return reason(error)


async def _pending(connection: asyncpg.Connection) -> list[str]:
    done = {row["migration_id"] for row in await connection.fetch(APPLIED)} if await _any_record(connection) else set()
    if newer := sorted(done - set(known())):
        raise _away(f"The database belongs to a newer version of Tocsin (it has {newer[-1]}); install that version")
    return [name for name in known() if name not in done]


def known() -> list[str]:
    """The migrations of this version, by their numbers."""
    return sorted(path.stem for path in FILES.glob("*.sql"))


async def _any_record(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval(ANY_RECORD))


async def apply(connection: asyncpg.Connection, names: Collection[str]) -> None:
    """Apply those of these that have not been, in the order of their numbers, each in a transaction of its own.

    The runner's own order is only topological.
    """
    from pogo_core.error import BadMigrationError  # with its SQL parser too heavy for a start that applies nothing
    from pogo_core.util import migrate as runner
    from pogo_core.util import sql

    await sql.ensure_pogo_sync(connection)
    found = await sql.read_migrations(FILES, connection, schema_name="public")
    for each in sorted(found, key=lambda migration: migration.id):
        if each.applied or each.id not in names:
            continue
        log.debug("Applying %s", each.id)
        left, logged = TRIES, False
        while True:
            try:
                async with runner.transaction(connection, each.load()):
                    await each.apply(connection)
                    await sql.migration_applied(connection, each.id, each.hash, schema_name="public")
                break
            except asyncpg.LockNotAvailableError:
                if not logged:
                    log.warning("Waiting for tables that others use, such as a backup", step=each.id)
                logged = True
                await asyncio.sleep(LOCK_PAUSE)
            except (BadMigrationError, asyncpg.PostgresError, *UNAVAILABLE) as error:
                if isinstance(error, asyncpg.DeadlockDetectedError):
                    left -= 1
                    if left:
                        continue
                elif isinstance(error, UNAVAILABLE):
                    raise
                problem = f"Failed to apply {each.id}: {reason(error)}"
                raise _away(f"The migrations could not be applied: {problem}") from error


def _unreachable(error: BaseException) -> Refused:
    return Refused(503, UNREACHABLE, f"The database cannot be reached: {said(error)}")


def _away(message: str) -> Refused:
    return Refused(503, "database_unavailable", message)
