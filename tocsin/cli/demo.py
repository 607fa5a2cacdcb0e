"""`tocsin demo`: a site goes down, a CPU is overloaded, and every integration is notified; then, who is and who is not.

The service as `tocsin up` starts it, the agent, a site, receivers of webhooks and email, stand-ins for Twilio and
Slack, and an OpenSSH server for a dry run all run on this machine, in a folder that is deleted afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

from tocsin.cli import demo_heartbeat, demo_notifying, demo_probes, demo_sources, ssh_host
from tocsin.cli.demo_receivers import PATIENCE, DemoReceivers, Failed, Site, Status, Where
from tocsin.cli.sockets import free_port
from tocsin.storage.postgres.children import die_with_parent

START = 30.0
"""Seconds that the service may take to become ready."""
BASELINE = 1.5
"""Seconds over which the machine's own load is measured."""
BUSY = 85.0
"""At this percent of CPU or more, overloading it would show nothing; memory is filled instead."""
SUSTAINED = 3
"""Seconds that the server must be over its threshold."""
HEADROOM = 8.0
"""Percentage points of memory that are filled; more than the hysteresis of a threshold."""
MAILBOX = "on-call@example.com"
PHONE = "+1234567890"
KINDS: dict[Where, str] = {
    "webhook": "Integrations::WebhookIntegration",
    "mail": "Integrations::EmailIntegration",
    "sms": "Integrations::SmsIntegration",
    "slack": "Integrations::SlackIntegration",
}


class Demo:
    """One run: `run` does everything and prints what happens; raises `Failed` if something fails."""

    def __init__(self, folder: Path) -> None:
        from rich.console import Console  # which no other command needs

        self.folder = folder
        self.console = Console()
        self.began = time.monotonic()
        self.receivers = DemoReceivers()
        self.site = Site()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.children: list[subprocess.Popen[bytes]] = []
        self.machine = ExitStack()
        self.environ: dict[str, str] = {}
        self.http: httpx.AsyncClient

    def say(self, text: str, style: str = "") -> None:
        stamp = f"{time.monotonic() - self.began:5.1f} s  "
        self.console.print(stamp + text, style=style or None, highlight=False, markup=False, soft_wrap=True)

    async def run(self) -> None:
        try:
            async with self.receivers.open():
                token = await self._start_service()
                headers = {"Authorization": f"Bearer {token}"}
                async with httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False) as self.http:
                    await self._show(token)
        finally:
            await self.site.stop()
            await asyncio.to_thread(self._stop_children)
            self.machine.close()

    async def _show(self, token: str) -> None:
        server, threshold, strain = await self._register(token)
        monitor = await self._watch_site()
        await self._attach(await self._webhook(), server, monitor)
        await self._attach(await self._create(KINDS["mail"], {"email": MAILBOX}), server, monitor)
        await self._attach(await self._sms(), server, monitor)
        await self._attach(await self._slack(), server, monitor)
        await self._dry_run()
        await self._site_goes_down_and_comes_back()
        await self._server_strains_and_recovers(server, threshold, strain)
        prometheus = demo_sources.Prometheus(self._ask, self.say, self.receivers, self.folder)
        probes = demo_probes.Probes(self._ask, self.say, self.receivers, self.folder, self.url, self.environ)
        try:
            await prometheus.start()
            await probes.start()
            job = await demo_heartbeat.begin(self._ask, self.say, self.receivers)
            await demo_notifying.show(self._ask, self.say, self.receivers, server)
            await demo_heartbeat.show(self.say, self.receivers, job)
            await prometheus.show()
            await probes.show()
        finally:
            await probes.stop()
            await prometheus.stop()
        self.say("all notifications arrived; stopping", "bold green")

    # -------------------------------------------------------------------------------------------------------- setup

    async def _start_service(self) -> str:
        self.say(f"starting Tocsin in development mode, on an embedded PostgreSQL, in {self.folder}")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")},
            "TOCSIN_ENV": "development",
            "TOCSIN_DATA_DIR": str(self.folder),
            **self.receivers.environ,
        }
        port = self.url.rpartition(":")[2]
        service = self._start_child("up", "--port", port)
        deadline = time.monotonic() + START
        async with httpx.AsyncClient(trust_env=False) as http:
            while not await _ready(http, self.url):
                if service.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"the service did not start: {self._last_log_line()}")
                await asyncio.sleep(0.05)
        made = await asyncio.create_subprocess_exec(
            *_tocsin("project", "create", "Demo", "--plan", "paid", "--json"), env=self.environ, stdout=subprocess.PIPE
        )
        output, _ = await made.communicate()
        if made.returncode:
            raise Failed("no project could be created")
        self.say(f"ready at {self.url}; project created")
        return str(json.loads(output)["api_token"])

    async def _register(self, token: str) -> tuple[str, float, str]:
        """Registers this machine with its real figures. Returns its identifier, a threshold to exceed, and of what."""
        self.environ["TOCSIN_TOKEN"] = token
        self._start_child("agent", "--url", self.url, "--interval", "1")
        baseline = await asyncio.to_thread(psutil.cpu_percent, BASELINE)
        deadline = time.monotonic() + PATIENCE
        while not (servers := await self._ask("GET", "/api/v1/servers")):
            if time.monotonic() > deadline:
                raise Failed(f"the agent's report did not arrive: {self._last_log_line()}")
            await asyncio.sleep(0.1)
        server = servers[0]
        latest = {name: each["value"] for name, each in server["last_metrics"].items()}
        memory = 100 * latest["mem_used_b"] / server["memory_total_bytes"]
        disk = 100 * latest["disk_used_b"] / server["disk_total_bytes"]
        self.say(
            f"this machine registered itself: {server['hostname']}, {server['cpu_cores']} cores at "
            f"{latest['cpu_used']:.0f} %, memory {memory:.0f} % of {server['memory_total_bytes'] / 2**30:.1f} GiB, "
            f"disk {disk:.0f} % of {server['disk_total_bytes'] / 2**30:.0f} GiB"
        )
        if baseline < BUSY:
            alert, threshold = "cpu", round((baseline + 100) / 2)
        else:
            alert, threshold = "ram", round(memory + HEADROOM - 2)
            self.say(f"the CPU is busy with other things ({baseline:.0f} %), so memory is filled instead")
        others = {"cpu": None, "ram": None, "disk": None}
        alerts = {**others, alert: {"threshold": threshold, "for": SUSTAINED}}
        await self._ask("PATCH", f"/api/v1/servers/{server['uuid']}", {"server": {"alerts": alerts}})
        return str(server["uuid"]), float(threshold), alert

    async def _watch_site(self) -> str:
        await self.site.start()
        monitor = {"name": "Demo site", "url": self.site.url, "check_type": "http", "interval": 1, "timeout": 10}
        made = await self._ask("POST", "/api/v1/network_monitors", {"network_monitor": monitor})
        self.say(f"a small site at {self.site.url} is checked once a second")
        return str(made["uuid"])

    async def _create(self, kind: str, settings: dict[str, Any]) -> Any:
        return await self._ask("POST", "/api/v1/integrations", {"integration": {"type": kind, "settings": settings}})

    async def _webhook(self) -> Any:
        hook = f"http://127.0.0.1:{self.receivers.webhook_port}/hook"
        return await self._create(KINDS["webhook"], {"webhook_url": hook})

    async def _sms(self) -> Any:
        """In two steps, as specified: the verification code is read from the SMS."""
        await self._ask("POST", "/api/v1/integrations/sms/send_verification_code", {"phone_number": PHONE})
        arrival = await self.receivers.wait_for("sms", None)
        self.say(f"  sms     {arrival.text}", "cyan")
        code = arrival.text.split()[0]
        return await self._create(KINDS["sms"], {"phone_number": PHONE, "verification_code": code})

    async def _slack(self) -> Any:
        """By consent. The stand-in has no page with an Allow button, so the demo returns from it at once."""
        consent = await self._ask("POST", "/api/v1/integrations/slack/initiate")
        back = {"code": "of-the-demo", "state": consent["state"]}
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.get(httpx.URL(consent["redirect_uri"]).copy_merge_params(back))
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise Failed(f"the redirect from Slack was answered with {answer.status_code}: {answer.text}")
        integrations = await self._ask("GET", "/api/v1/integrations")
        made = [each for each in integrations if each["type"] == KINDS["slack"]]
        if not made:
            raise Failed("no Slack integration was created")
        arrival = await self.receivers.wait_for("slack", None)
        self.say(f"  slack   {arrival.text}", "cyan")
        return made[0]

    async def _attach(self, made: Any, server: str, monitor: str) -> None:
        attach = {"integration_id": made["uuid"]}
        await self._ask("POST", f"/api/v1/servers/{server}/integrations", attach)
        await self._ask("POST", f"/api/v1/network_monitors/{monitor}/integrations", attach)
        self.say(f"{made['type']} to {made['name']}, attached to both")

    async def _dry_run(self) -> None:
        """A restart of a machine, up to the point of no return and not beyond."""
        kind = "Integrations::SshServerRestartIntegration"
        try:
            machine = self.machine.enter_context(ssh_host.host(self.folder / "ssh"))
        except ssh_host.Unavailable as error:
            self.say(f"{kind} is not shown: {error}", "yellow")
            return
        made = await self._create(
            kind,
            {"ip": "127.0.0.1", "port": machine.port, "username": machine.username, "private_key": machine.private_key},
        )
        self.say(f"{kind} to {made['name']}, not attached: a dry run")
        delivery = await self._ask("POST", f"/api/v1/integrations/{made['uuid']}/test")
        deadline = time.monotonic() + PATIENCE
        while not delivery["finished_at"]:
            if time.monotonic() > deadline:
                raise Failed("the dry run did not finish")
            await asyncio.sleep(0.05)
            delivery = await self._ask("GET", f"/api/v1/deliveries/{delivery['uuid']}")
        [attempt] = delivery["attempts"]
        # A machine's own configuration may not allow this login: that is not a failure of the demo.
        if delivery["status"] != "delivered":
            self.say(f"  ssh     the OpenSSH server here did not let the demo in: {attempt['error']}", "yellow")
            return
        self.say(f"  ssh     {attempt['response']}", "cyan")

    # ------------------------------------------------------------------------------------------------------ scenario

    async def _site_goes_down_and_comes_back(self) -> None:
        await self._checked_once()
        self.say("the site goes down", "bold red")
        await self.site.stop()
        await self._notified("ongoing", "Demo site", time.time(), "it went down")
        self.say("the site comes back", "bold green")
        await self.site.start()
        await self._notified("resolved", "Demo site", time.time(), "it came back")

    async def _checked_once(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while (await self._ask("GET", "/api/v1/network_monitors"))["data"][0]["status"] != "success":
            if time.monotonic() > deadline:
                raise Failed("the site was not reported as up")
            await asyncio.sleep(0.1)
        self.say("the site is up")

    async def _server_strains_and_recovers(self, server: str, threshold: float, alert: str) -> None:
        name = socket.gethostname()[:60]
        effort = "loading every CPU core" if alert == "cpu" else f"filling {HEADROOM:.0f} % of memory"
        self.say(f"{effort}, until it has been over {threshold:.0f} % for {SUSTAINED} s", "bold red")
        since = time.time()
        strain = _burn() if alert == "cpu" else _fill()
        lowered = asyncio.create_task(self._lower_threshold(server, alert))
        try:
            await self._notified("ongoing", name, since, "it started")
        finally:
            lowered.cancel()
            for process in strain:
                process.kill()
                process.wait()
        self.say("stopping the load", "bold green")
        raised = asyncio.create_task(self._raise_threshold(server, threshold, alert))
        try:
            await self._notified("resolved", name, time.time(), "the load stopped")
        finally:
            raised.cancel()

    async def _lower_threshold(self, server: str, alert: str) -> None:
        """Lowers the threshold if other work on this machine has ended meanwhile, so that it is not reached."""
        while True:
            await asyncio.sleep(12)
            found = await self._ask("GET", f"/api/v1/servers/{server}")
            latest = {name: each["value"] for name, each in found["last_metrics"].items()}
            used = latest["cpu_used"] if alert == "cpu" else 100 * latest["mem_used_b"] / found["memory_total_bytes"]
            threshold = max(1, int(used) - 1)
            self.say(f"the machine has less other work now: its threshold is lowered to {threshold} %")
            changed = {"server": {"alerts": {alert: {"threshold": threshold, "for": SUSTAINED}}}}
            await self._ask("PATCH", f"/api/v1/servers/{server}", changed)

    async def _raise_threshold(self, server: str, threshold: float, alert: str) -> None:
        """Raises the threshold if other work on this machine keeps it from recovering."""
        while threshold < 100:
            await asyncio.sleep(8)
            threshold = min(100.0, threshold + 10)
            self.say(f"the machine is busy with other work: its threshold is raised to {threshold:.0f} %")
            changed = {"server": {"alerts": {alert: {"threshold": threshold, "for": SUSTAINED}}}}
            await self._ask("PATCH", f"/api/v1/servers/{server}", changed)

    async def _notified(self, status: Status, name: str, since: float, fact: str) -> None:
        """Every receiver must be notified; prints when it was, since the event and since the commit."""
        arrivals = await asyncio.gather(*(self.receivers.wait_for(where, status, name) for where in KINDS))
        committed = await self._committed(status, name)
        for arrival in arrivals:
            fact_to_arrival = 1000 * (arrival.at - since)
            commit_to_arrival = 1000 * (arrival.at - committed[KINDS[arrival.where]])
            after = f"{fact_to_arrival:.0f} ms after {fact}, {commit_to_arrival:.0f} ms after the commit"
            self.say(f"  {arrival.where:7} {arrival.text}  [{after}]", "cyan")

    async def _committed(self, status: Status, name: str) -> dict[str, float]:
        """When the deliveries to each type were committed."""
        event = {"ongoing": "opened", "resolved": "resolved"}[status]
        listed = (await self._ask("GET", "/api/v1/incidents"))["data"]
        incident = next(each for each in listed if each["monitorable_name"] == name)
        deliveries = (await self._ask("GET", f"/api/v1/incidents/{incident['uuid']}/deliveries"))["data"]
        return {
            each["integration_type"]: datetime.fromisoformat(each["created_at"]).astimezone(UTC).timestamp()
            for each in deliveries
            if each["event"] == event
        }

    # -------------------------------------------------------------------------------------------------------- helpers

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, path, json=body, timeout=PATIENCE)
        if answer.is_error:
            raise Failed(f"{method} {path} was answered with {answer.status_code}: {answer.text}")
        return answer.json()

    def _start_child(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{arguments[0]}.log").open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 - ourselves
                _tocsin(*arguments), env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
            )
        self.children.append(child)
        return child

    def _last_log_line(self) -> str:
        logs = sorted(self.folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
        lines = logs[-1].read_text(errors="replace").strip().splitlines() if logs else []
        return lines[-1] if lines else "no output"

    def _stop_children(self) -> None:
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(12)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _tocsin(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tocsin", *arguments]


def _burn() -> list[subprocess.Popen[bytes]]:
    return [_python("while True: pass") for _ in range(psutil.cpu_count() or 1)]


def _fill() -> list[subprocess.Popen[bytes]]:
    """A process that really uses that much memory."""
    size = int(psutil.virtual_memory().total * HEADROOM / 100)
    return [_python(f"import time; held = b'x' * {size}; time.sleep(600)")]


def _python(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - only programs of this file
        [sys.executable, "-c", program], preexec_fn=die_with_parent(signal.SIGKILL)
    )



async def _ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


@click.command()
@click.option("--data-dir", hidden=True, help="Accepted by every command; the demo uses its own folder.")
def demo(data_dir: str | None) -> None:
    """Demonstrate Tocsin in under 30 s: a site goes down, a CPU is overloaded, and every integration is notified."""
    with tempfile.TemporaryDirectory(prefix="tocsin-demo-") as folder:
        show = Demo(Path(folder))
        asyncio.run(_interruptible(show.run()))
    show.say("done")


async def _interruptible(work: Any) -> None:
    """SIGTERM and Ctrl-C stop everything, even if a shell started the demo with SIGINT ignored."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        raise Failed("interrupted") from None
