"""The peers: Alertmanager and blackbox_exporter as Debian packages them, on loopback, with folders of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import load
from bench.far_ends import NAME
from bench.processes import Program, listening
from tocsin.cli.sockets import free_port

ALERTMANAGER, BLACKBOX = "prometheus-alertmanager", "prometheus-blackbox-exporter"

# One group for each alert and no wait: as fast as it can go.
ALERTMANAGER_CONFIG = """
route:
  receiver: bench
  group_by: ['...']
  group_wait: 0s
  group_interval: 1h
  repeat_interval: 24h
receivers:
  - name: bench
    webhook_configs:
      - url: http://127.0.0.1:{port}/
"""

BLACKBOX_CONFIG = """
modules:
  http_2xx:
    prober: http
    timeout: 10s
    http:
      preferred_ip_protocol: ip4
  ping:
    prober: icmp
    timeout: 10s
    icmp:
      preferred_ip_protocol: ip4
  dns:
    prober: dns
    timeout: 10s
    dns:
      preferred_ip_protocol: ip4
      query_name: {name}
      query_type: A
  tls:
    prober: tcp
    timeout: 10s
    tcp:
      preferred_ip_protocol: ip4
      tls: true
"""


def install(package: str) -> str | None:
    """The program's path, installing Debian's package where that can be done; None, having said why, where not."""
    if not shutil.which(package) and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {package} …", flush=True)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-qq", *step], env=env, stdout=subprocess.DEVNULL, check=False, timeout=300)
    found = shutil.which(package)
    if found is None:
        print(f"{package} is not installed (as root: apt-get install {package}); its column stays empty", flush=True)
    return found


class Alertmanager:
    name = "Alertmanager"

    def __init__(self, program: str, folder: Path, webhook_port: int) -> None:
        self._program = program
        self._folder = folder
        self._config = folder / "alertmanager.yml"
        self._config.write_text(ALERTMANAGER_CONFIG.format(port=webhook_port))
        self._run: Program | None = None
        self.port = free_port()

    def start(self) -> None:
        self._run = Program(
            [
                self._program,
                f"--config.file={self._config}",
                f"--storage.path={self._folder / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
                "--log.level=error",
            ],
            self._folder / "alertmanager.log",
        )
        self._run.until(lambda: listening(self.port))

    def renew(self) -> None:
        """Start again with nothing in memory and nothing on disk."""
        self.stop()
        shutil.rmtree(self._folder / "alertmanager", ignore_errors=True)
        self.start()

    def stop(self) -> None:
        if self._run:
            self._run.stop()
            self._run = None

    def kill(self) -> None:
        assert self._run
        self._run.kill()
        self._run = None

    def cpu(self) -> dict[str, float]:
        assert self._run
        return self._run.cpu()

    def pss(self) -> Counter[str]:
        assert self._run
        return self._run.pss()

    def opening(self, keys: Sequence[str], batch: int = 1) -> list[bytes]:
        """Requests that open an alert for each key, `batch` in one."""
        labels = [
            {"labels": {"alertname": key, "instance": f"server-{index % 50}"}, "annotations": {"summary": "for real"}}
            for index, key in enumerate(keys)
        ]
        return [
            load.request("POST", "/api/v2/alerts", msgspec.json.encode(labels[start : start + batch]))
            for start in range(0, len(labels), batch)
        ]


class Blackbox:
    name = "blackbox_exporter"

    def __init__(self, program: str, folder: Path) -> None:
        config = folder / "blackbox.yml"
        config.write_text(BLACKBOX_CONFIG.format(name=NAME))
        self.port = free_port()
        self._run = Program(
            [program, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error"],
            folder / "blackbox.log",
        )
        self._run.until(lambda: listening(self.port))

    def probes(self, target: str, count: int, module: str = "http_2xx") -> list[bytes]:
        return [load.request("GET", f"/probe?module={module}&target={target}")] * count

    def cpu(self) -> dict[str, float]:
        return self._run.cpu()

    def pss(self) -> Counter[str]:
        return self._run.pss()

    def stop(self) -> None:
        self._run.stop()
