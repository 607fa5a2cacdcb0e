"""The service that tests speak to: an application in this process, or an API and an engine as real processes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.postgres import Postgres
from tests.processes import NO_AUTHORITIES, Process, wait_ready
from tests.receivers import Mailbox
from tests.waiting import PATIENCE
from tocsin import app
from tocsin import settings as configuration
from tocsin.api.server import Front, OpenService
from tocsin.cli.sockets import free_port
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres.secrets import Vault

KEY = "dGVzdHMgb25seTogMzIgYnl0ZXMgb2Ygbm8gc2VjcmU="
"""The key that test databases are sealed with."""

PUBLIC_URL = "http://tocsin.test"
"""Where the API in this process is."""

QUICK = "0.2,0.3,0.4,0.5,0.5,0.5,0.5,0.5,0.5,0.5"
"""A retry schedule that a test can wait for."""

_numbers = itertools.count(1)


async def new_project(pool: asyncpg.Pool, vault: Vault, plan: str = "paid", owner_email: str | None = None) -> Any:
    async with pool.acquire(timeout=PATIENCE) as tx, tx.transaction():
        return await accounts.create_project(tx, vault, f"Project {next(_numbers)}", plan, owner_email)


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """An ASGI application between its startup and its shutdown, as a server would run it."""
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.create_task(app(scope, incoming.get, outgoing.put))

    async def say(event: str) -> None:
        await incoming.put({"type": f"lifespan.{event}"})
        answer = asyncio.create_task(outgoing.get())
        await asyncio.wait({answer, task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await task
            raise AssertionError(f"the application ended at {event}")
        assert answer.result()["type"] == f"lifespan.{event}.complete", answer.result()

    await say("startup")
    try:
        yield
    finally:
        await say("shutdown")
        await task


_fronts: list[Front] = []
"""Applications that do not run. To build one takes most of a second, and it knows nothing of whom it answered."""
_opening: dict[Front, OpenService] = {}


@asynccontextmanager
async def in_this_process(settings: Settings, url: str = PUBLIC_URL) -> AsyncIterator[Front]:
    """The API and the pages in this very process, running: fast, and without an engine."""
    app.require_keys(settings)
    front = _fronts.pop() if _fronts else _new_front()
    _opening[front] = lambda: app.open_service(settings, url)
    async with running(front):
        yield front
    _fronts.append(front)


def _new_front() -> Front:
    front = app.front(lambda: _opening[front]())
    return front


def authorized(url: str, token: str, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE, trust_env=False,
        verify=NO_AUTHORITIES, **options,
    )  # fmt: skip


@dataclass
class Service:
    """An API and an engine as real processes on a database of their own.

    `token` and `project` are of a project made for the test; `start`, `api`, `engine` are for tests that own the
    service (`own_service`), the shared one must be left running.
    """

    url: str
    environ: dict[str, str]
    folder: Path
    api: Process
    engine: Process
    project: Any = None
    more_engines: list[Process] = field(default_factory=list)

    @property
    def token(self) -> str:
        return str(self.project.api_token)

    @property
    def database(self) -> str:
        return self.environ["TOCSIN_DATABASE_URL"]

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        return authorized(self.url, token or self.token)

    async def new_project(self, plan: str = "paid", owner_email: str | None = None) -> Any:
        keys = configuration.load(environ=self.environ).secret_keys
        pool = await storage.pool(self.database, size=1, name="tests")
        try:
            return await new_project(pool, Vault(keys), plan, owner_email)
        finally:
            await pool.close()

    def add_engine(self, **environ: str) -> Process:
        """One more engine on the same database."""
        number = len(self.more_engines) + 2
        log = self.folder / f"engine{number}.log"
        engine = Process("engine", environ={**self.environ, **environ}, log=log).start()
        self.more_engines.append(engine)
        return engine

    def start(self) -> None:
        """Start what does not run, and wait until it works."""
        for process in (self.api, self.engine):
            if not process.alive:
                process.start()
        wait_ready(self.url, process=self.api)

    def stop(self) -> None:
        for process in (self.api, self.engine, *self.more_engines):
            try:
                process.stop()
            finally:
                process.kill()


def service_on(database: str, folder: Path, **environ: str) -> Service:
    """A service that is not started yet. `environ` are settings to add or to change."""
    port = free_port()
    settings = {
        "TOCSIN_ENV": "development",
        "TOCSIN_DATABASE_URL": database,
        "TOCSIN_DATA_DIR": str(folder / "data"),
        "TOCSIN_SECRET_KEYS": KEY,
        "TOCSIN_RETRY_SCHEDULE": QUICK,
        "TOCSIN_TELEGRAM_API_URL": "http://127.0.0.1:1",
        "TOCSIN_RDAP_BOOTSTRAP": "http://127.0.0.1:1",
        "TOCSIN_HEARTBEAT_EVERY": "3600",  # what is counted is the test's own
        **environ,
    }
    return Service(
        url=f"http://127.0.0.1:{port}",
        environ=settings,
        folder=folder,
        api=Process("serve", "--port", str(port), environ=settings, log=folder / "api.log"),
        engine=Process("engine", environ=settings, log=folder / "engine.log"),
    )


@contextmanager
def shared_service(postgres: Postgres, folder: Path, mailbox: Mailbox, **environ: str) -> Iterator[Service]:
    """A service that runs for more than one test."""
    database = asyncio.run(postgres.clone())
    service = service_on(database, folder, **mail_by(mailbox), **environ)
    try:
        service.start()
        yield service
    finally:
        service.stop()
        asyncio.run(postgres.drop(database))


@asynccontextmanager
async def started(service: Service) -> AsyncIterator[Service]:
    """The service runs in here, with a project of the test's own."""
    try:
        service.start()
        service.project = await service.new_project()
        yield service
    finally:
        service.stop()


def mail_by(mailbox: Mailbox) -> dict[str, str]:
    """The settings that hand mail to it."""
    return {"TOCSIN_SMTP_URL": mailbox.url, "TOCSIN_EMAIL_FROM": "tocsin@example.com"}
