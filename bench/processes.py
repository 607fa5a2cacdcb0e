"""Processes as the operating system sees them: what they cost, how they start, how they die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil


class Program:
    """A program under test with all its descendants. Its output goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: dict[str, str] | None = None,
        cores: set[int] | None = None,
        part_of: Callable[[psutil.Process], str] = lambda process: "all",
    ) -> None:
        self._part_of = part_of
        self._log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
                start_new_session=True,
            )
        self._root = psutil.Process(self._child.pid)

    def until(self, ready: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until it is ready; where it dies or takes too long, say what it printed."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._child.args!r} did not start:\n{self.output()[-2000:]}")
            time.sleep(0.002)

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def tree(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def cpu(self) -> dict[str, float]:
        """CPU seconds since the start, by part, descendants that have ended included."""
        spent: dict[str, float] = {}
        for process in self.tree():
            try:
                times = process.cpu_times()
                part = self._part_of(process)
            except psutil.NoSuchProcess:
                continue
            ended = times.children_user + times.children_system
            spent[part] = spent.get(part, 0.0) + times.user + times.system + ended
        return spent

    def pss(self) -> Counter[str]:
        """Bytes of memory by part, each shared page counted once in all."""
        held: Counter[str] = Counter()
        for process in self.tree():
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            kilobytes = next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))
            held[self._part_of(process)] += int(kilobytes) * 1024
        return held

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it, the parent first so that it cannot start anything again."""
        tree = self.tree() if self._root.is_running() else []
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._child.wait()
        psutil.wait_procs(tree, 10)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
