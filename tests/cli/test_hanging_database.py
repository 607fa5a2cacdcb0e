"""An embedded database that hangs is not one that was not started, nor one of somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import tocsin
from tests.service import KEY
from tocsin.storage.postgres import embedded, migrate

COMMANDS = (("project", "list"), ("doctor",), ("migrate",), ("backup",))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.Server]:
    server = embedded.start(tmp_path / "data")
    yield server
    server.stop()


async def test_a_database_that_hangs_is_said_to_run(server: embedded.Server, tmp_path: Path) -> None:
    await migrate.migrate(server.dsn)
    environ = {
        "TOCSIN_DATA_DIR": str(server.data_dir), "TOCSIN_SECRET_KEYS": KEY, "TOCSIN_ENV": "development",
        "TOCSIN_BACKUP_PASSPHRASE": "correct-horse-battery",
    }  # fmt: skip
    postmaster = psutil.Process(server.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for each in family:
        each.suspend()
    try:
        file = str(tmp_path / "saved")
        ran = await asyncio.gather(
            *(tocsin(*words, *([file] if words == ("backup",) else []), environ=environ) for words in COMMANDS)
        )
    finally:
        for each in reversed(family):
            each.resume()
    for words, each in zip(COMMANDS, ran, strict=True):
        assert each.code == 1, (words, each)
        assert "runs, but cannot be used: it does not answer" in each.out + each.err, (words, each)
        assert "start it" not in each.out + each.err
    server.stop()
    stopped = await tocsin("project", "list", environ=environ)
    assert stopped.err.endswith("is not running; start it with: tocsin up\n")
