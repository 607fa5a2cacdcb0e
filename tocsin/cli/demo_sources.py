"""The demo's third act: the real Prometheus of this machine, if it has one, sends us its alerts."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tocsin.cli.demo_receivers import PATIENCE, DemoReceivers, Failed, Status
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres.children import die_with_parent

NAME = "Prometheus"
CONFIGURATION = """\
global: {{evaluation_interval: 300ms}}
rule_files: ["{rules}"]
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
        expr: label_replace(vector({used}), "instance", "db1", "", "") > 90
        labels: {{severity: critical}}
        annotations: {{summary: "98 % of the disk of db1 are used"}}
"""
FULL, EMPTY = 98, 40

Ask = Callable[..., Awaitable[Any]]
Say = Callable[..., None]


class Prometheus:
    """It runs from the beginning, so that it knows where to send by the time that its rule fires."""

    def __init__(self, ask: Ask, say: Say, receivers: DemoReceivers, folder: Path) -> None:
        self._ask, self._say, self._receivers, self._folder = ask, say, receivers, folder
        self._rules = folder / "rules.yml"
        self._address = f"127.0.0.1:{free_port()}"
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
        self._rules.write_text(RULES.format(used=EMPTY))
        config = self._folder / "prometheus.yml"
        config.write_text(CONFIGURATION.format(rules=self._rules, path=f"/{path}", host=host))
        self._child = _start(
            [program, f"--config.file={config}", f"--storage.tsdb.path={self._folder / 'prometheus'}",
             f"--web.listen-address={self._address}", "--web.enable-lifecycle", "--log.level=warn",
             "--rules.alert.resend-delay=1s"], self._folder / "prometheus.log",
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
            self._rules.write_text(RULES.format(used=used))
            await _reload(self._address)
            arrival = await self._receivers.wait_for("webhook", status, NAME)
            self._say(f"  webhook {arrival.text}", "cyan")

    async def stop(self) -> None:
        if self._child is not None:
            self._child.terminate()
            await asyncio.to_thread(_end, self._child)


async def _reload(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                (await http.post(f"http://{address}/-/reload", timeout=PATIENCE)).raise_for_status()
                return
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise Failed(f"Prometheus did not take its new rules: {type(error).__name__}") from None
            await asyncio.sleep(0.2)


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
