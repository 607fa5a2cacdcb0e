"""What tests are given: a fresh copy of a migrated database each, the service, real far ends."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import hypothesis
import pytest
import pytest_asyncio

from tests.postgres import TEMPLATE, Postgres, of_database
from tests.receivers import Mailbox, Receiver
from tests.service import (
    KEY,
    PUBLIC_URL,
    QUICK,
    Service,
    authorized,
    in_this_process,
    mail_by,
    new_project,
    service_on,
    shared_service,
    started,
)
from tests.slack_server import SlackServer
from tests.slack_workspace import Workspace
from tests.sshd import Machine, Relay, machine
from tests.telegram_server import TelegramServer
from tests.twilio import Twilio
from tocsin import settings as configuration
from tocsin.settings import Settings
from tocsin.storage.postgres import database as storage
from tocsin.storage.postgres import embedded
from tocsin.storage.postgres.migrate import migrate
from tocsin.storage.postgres.secrets import Vault

ROOM = 4 << 30

LONG = (
    "cluster", "cli/test_backup",
    "promises", "api/test_bad_input", "web/test_pages", "engine/test_real_senders", "test_leaks", "test_fuzz",
    "cli/test_demo", "cli/test_up", "api/test_docs", "test_time_by_input", "cli/test_run", "cli/test_probe",
    "cli/test_probes_apart", "cli/test_project", "integrations/test_ssh_guard_rails", "api/test_connection",
    "integrations/test_slack_troubles", "integrations/test_telegram_troubles", "integrations/test_ssh_server_restart",
    "api/test_connection_limits", "storage/postgres/test_embedded", "storage/accounts/test_rotation",
    "storage/accounts/test_passwords", "transports/test_apprise_workers", "web/test_newcomer", "web/test_on_call",
    "web/test_network_monitors", "web/test_webhook_templates", "web/test_apprise", "web/test_overview",
    "web/test_servers", "integrations/test_slack", "engine/test_deliver", "test_house", "transports/test_http",
    "transports/test_smtp", "transports/test_received", "domain/test_boots",
)  # fmt: skip
"""Files and folders whose tests take seconds, most of which they wait. Every worker begins with some of these files, so
that none is alone with one at the end, and while one waits others work.
"""

# What is compiled is kept: else each of the hundreds of processes that tests start compiles everything anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes says something about the machine, and nothing about what is tested.
hypothesis.settings.register_profile("tocsin", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tocsin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    items[:] = _dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The list of which each worker is given an equal part, in order, so that each part begins with long files."""
    count = sum(_place(item) < len(LONG) for item in items)
    files = [[*tests] for _, tests in itertools.groupby(items[:count], key=_dealt_with)]
    hands = [[*itertools.chain(*files[worker::workers])] for worker in range(workers)]
    others = iter(items[count:])
    left = len(items)
    for worker, hand in enumerate(hands):
        hand += itertools.islice(others, max(0, left // (workers - worker) - len(hand)))
        left -= len(hand)
    return [*itertools.chain(*hands), *others]


def _dealt_with(item: pytest.Item) -> Path:
    """A file, or files that share what takes long to start: one worker has all of them."""
    patroni = item.path.with_name("test_patroni.py")
    return patroni if item.path.name.startswith(patroni.stem) else item.path


def _place(item: pytest.Item) -> int:
    return _place_of(item.path)


@functools.cache
def _place_of(file: Path) -> int:
    path = file.relative_to(Path(__file__).parent).with_suffix("")
    return next((place for place, name in enumerate(LONG) if path.is_relative_to(name)), len(LONG))


# ------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole run. What is in it need not outlive the machine, so nothing is flushed to the disk."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-tests-", dir=_memory()))
    running = embedded.start(folder)
    try:
        server = Postgres(running.dsn)
        asyncio.run(
            server.run(
                "ALTER SYSTEM SET fsync = off",
                "ALTER SYSTEM SET full_page_writes = off",
                "ALTER SYSTEM SET max_connections = 300",
                f"CREATE DATABASE {TEMPLATE}",
            )
        )
        asyncio.run(migrate(of_database(server.dsn, TEMPLATE)))
        server.close()
        running.stop()
        running = embedded.start(folder)
        asyncio.run(server.warm())
        yield server
        server.close()
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> Path | None:
    """A folder in memory, if there is one with room: what comes and goes with every test need not reach a disk."""
    folder = Path("/dev/shm")
    with suppress(OSError):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM:
            return folder
    return None


@pytest_asyncio.fixture
async def database(postgres: Postgres) -> AsyncIterator[str]:
    """The address of a migrated, empty database of the test's own."""
    dsn = await postgres.clone()
    yield dsn
    await postgres.drop(dsn)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await storage.pool(database, size=5, name="tests")
    yield pool
    await pool.close()


# ----------------------------------------------------------------------------------------------- settings, accounts


@pytest.fixture
def environ(database: str, tmp_path: Path) -> dict[str, str]:
    """The settings of a test as environment variables; change them before asking for `settings`."""
    return {
        "TOCSIN_ENV": "development",
        "TOCSIN_DATABASE_URL": database,
        "TOCSIN_DATA_DIR": str(tmp_path / "data"),
        "TOCSIN_SECRET_KEYS": KEY,
        "TOCSIN_TELEGRAM_API_URL": "http://127.0.0.1:1",
        "TOCSIN_RDAP_BOOTSTRAP": "http://127.0.0.1:1",
        "TOCSIN_HEARTBEAT_EVERY": "3600",  # what is counted is the test's own
        "TOCSIN_RETRY_SCHEDULE": QUICK,
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return configuration.load(environ=environ)


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault(settings.secret_keys)


@pytest_asyncio.fixture
async def project(pool: asyncpg.Pool, vault: Vault) -> Any:
    """A project on the paid plan, without owner: `.id`, `.api_token`."""
    return await new_project(pool, vault)


# ------------------------------------------------------------------------------------------------- API in the process


@pytest_asyncio.fixture
async def application(settings: Settings) -> AsyncIterator[httpx.ASGITransport]:
    """The way to the API in this very process: fast, and without an engine."""
    async with in_this_process(settings) as front:
        yield httpx.ASGITransport(app=front, raise_app_exceptions=False)


@pytest_asyncio.fixture
async def app_client(application: httpx.ASGITransport, project: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it, signed in as `project`."""
    async with authorized(PUBLIC_URL, project.api_token, transport=application) as client:
        yield client


@pytest_asyncio.fixture
async def visitor(application: httpx.ASGITransport) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it that is not signed in, and follows no redirect by itself."""
    async with httpx.AsyncClient(base_url=PUBLIC_URL, transport=application) as client:
        yield client


# ------------------------------------------------------------------------------------------------------ real processes


@pytest.fixture(scope="session")
def _shared_service(
    postgres: Postgres, _mail_server: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    telegram = TelegramServer()
    with closing(telegram), shared_service(
        postgres, tmp_path_factory.mktemp("service"), _mail_server, TOCSIN_SMS_PROVIDER="outbox",
        TOCSIN_SLACK_CLIENT_ID="1.2", TOCSIN_SLACK_CLIENT_SECRET="of-nothing", TOCSIN_SLACK_SIGNING_SECRET="of-nothing",
        TOCSIN_SLACK_API_URL="http://127.0.0.1:1/", **telegram.environ(),
    ) as service:
        yield service


@pytest_asyncio.fixture
async def service(_shared_service: Service) -> Service:
    """The real service, shared by all tests, with a project of the test's own. Do not stop it."""
    _shared_service.project = await _shared_service.new_project()
    return _shared_service


@pytest_asyncio.fixture
async def own_service(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Service]:
    """A real service of the test's own, started; the test may kill it."""
    async with started(service_on(database, tmp_path, **mail_by(mailbox))) as service:
        yield service


@pytest_asyncio.fixture
async def service_with(database: str, tmp_path: Path, mailbox: Mailbox) -> AsyncIterator[Callable[..., Service]]:
    """Starts a real service of the test's own with these settings."""
    started: list[Service] = []

    def start(**environ: str) -> Service:
        service = service_on(database, tmp_path, **mail_by(mailbox), **environ)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


@pytest_asyncio.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared service, signed in with the test's own project."""
    async with service.client() as client:
        yield client


# ---------------------------------------------------------------------------------------------------------- far ends


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def new_receiver() -> Iterator[Callable[[], Receiver]]:
    """Makes as many receivers as a test needs."""
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture(scope="session")
def _mail_server() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


@pytest.fixture
def mailbox(_mail_server: Mailbox) -> Mailbox:
    """The mail server that the services hand their mail to, empty."""
    _mail_server.forget()
    return _mail_server


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    """Slack, which nobody may ask wrongly."""
    slack = SlackServer()
    yield slack
    slack.close()
    assert not slack.mistakes


@pytest.fixture
def telegram() -> Iterator[TelegramServer]:
    """Telegram, which nobody may ask wrongly."""
    telegram = TelegramServer()
    yield telegram
    telegram.close()
    assert not telegram.mistakes


@pytest.fixture
def workspace(slack: SlackServer) -> Workspace:
    return slack.workspace()


@pytest.fixture
def twilio() -> Iterator[Twilio]:
    """Twilio, which nobody may ask wrongly: a test that does so on purpose takes the `mistakes` away."""
    twilio = Twilio()
    yield twilio
    twilio.close()
    assert not twilio.mistakes


@pytest.fixture
def target() -> Iterator[Machine]:
    """A machine to restart over SSH."""
    made = machine()
    yield made
    made.close()


@pytest.fixture
def relay(target: Machine) -> Iterator[Relay]:
    """The wire to it."""
    made = Relay(target.port)
    yield made
    made.close()


# ----------------------------------------------------------------------------------------------------------- summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have to say besides pass or fail (`record_property("said", …)`), wherever they ran."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties if report.when == "call" else ():
                if name == "said":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
