"""What every part of the benchmark works with: receiver, load generator, peers, folders, sizes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.figures import median
from bench.instance import API, ENGINE, POSTGRES, Tocsin
from bench.load import Load
from bench.peers import Alertmanager, Blackbox
from bench.receiver import Receiver

SERVERS = 50


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done. The figures of record come from `FULL`."""

    incidents: int = 5_000
    paced: int = 600
    rounds: int = 5
    flat_rounds: int = 9
    waiting: int = 5_000
    monitors: int = 5_000
    check_seconds: int = 15
    reports: int = 4_000
    old_deliveries: int = 1_000_000
    old_integrations: int = 100_000
    many_servers: int = 100_000
    console: int = 10_000
    looks: int = 7
    heartbeats: int = 100_000
    pings: int = 20_000
    idle_seconds: int = 10
    children: int = 1_000
    dependency_rounds: int = 3
    dependency_seconds: int = 7


FULL = Sizes()
QUICK = Sizes(
    incidents=1_000, paced=60, rounds=2, flat_rounds=3, waiting=500, monitors=5_000, check_seconds=4, reports=500,
    old_deliveries=20_000, old_integrations=2_000, many_servers=2_000, console=200, looks=3,
    idle_seconds=2, heartbeats=2_000, pings=2_000, dependency_rounds=2, dependency_seconds=4,
)  # fmt: skip


class Workshop:
    """Opened once for all parts; `close` ends every process that it began and removes its folder."""

    def __init__(self, sizes: Sizes, destinations: int) -> None:
        self.sizes = sizes
        self.destinations = destinations
        # The embedded database runs under an unprivileged account, which must be able to reach its folder.
        self.folder = Path(tempfile.mkdtemp(prefix="tocsin-bench-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.receiver = Receiver()
        self.load = Load()
        self._made = 0
        self._programs: dict[str, str | None] = {}

    def say(self, text: str) -> None:
        print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)

    @contextlib.contextmanager
    def tocsin(self, *, cores: set[int] | None = None, servers: int = SERVERS) -> Iterator[Tocsin]:
        """A running Tocsin with a project and servers to open incidents on, gone at the end."""
        self._made += 1
        instance = Tocsin(self.folder / f"tocsin-{self._made}", cores=cores)
        try:
            instance.start()
            instance.create_project()
            instance.watch_servers(servers, self.receiver.port, self.destinations)
            yield instance
        finally:
            instance.close()

    @contextlib.contextmanager
    def alertmanager(self) -> Iterator[Alertmanager | None]:
        """A running Alertmanager that remembers nothing of an earlier part; None where it is not installed."""
        program = self._installed(peers.ALERTMANAGER)
        if program is None:
            yield None
            return
        peer = Alertmanager(program, self.folder, self.receiver.port)
        try:
            peer.renew()
            yield peer
        finally:
            peer.stop()

    @contextlib.contextmanager
    def blackbox(self) -> Iterator[Blackbox | None]:
        """A running blackbox_exporter; None where it is not installed."""
        program = self._installed(peers.BLACKBOX)
        if program is None:
            yield None
            return
        peer = Blackbox(program, self.folder)
        try:
            yield peer
        finally:
            peer.stop()

    def close(self) -> None:
        self.receiver.close()
        self.load.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _installed(self, package: str) -> str | None:
        if package not in self._programs:
            self._programs[package] = peers.install(package)
        return self._programs[package]


def per_1000(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    """CPU seconds per 1,000, by part, and `total`."""
    parts = {part: (after[part] - before.get(part, 0.0)) * 1000 / count for part in after}
    return {**parts, "total": sum(parts.values())}


def shares(rounds: Sequence[dict[str, float]]) -> str:
    """Which part took how much, medians of the rounds: for a figure's note."""
    return " / ".join(
        f"{part} {median([cpu.get(part, 0.0) for cpu in rounds]):.3f}" for part in (API, ENGINE, POSTGRES)
    )
