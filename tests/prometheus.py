"""The real Prometheus and the real Alertmanager, as Debian packages them: on loopback, in folders of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.needed import program
from tests.processes import NO_AUTHORITIES
from tests.waiting import PATIENCE, poll
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres.children import die_with_parent

PROMETHEUS = """\
global: {{evaluation_interval: 300ms}}
rule_files: [{rules}]
alerting:
  alertmanagers:
    - path_prefix: {prefix}
      static_configs: [{{targets: ["{target}"]}}]
"""
RULES = """\
groups:
  - name: disks
    rules:
      - alert: DiskFull
        expr: {expression}
        labels: {{severity: warning}}
        annotations: {{summary: "The disk {{{{ $labels.disk }}}} is full"}}
"""
RESEND = 4
"""Seconds. An alert lasts four times as long, and what comes later than that counts as its end."""
ALERTMANAGER = """\
route:
  receiver: each
  group_by: ["..."]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
  routes: [{{matchers: ["alertname = Many"], receiver: three, group_by: [alertname]}}]
receivers:
  - name: each
    webhook_configs: [{{url: "{url}"}}]
  - name: three
    webhook_configs: [{{url: "{url}", max_alerts: 3}}]
"""


class Daemon:
    """One of the two: started, killed, started again on the same folder."""

    def __init__(self, command: Sequence[str], folder: Path, url: str) -> None:
        self._command, self._log, self.url = command, folder / "log", url
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {"PATH": os.environ.get("PATH", os.defpath)}
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                self._command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )  # fmt: skip
        poll(self._ready, what=lambda: f"{self._command[0]}; it said {self._log.read_text()[-2000:]}")

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False, verify=NO_AUTHORITIES).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None


class Prometheus(Daemon):
    """It says of these disks that they are full; nothing is scraped, so that nothing else can end an alert."""

    def __init__(self, folder: Path, source_url: str) -> None:
        found, port = program("prometheus"), free_port()
        folder.mkdir()
        target, _, key = source_url.removeprefix("http://").partition("/")
        config, self._rules = folder / "prometheus.yml", folder / "rules.yml"
        config.write_text(PROMETHEUS.format(rules=self._rules, prefix=f"/{key}", target=target))
        self._write("")
        super().__init__(
            [found, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", "--web.enable-lifecycle",
             f"--web.listen-address=127.0.0.1:{port}", f"--rules.alert.resend-delay={RESEND}s", "--log.level=warn"],
            folder, f"http://127.0.0.1:{port}",
        )  # fmt: skip

    def full(self, disks: str) -> None:
        """From now on these are, a letter each."""
        self._write(disks)
        httpx.post(f"{self.url}/-/reload", trust_env=False, timeout=PATIENCE).raise_for_status()

    def _write(self, disks: str) -> None:
        each = [f'label_replace(vector(1), "disk", "{disk}", "", "")' for disk in disks]
        self._rules.write_text(RULES.format(expression=" or ".join(each) or "vector(1) > 1"))


def alertmanager(folder: Path, source_url: str) -> Daemon:
    """One that tells that source of each alert by itself, and of those called Many together, three at most."""
    found, port = program("prometheus-alertmanager"), free_port()
    folder.mkdir()
    config = folder / "alertmanager.yml"
    config.write_text(ALERTMANAGER.format(url=source_url))
    return Daemon(
        [found, f"--config.file={config}", f"--storage.path={folder / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn"],
        folder, f"http://127.0.0.1:{port}",
    )  # fmt: skip
