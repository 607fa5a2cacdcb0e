"""Tocsin as a user runs it: `tocsin up` on a folder of its own, a project, and the public API."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench import load
from bench.processes import Program
from tocsin.cli.sockets import free_port

COMMAND = Path(sys.executable).parent / "tocsin"
API, ENGINE, POSTGRES, SUPERVISOR = "API", "engine", "PostgreSQL", "supervisor"
REPORT_METRICS = ("cpu_used", "mem_used_b", "disk_used_b", "net_sent_b", "net_recv_b", "pkt_sent", "pkt_recv")


def part_of(process: psutil.Process) -> str:
    """Which of our parts a process is."""
    if process.name() == "postgres":
        return POSTGRES
    words = process.cmdline()
    return API if "serve" in words else ENGINE if "engine" in words else SUPERVISOR


class Tocsin:
    name = "Tocsin"

    def __init__(self, folder: Path, *, cores: set[int] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._cores = cores
        self._env = {"TOCSIN_ENV": "development"}  # loopback may be called
        self._run: Program | None = None
        self._headers: dict[str, str] = {}
        self._registered = 0
        self.project = ""
        self.servers: list[str] = []

    def start(self) -> float:
        """Start it; the seconds until it said that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        self._run = run = Program(
            [str(COMMAND), "up", "--data-dir", str(self.folder), "--port", str(self.port)],
            self.folder.with_suffix(".log"),
            env=self._env,
            cores=self._cores,
            part_of=part_of,
        )
        run.until(lambda: "ready http" in run.output())
        return time.monotonic() - began

    def stop(self) -> None:
        if self._run:
            self._run.stop()
            self._run = None

    def kill(self) -> None:
        assert self._run
        self._run.kill()
        self._run = None

    def close(self) -> None:
        """Stop it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu(self) -> dict[str, float]:
        assert self._run
        return self._run.cpu()

    def pss(self) -> Counter[str]:
        assert self._run
        return self._run.pss()

    def renew(self) -> None:
        """History is what a real installation has: it goes on as it is."""

    def create_project(self) -> None:
        """A project for the calls that follow."""
        command = [
            str(COMMAND),
            "project",
            "create",
            "bench",
            "--plan",
            "paid",
            "--json",
            "--data-dir",
            str(self.folder),
        ]
        made = msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout)
        self._headers = {"Authorization": f"Bearer {made['api_token']}"}
        self.project = made["uuid"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API; its answer. Raises for anything but a success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = None if body is None else msgspec.json.encode(body)
            connection.request(method, path, content, {**self._headers, "Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]!r}")
        return msgspec.json.decode(answer) if answer else None

    def requests(self, method: str, path: str, bodies: Sequence[Any]) -> list[bytes]:
        """The same call as whole requests for the load generator."""
        return [load.request(method, path, msgspec.json.encode(body), **self._headers) for body in bodies]

    def watch_servers(self, count: int, webhook_port: int, destinations: int) -> None:
        """Have servers, each attached to one of so many webhooks: what incidents are opened on."""
        self.servers += [self.add_server() for _ in range(count)]
        webhooks = [self.add_webhook(webhook_port, index) for index in range(destinations)]
        for index, server in enumerate(self.servers):
            self.attach(server, webhooks[index % destinations])

    def add_server(self) -> str:
        """One more server; its public id."""
        board = report(self._registered)
        self._registered += 1
        self.call("POST", "/api/v1/server_metrics", board)
        listed = self.call("GET", "/api/v1/servers?per_page=100")
        wanted = board["attributes"]["motherboard_id"]
        return next(str(each["uuid"]) for each in listed if each["motherboard_id"] == wanted)

    def add_webhook(self, port: int, number: int = 0) -> str:
        settings = {"webhook_url": f"http://127.0.0.1:{port}/{number}"}
        made = {"integration": {"type": "Integrations::WebhookIntegration", "settings": settings}}
        return str(self.call("POST", "/api/v1/integrations", made)["uuid"])

    def attach(self, server: str, webhook: str) -> None:
        self.call("POST", f"/api/v1/servers/{server}/integrations", {"integration_id": webhook})

    def opening(self, keys: Sequence[str], batch: int = 1, servers: Sequence[str] | None = None) -> list[bytes]:
        """Requests that open an incident for each key, `batch` in one."""
        return self._incidents("/api/v1/incidents", keys, batch, servers or self.servers)

    def resolving(self, keys: Sequence[str], batch: int = 1) -> list[bytes]:
        return self._incidents("/api/v1/incidents/resolve", keys, batch, self.servers)

    def _incidents(self, path: str, keys: Sequence[str], batch: int, servers: Sequence[str]) -> list[bytes]:
        incidents = [
            {
                "resource_type": "Server",
                "resource_uuid": servers[index % len(servers)],
                "incident_type": key,
                "message": "for real",
            }
            for index, key in enumerate(keys)
        ]
        if batch == 1:
            return self.requests("POST", path, [{"incident": incident} for incident in incidents])
        groups = [incidents[start : start + batch] for start in range(0, len(incidents), batch)]
        return self.requests("POST", path, [{"incidents": group} for group in groups])


def report(number: int, cpu: float = 20.0) -> dict[str, Any]:
    """What the agent of server `number` sends each minute."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "attributes": {
            "motherboard_id": f"board-{number}",
            "hostname": f"server-{number}.example.com",
            "mac_address": "00-0a-95-9d-67-16",
            "public_ip": "203.0.113.10",
            "private_ip": "10.0.0.4",
            "cpu_cores": 4,
            "cpu_model": "Example CPU",
            "operating_system": "linux",
            "kernel_version": "6.8.0",
            "uptime": 1234,
            "disk_total_bytes": 512_000_000_000,
            "memory_total_bytes": 17_179_869_184,
        },
        "metrics": [
            {"metric": metric, "value": cpu if metric == "cpu_used" else 6e9, "timestamp": now}
            for metric in REPORT_METRICS
        ],
        "agent_version": "1.2.3",
    }
