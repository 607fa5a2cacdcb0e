"""A whole installation, as `tocsin up` makes it: supervisor, embedded PostgreSQL, API and engine."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil

from tests.processes import NO_AUTHORITIES, Process, wait_ready
from tests.waiting import poll
from tocsin.cli.sockets import free_port

Part = Literal["engine", "api", "postgres", "everything"]


@dataclass(frozen=True, slots=True)
class Running:
    """The parts that live at this moment; None where one is just missing."""

    api: psutil.Process | None
    engine: psutil.Process | None
    postgres: psutil.Process | None


ON_A_DISK = 'mount -t tmpfs -o mode=755,size="$0" disk "$1" && shift && exec "$@"'


class Installation:
    """`tocsin up` in a folder of its own. `start` works again after any kill.

    With a `disk` of so many bytes, its data is on a file system of its own (for root, and as long as `up` runs), which
    can be filled.
    """

    def __init__(self, *, disk: int = 0, **environ: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-up-"))
        self.folder.chmod(0o755)  # as root, PostgreSQL runs under another account, which must reach its data
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        self.environ = {"TOCSIN_ENV": "development", "TOCSIN_DATA_DIR": str(self.disk / "data"), **environ}
        self.prefix = ["unshare", "-m", "sh", "-c", ON_A_DISK, str(disk), str(self.disk)] if disk else []
        self.up = Process(
            "up", "--port", str(port), environ=self.environ, log=self.folder / "up.log", prefix=self.prefix
        )
        self.token = ""

    def start(self) -> None:
        self.up.start()
        self.wait_ready()
        if not self.token:
            self.token = self._new_project()

    def wait_ready(self, timeout: float = 30.0) -> None:
        wait_ready(self.url, timeout=timeout, process=self.up)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=20, trust_env=False,
            verify=NO_AUTHORITIES,
        )

    def parts(self) -> Running:
        family = psutil.Process(self.up.pid).children(recursive=True) if self.up.alive else []
        found: dict[str, psutil.Process] = {}
        for member in family:
            try:
                name, words = member.name(), member.cmdline()
            except psutil.Error:
                continue
            if name == "postgres" and "-D" in words:
                found["postgres"] = member
            elif "serve" in words:
                found["api"] = member
            elif "engine" in words:
                found["engine"] = member
        return Running(found.get("api"), found.get("engine"), found.get("postgres"))

    def kill(self, part: Part) -> None:
        """kill -9 of one part (once there is one), or of everything at once."""
        if part == "everything":
            self.up.kill_tree()
            return
        victim = poll(lambda: getattr(self.parts(), part), what=f"a living {part}")
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return

    def fill_disk(self) -> None:
        """Until not one byte more can be written."""
        with self._filling.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free_disk(self) -> None:
        with suppress(FileNotFoundError):
            self._filling.unlink()

    @property
    def _filling(self) -> Path:
        """As seen from outside of its mount namespace."""
        assert self.prefix, "it has no disk of its own"
        return Path(f"/proc/{self.up.pid}/root{self.disk}/filling")

    def stop(self) -> int:
        try:
            return self.up.stop()
        finally:
            self.up.kill_tree()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _new_project(self) -> str:
        inside = ["nsenter", "-t", str(self.up.pid), "-m"] if self.prefix else []
        made = subprocess.run(
            [*inside, sys.executable, "-m", "tocsin", "project", "create", "Tests", "--plan", "paid", "--json"],
            env={**os.environ, **self.environ}, capture_output=True, check=True, timeout=30,
        )
        return str(json.loads(made.stdout)["api_token"])
