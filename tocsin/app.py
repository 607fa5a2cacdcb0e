"""Composition: from settings to something that runs. The heavy parts are loaded only by the process that needs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tocsin.domain.settings import Unusable
from tocsin.settings import Settings
from tocsin.storage.postgres import embedded

if TYPE_CHECKING:
    from tocsin.api.server import Front, OpenService
    from tocsin.api.service import Service

API_CONNECTIONS = 8
"""Connections per API process: more gain nothing, because callers share commits."""

URL_FILE = "url"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000


def dsn(settings: Settings) -> str:
    """The address of the database: the user's own, or the embedded one of the data folder, whoever started it."""
    return settings.database_url or embedded.dsn_of(settings.data_dir)


def public_url(settings: Settings, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> str:
    """The prefix of links, without a slash at the end."""
    found = settings.found_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
    return settings.public_url or found


def note_url(settings: Settings, url: str) -> None:
    """Store the URL of `tocsin up`, for other commands that put links into mails."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (settings.data_dir / URL_FILE).write_text(f"{url}\n", encoding="utf-8")


def noted_url(settings: Settings) -> str:
    """The prefix of links, for a process that serves no requests itself."""
    file = settings.data_dir / URL_FILE
    return settings.public_url or (file.read_text(encoding="utf-8").strip() if file.exists() else public_url(settings))


def require_keys(settings: Settings) -> None:
    """Raises `Unusable` if there is no key to encrypt secrets with."""
    if settings.secret_keys:
        return
    if settings.database_url:
        raise Unusable("TOCSIN_SECRET_KEYS", "is required with TOCSIN_DATABASE_URL; tocsin secrets new prints a key")
    raise Unusable("TOCSIN_SECRET_KEYS", f"is not set, and {settings.keys_file} is created by: tocsin up")


def api_app(settings: Settings, public_url: str) -> Front:
    """API and pages as one ASGI application, which opens its database when it starts and closes it when it stops.

    Raises `Unusable` without keys.
    """
    require_keys(settings)
    return front(lambda: open_service(settings, public_url))


def front(opening: OpenService) -> Front:
    """API and pages as one ASGI application on what `opening` opens whenever it starts."""
    from tocsin.api import server
    from tocsin.web import site

    return server.build(opening, extra_routes=[*site.routes()], dependencies=site.DEPENDENCIES, as_page=site.refusal)


@asynccontextmanager
async def open_service(settings: Settings, public_url: str) -> AsyncIterator[Service]:
    """What requests are answered with."""
    from tocsin.api.service import Service
    from tocsin.storage.postgres import database
    from tocsin.storage.postgres.primary import Primary
    from tocsin.storage.postgres.secrets import Vault

    vault = Vault(settings.secret_keys)
    primary = Primary(dsn(settings), callers=True)
    pool = await database.pool(primary, size=API_CONNECTIONS, name=f"api, key {vault.key_id}")
    try:
        service = Service(pool=pool, settings=settings, vault=vault, public_url=public_url)
        try:
            yield service
        finally:
            await service.apprise.close()
    finally:
        pool.terminate()


async def wait_until_usable(settings: Settings) -> None:
    """Wait for the database and its migrations. Raises `Refused`, or `Unusable` if its secrets are sealed with other
    keys than ours.
    """
    from tocsin.storage.accounts import rotation
    from tocsin.storage.postgres import connecting, database, migrate
    from tocsin.storage.postgres.secrets import Vault

    await migrate.wait_until_current(dsn(settings))
    while True:
        connection = await migrate.reach(dsn(settings), float("inf"))
        try:
            async with asyncio.timeout(connecting.SOCKET_TIMEOUT):
                return await rotation.require_fitting(connection, Vault(settings.secret_keys))
        except database.UNAVAILABLE:
            await asyncio.sleep(migrate.PAUSE)
        finally:
            connection.terminate()


async def run_engine(settings: Settings, stop: asyncio.Event) -> None:
    """An engine, until `stop` is set; it returns what is in flight to the queue first. Raises `Unusable`."""
    from tocsin.engine import run

    require_keys(settings)
    await run.run(settings, dsn(settings), public_url(settings), stop)
