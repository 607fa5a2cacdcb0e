"""A network of a test's own: a hub with the service and a site, and machines around it with a probe each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests import needed
from tests.namespaces import Namespace, namespace
from tests.processes import Process, clean_environ
from tests.service import service_on
from tests.waiting import poll

HUB = "10.98.0.1"
SITE_PORT = 8080
SITE = """
import http.server, pathlib, sys
class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if pathlib.Path(sys.argv[1]).exists() else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("10.98.0.1", 8080), Site).serve_forever()
"""
SLOW = """
import asyncio, sys
async def carry(reader, writer):
    while data := await reader.read(65536):
        await asyncio.sleep(float(sys.argv[3]))
        writer.write(data)
        await writer.drain()
    writer.close()
async def take(reader, writer):
    there = await asyncio.open_connection("10.98.0.1", int(sys.argv[2]))
    await asyncio.gather(carry(reader, there[1]), carry(there[0], writer), return_exceptions=True)
async def main():
    await (await asyncio.start_server(take, "127.0.0.1", int(sys.argv[1]))).serve_forever()
asyncio.run(main())
"""
"""Everything that goes through it, in either direction, comes later."""


@dataclass
class Machine:
    """A machine beside the hub, on a line of its own."""

    name: str
    inside: Namespace
    line: str
    hub: Namespace
    folder: Path
    url: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def cut(self) -> None:
        self.hub.command(needed.program("ip"), "link", "set", self.line, "down", check=True)

    def mend(self) -> None:
        self.hub.command(needed.program("ip"), "link", "set", self.line, "up", check=True)

    @contextmanager
    def probing(self, token: str) -> Iterator[Process]:
        file = self.folder / f"{self.name}.token"
        file.write_text(token)
        environ = {"TOCSIN_ENV": "development", "TOCSIN_DATA_DIR": str(self.folder / "nothing"), **self.environ}
        process = Process(
            "probe", "--url", self.url, "--token-file", str(file), environ=environ,
            log=self.folder / f"{self.name}.log", prefix=entering(self.inside),
        ).start()  # fmt: skip
        try:
            yield process
        finally:
            process.stop()


@dataclass
class Network:
    """The hub: a service that can be killed, a site that is well while `well` exists."""

    hub: Namespace
    api: Process
    engine: Process
    port: int
    well: Path
    token: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the API, from the hub."""

        def ask() -> Any:
            answer = httpx.request(
                method, f"http://{HUB}:{self.port}/api/v1{path}", json=body, timeout=30, trust_env=False,
                headers={"Authorization": f"Bearer {self.token}"},
            )
            assert answer.is_success, answer.text
            return answer.json()

        return self.hub.call(ask)

    def start(self) -> None:
        self.api.start()
        poll(self._answers, what="the service to answer")

    def _answers(self) -> bool:
        def ask() -> bool:
            try:
                return httpx.get(f"http://{HUB}:{self.port}/health/ready", timeout=5, trust_env=False).is_success
            except httpx.TransportError:
                return False

        return self.hub.call(ask)


def entering(inside: Namespace) -> list[str]:
    return [needed.program("ip"), "netns", "exec", inside.name]


@contextmanager
def network(database: str, folder: Path, token: Callable[[Any], str]) -> Iterator[tuple[Network, list[Machine]]]:
    """A hub and three machines, of which the second is slow. Without a namespace of its own, the test ends here."""
    with ExitStack() as stack:
        hub = stack.enter_context(namespace())
        ip = needed.program("ip")
        hub.command(ip, "link", "add", "hub", "type", "bridge", check=True)
        hub.command(ip, "address", "add", f"{HUB}/24", "dev", "hub", check=True)
        hub.command(ip, "link", "set", "hub", "up", check=True)
        well = folder / "well"
        well.touch()
        service = service_on(database, folder)
        port = int(service.url.rpartition(":")[2])
        words = ("serve", "--host", HUB, "--port", str(port))
        api = Process(*words, environ=service.environ, log=folder / "api.log", prefix=entering(hub))
        engine = Process("engine", environ=service.environ, log=folder / "engine.log", prefix=entering(hub))
        stack.callback(api.kill)
        stack.callback(engine.kill)
        site = subprocess.Popen([*entering(hub), sys.executable, "-c", SITE, str(well)])
        stack.callback(site.wait)
        stack.callback(site.kill)
        found = Network(hub, api, engine, port, well, "")
        engine.start()
        found.start()
        found.token = token(service)
        machines = [_machine(stack, found, number, name, folder) for number, name in enumerate(("cut", "slow", "odd"))]
        yield found, machines


def _machine(stack: ExitStack, to: Network, number: int, name: str, folder: Path) -> Machine:
    inside, line, ip = stack.enter_context(namespace()), f"to-{name}", needed.program("ip")
    there = ["link", "add", line, "type", "veth", "peer", "name", "eth0", "netns", inside.name]
    subprocess.run([ip, "-n", to.hub.name, *there], check=True)
    to.hub.command(ip, "link", "set", line, "master", "hub", "up", check=True)
    inside.command(ip, "address", "add", f"10.98.0.{10 + number}/24", "dev", "eth0", check=True)
    inside.command(ip, "link", "set", "eth0", "up", check=True)
    url = f"http://{HUB}:{to.port}"
    if name == "slow":
        relay = subprocess.Popen(
            [*entering(inside), sys.executable, "-c", SLOW, "9", str(to.port), "0.4"], env=clean_environ()
        )
        stack.callback(relay.wait)
        stack.callback(relay.kill)
        url = "http://127.0.0.1:9"
    return Machine(name, inside, line, to.hub, folder, url)
