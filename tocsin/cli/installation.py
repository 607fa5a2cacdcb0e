"""What a command needs to work on an installation, running or not: its database and its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, ParamSpec
from uuid import UUID

import asyncpg
import click

from tocsin import app
from tocsin.cli import logs
from tocsin.domain import ids, inner_loop
from tocsin.settings import Settings
from tocsin.storage.accounts import rotation
from tocsin.storage.postgres import connecting, database, migrate
from tocsin.storage.postgres.secrets import Vault
from tocsin.storage.postgres.session import OutcomeUnknown

Arguments = ParamSpec("Arguments")

CONNECT_TIMEOUT = 10.0


def asynchronous(command: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    """Lets a command be a coroutine. Logs go to standard error, so that standard output has only the result."""

    @wraps(command)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        settings = options.get("settings")
        logs.set_up("command", settings.log_level if isinstance(settings, Settings) else "info")
        asyncio.run(command(*args, **options))

    return run


class Unreachable(click.ClickException):
    """The database cannot be reached. `not_running`: it is the embedded one, and can be started."""

    def __init__(self, message: str, not_running: bool) -> None:
        super().__init__(message)
        self.not_running = not_running


@asynccontextmanager
async def connected(settings: Settings, vault: Vault | None = None) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the installation's database, whoever started it. Raises `click.ClickException`, and `Unusable`
    for a `vault` of another installation.
    """
    try:
        connection = await connecting.connect(app.dsn(settings))
    except (*database.UNAVAILABLE, asyncpg.PostgresError, ValueError) as error:
        raise Unreachable(unreachable(settings, error), not_running(settings, error)) from error
    try:
        await database.prepare(connection)
        if vault is not None:
            await rotation.require_fitting(connection, vault)
        yield connection
    except OutcomeUnknown as error:
        raise click.ClickException(f"Nobody knows whether this was done: {error}. Look before you repeat it") from error
    except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError) as error:
        raise click.ClickException(unreachable(settings, error)) from error
    except asyncpg.UndefinedTableError as error:
        raise click.ClickException("Migrations of the database are pending; run: tocsin migrate") from error
    except asyncio.CancelledError:
        connection.terminate()  # what it waits for there, nobody waits for any more
        raise
    finally:
        await connection.close()


def unreachable(settings: Settings, error: BaseException) -> str:
    """Why the database cannot be reached, and what to do, in one line."""
    if not_running(settings, error):
        return f"The database in {settings.data_dir} is not running; start it with: tocsin up"
    if settings.database_url is None:
        return f"The database in {settings.data_dir} runs, but cannot be used: it {migrate.said(error)}"
    return f"The database of TOCSIN_DATABASE_URL cannot be reached: {migrate.said(error)}"


def not_running(settings: Settings, error: BaseException) -> bool:
    """Whether it is the embedded database, and nobody listens there. One that hangs runs."""
    return settings.database_url is None and isinstance(error, FileNotFoundError | ConnectionRefusedError)


def vault(settings: Settings) -> Vault:
    """Raises `Unusable` if there are no keys yet."""
    app.require_keys(settings)
    return Vault(settings.secret_keys)


def project_id(uuid: str) -> UUID:
    """The key behind the public identifier of somebody's project. Raises `click.ClickException`."""
    found = ids.parse(ids.PROJECT, uuid)
    if found is None or found == inner_loop.PROJECT:
        raise click.ClickException(no_project(uuid))
    return found


def no_project(uuid: str) -> str:
    return f"There is no project {uuid}; list them with: tocsin project list"
