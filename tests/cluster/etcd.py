"""etcd, which the nodes of a cluster agree by: one process, for all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from tests.needed import program
from tests.processes import NO_AUTHORITIES
from tests.waiting import poll
from tocsin.cli.sockets import free_port


class Etcd:
    """It answers at `port` of 127.0.0.1. `run` starts a program with a log, and returns its process id."""

    def __init__(self, folder: Path, run: Callable[[list[str], Path], int]) -> None:
        self.port, peers, log = free_port(), free_port(), folder / "etcd.log"
        self._url = f"http://127.0.0.1:{self.port}"
        self._pid = run(
            [program("etcd"), "--name", "etcd", "--data-dir", str(folder / "etcd"),
             "--listen-client-urls", self._url, "--advertise-client-urls", self._url,
             "--listen-peer-urls", f"http://127.0.0.1:{peers}",
             "--initial-advertise-peer-urls", f"http://127.0.0.1:{peers}",
             "--initial-cluster", f"etcd=http://127.0.0.1:{peers}", "--log-level", "warn"],
            log,
        )  # fmt: skip
        poll(self._healthy, what=lambda: f"etcd to be ready:\n{log.read_text(errors='replace')[-2000:]}")

    def freeze(self) -> None:
        psutil.Process(self._pid).suspend()

    def thaw(self) -> None:
        psutil.Process(self._pid).resume()

    def _healthy(self) -> bool:
        with suppress(httpx.HTTPError):
            return "true" in httpx.get(f"{self._url}/health", timeout=2, verify=NO_AUTHORITIES).text
        return False
