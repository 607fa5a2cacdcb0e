"""Our commands as real processes: started, watched, told to stop, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.waiting import PATIENCE, poll
from tocsin.storage.postgres.children import die_with_parent

NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of services that speak HTTP: to load all authorities, as httpx does otherwise, takes 40 ms each time."""


class Process:
    """One `tocsin` command, in a session of its own so that no signal to the tests reaches it, but it ends with them.

    It can be started again after it ended. What it prints is kept in `log`, across starts.
    """

    def __init__(
        self, *arguments: str, environ: Mapping[str, str], log: Path, prefix: Sequence[str] = ()
    ) -> None:
        self.command = [*prefix, sys.executable, "-m", "tocsin", *arguments]
        self.environ = {**clean_environ(), **environ}
        self.log = log
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None, "not started"
        return self._running.pid

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def start(self) -> Process:
        assert not self.alive, "runs already"
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
            )
        return self

    def wait_for_line(self, start: str, *, timeout: float = PATIENCE) -> str:
        """The latest line printed that begins with `start`, once there is one."""

        def look() -> str | None:
            found = [line for line in self.said().splitlines() if line.startswith(start)]
            if not found and not self.alive:
                raise AssertionError(f"{self.command[-1]} ended before it was ready:\n{self.said()[-3000:]}")
            return found[-1] if found else None

        return poll(look, timeout=timeout, what=lambda: f"a line {start!r}; it said:\n{self.said()[-3000:]}")

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, this process alone; back when it is gone."""
        if self.alive:
            self.signal(signal.SIGKILL)
        self.wait(PATIENCE)

    def kill_tree(self) -> None:
        """kill -9 of this process and all its descendants, at one moment as nearly as can be."""
        if self.alive:
            family = self.family()
            for member in family:
                try:
                    member.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(family[1:], timeout=PATIENCE)
        self.wait(PATIENCE)

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM; the exit status once it is gone."""
        if self.alive:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        if self._running is None:
            return 0
        return self._running.wait(timeout)

    def family(self) -> list[psutil.Process]:
        """This process and its descendants at this moment; any of them may be gone at the next."""
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]

    def descendants(self, name: str) -> list[psutil.Process]:
        """Its living descendants whose command line holds `name`."""
        return [member for member in self.family()[1:] if _says(member, name)]


def wait_ready(url: str, *, timeout: float = PATIENCE, process: Process | None = None) -> None:
    """Until the service at `url` says that its database and an engine work."""
    answer = ["nothing"]

    def look() -> bool:
        try:
            response = httpx.get(f"{url}/health/ready", timeout=5, verify=NO_AUTHORITIES)
        except httpx.TransportError as error:
            answer[0] = repr(error)
            return False
        answer[0] = f"{response.status_code} {response.text}"
        return response.status_code == 200

    poll(look, timeout=timeout, what=lambda: f"{url} to be ready; it answered {answer[0]}\n{_tail(process)}")


def clean_environ() -> dict[str, str]:
    """The environment without any setting of ours, so that a developer's own does not leak into a test."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("TOCSIN_", "OTEL_"))}


def _says(process: psutil.Process, name: str) -> bool:
    try:
        return any(name in part for part in process.cmdline())
    except psutil.Error:
        return False


def _tail(process: Process | None) -> str:
    return process.said()[-3000:] if process else ""


@dataclass(frozen=True)
class CommandResult:
    code: int
    out: str
    err: str


async def tocsin(*arguments: str, environ: dict[str, str] | None = None) -> CommandResult:
    """Runs the command to its end, without any setting but those given."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tocsin", *arguments,
        env={**clean_environ(), **(environ or {})}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return CommandResult(process.returncode or 0, out.decode(), err.decode())
