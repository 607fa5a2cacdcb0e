"""The demo's third act: the real Prometheus of this machine, if it has one, sends us its alerts."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tocsin.cli.demo_receivers import DemoReceivers, Status, listening
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres.children import die_with_parent

NAME = "Prometheus"
CONFIGURATION = """\
global: {{evaluation_interval: 300ms, scrape_interval: 500ms, scrape_timeout: 500ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: disks
    static_configs: [{{targets: ["127.0.0.1:{disks}"]}}]
alerting:
  alertmanagers:
    - path_prefix: {path}
      static_configs: [{{targets: ["{host}"]}}]
"""
RULES = """\
groups:
  - name: demo
    rules:
      - alert: DiskFull
        expr: disk_used_percent > 90
        labels: {severity: critical}
        annotations: {summary: "{{ $value }} % of the disk of {{ $labels.host }} are used"}
"""
FULL, EMPTY = 98, 40
METRICS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"

Ask = Callable[..., Awaitable[Any]]
Say = Callable[..., None]


class Prometheus:
    """It runs from the beginning, so that it knows where to send by the time that its rule fires."""

    def __init__(self, ask: Ask, say: Say, receivers: DemoReceivers, folder: Path) -> None:
        self._ask, self._say, self._receivers, self._folder = ask, say, receivers, folder
        self._used = EMPTY
        self._disks = AsyncExitStack()
        self._child: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Nothing where it is not installed."""
        program = shutil.which("prometheus")
        if program is None:
            return
        source = await self._ask("POST", "/api/v1/sources", {"source": {"type": "alertmanager", "name": NAME}})
        url = f"http://127.0.0.1:{self._receivers.webhook_port}/alerts"
        wanted = {"type": "Integrations::WebhookIntegration", "name": "alerts", "settings": {"webhook_url": url}}
        hook = await self._ask("POST", "/api/v1/integrations", {"integration": wanted})
        await self._ask("POST", f"/api/v1/sources/{source['uuid']}/integrations", {"integration_id": hook["uuid"]})
        host, _, path = str(source["url"]).removeprefix("http://").partition("/")
        disks = await self._disks.enter_async_context(listening(self._say_how_full))
        rules, config = self._folder / "rules.yml", self._folder / "prometheus.yml"
        rules.write_text(RULES)
        config.write_text(CONFIGURATION.format(rules=rules, disks=disks, path=f"/{path}", host=host))
        self._child = _start(
            [program, f"--config.file={config}", f"--storage.tsdb.path={self._folder / 'prometheus'}",
             f"--web.listen-address=127.0.0.1:{free_port()}", "--rules.alert.resend-delay=1s", "--log.level=warn"],
            self._folder / "prometheus.log",
        )  # fmt: skip

    async def show(self) -> None:
        """A rule fires and is over again. Raises `Failed`."""
        if self._child is None:
            missing = "none is installed (Debian: apt install prometheus)"
            self._say(f"an alert of a real Prometheus is not shown: {missing}", "yellow")
            return
        self._say("a rule of the real Prometheus fires, which has Tocsin in its Alertmanager's place", "bold red")
        steps: tuple[tuple[int, Status], ...] = ((FULL, "ongoing"), (EMPTY, "resolved"))
        for used, status in steps:
            self._used = used
            arrival = await self._receivers.wait_for("webhook", status, NAME)
            self._say(f"  webhook {arrival.text}", "cyan")

    async def stop(self) -> None:
        if self._child is not None:
            self._child.terminate()
            await asyncio.to_thread(_end, self._child)
        await self._disks.aclose()

    async def _say_how_full(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What Prometheus scrapes."""
        while await reader.readuntil(b"\r\n\r\n"):
            body = f'disk_used_percent{{host="db1"}} {self._used}\n'.encode()
            writer.write(METRICS % len(body) + body)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - found on the PATH, with arguments of ours
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )  # fmt: skip


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
