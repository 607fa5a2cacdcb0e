"""A process that starts programs for its parent, and ends with it: kills whatever came of them then, and removes their
folder. `Keeper` is the parent's side of it.

PostgreSQL leaves whoever started it (Patroni may end without it), so that no signal at a parent's death reaches it. As
a subreaper (prctl(2)) this process inherits all such orphans. It reads one JSON object a line (`command`, `log`,
`environ`, `account`: null or user and group) and answers each with the process id. The end of its input is the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
PAUSE = 0.1


class Keeper:
    """Starts programs that end with this process, however that ends. `folder` is removed then."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.keeper", str(folder)], cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def run(
        self, command: Sequence[str | Path], log: Path, environ: Mapping[str, str],
        account: tuple[int, int] | None = None,
    ) -> int:  # fmt: skip
        """Start a program, as a user and a group if they are given; its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wish: dict[str, Any] = {
            "command": [*map(str, command)], "log": str(log), "environ": dict(environ), "account": account,
        }  # fmt: skip
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        """End all of them, and whatever came of them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # as the death of this process does
        self._process.wait(60)
        self._process.stdout.close()


def main(folder: Path) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever started us says when it is enough
    wanted = b""
    while True:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], PAUSE)
        _reap()
        if not ready:
            continue
        part = os.read(sys.stdin.fileno(), 65_536)
        if not part:
            break
        *lines, wanted = (wanted + part).split(b"\n")
        for line in lines:
            print(_start(**json.loads(line)), flush=True)
    _end_all()
    shutil.rmtree(folder, ignore_errors=True)


def _start(command: list[str], log: str, environ: dict[str, str], account: list[int] | None) -> int:
    with open(log, "ab") as file:
        options = {} if account is None else {"user": account[0], "group": account[1], "extra_groups": []}
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/", env=environ, start_new_session=True,
            **options,
        )
    return started.pid


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _end_all() -> None:
    """Whoever is killed leaves orphans, which are ours then."""
    while True:
        _reap()
        ours = _children()
        if not ours:
            return
        for pid in ours:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
