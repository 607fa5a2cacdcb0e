"""What a command that works beside a running installation needs: its settings, its database, its keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec
from uuid import UUID

import asyncpg
import click

from tocsin import app
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.settings import Settings, Unusable, load
from tocsin.storage import database
from tocsin.storage.secrets import Vault

Arguments = ParamSpec("Arguments")

CONNECT_TIMEOUT = 10.0


def settings_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--data-dir`, and hands the command its `settings`."""

    @click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the installation lives.")
    @wraps(command)
    def with_settings(*args: Any, data_dir: Path | None, **options: Any) -> Any:
        try:
            settings = load(data_dir)
        except Unusable as error:
            raise click.UsageError(str(error)) from error
        return command(*args, settings=settings, **options)

    return with_settings


def asynchronous(command: Callable[Arguments, Coroutine[Any, Any, None]]) -> Callable[Arguments, None]:
    """Lets a command be a coroutine; what it is refused with becomes one line on the terminal."""

    @wraps(command)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            asyncio.run(command(*args, **options))
        except Refused as refusal:
            raise click.ClickException(refusal.message) from refusal

    return run


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the installation's database, whoever started it. Raises `click.ClickException`."""
    try:
        connection = await asyncpg.connect(app.dsn(settings), timeout=CONNECT_TIMEOUT)
    except (*database.UNAVAILABLE, asyncpg.PostgresError, ValueError) as error:
        raise click.ClickException(unreachable(settings, error)) from error
    try:
        await database.prepare(connection)
        yield connection
    except asyncpg.UndefinedTableError as error:
        raise click.ClickException("The database is not at this version yet; run: tocsin migrate") from error
    finally:
        await connection.close()


def unreachable(settings: Settings, error: BaseException) -> str:
    """Why there is no database, and what to do, in one line."""
    if settings.database_url is None:
        return f"The database in {settings.data_dir} is not running; start it with: tocsin up"
    words = " ".join(str(error).split()) or type(error).__name__
    return f"The database of TOCSIN_DATABASE_URL cannot be reached: {words}"


def vault(settings: Settings) -> Vault:
    """Raises `click.ClickException` where there are no keys yet."""
    if not settings.secret_keys:
        raise click.ClickException(
            "There are no secret keys yet: tocsin up makes them on its first start, or set TOCSIN_SECRET_KEYS"
        )
    return Vault(settings.secret_keys)


def project_id(uuid: str) -> UUID:
    """The key behind a project's public identifier. Raises `click.ClickException`."""
    found = ids.parse(ids.PROJECT, uuid)
    if found is None:
        raise click.ClickException(no_project(uuid))
    return found


def no_project(uuid: str) -> str:
    return f"There is no project {uuid}; tocsin project list shows those that exist"
