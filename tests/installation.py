"""A whole installation, as `tocsin up` makes it: supervisor, embedded PostgreSQL, API and engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil

from tests.processes import Process, wait_ready
from tests.receivers import free_port
from tests.waiting import poll

Part = Literal["engine", "api", "postgres", "everything"]


@dataclass(frozen=True, slots=True)
class Running:
    """The parts that live at this moment; None where one is just missing."""

    api: psutil.Process | None
    engine: psutil.Process | None
    postgres: psutil.Process | None


class Installation:
    """`tocsin up` in a folder of its own. `start` works again after any kill."""

    def __init__(self, **environ: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-up-"))
        self.folder.chmod(0o755)  # as root, PostgreSQL runs under another account, which must reach its data
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environ = {"TOCSIN_ENV": "development", "TOCSIN_DATA_DIR": str(self.folder / "data"), **environ}
        self.up = Process("up", "--port", str(port), environ=self.environ, log=self.folder / "up.log")
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
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=20, trust_env=False
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

    def stop(self) -> int:
        try:
            return self.up.stop()
        finally:
            self.up.kill_tree()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _new_project(self) -> str:
        made = subprocess.run(
            [*self.up.command[:3], "project", "create", "Tests", "--plan", "paid", "--json"],
            env={**os.environ, **self.environ}, capture_output=True, check=True, timeout=30,
        )
        return str(json.loads(made.stdout)["api_token"])
