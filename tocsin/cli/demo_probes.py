"""The demo's act with several places: two probes that see a site well, and a third that does not."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tocsin.cli.demo_notifying import Ask, Say, hook
from tocsin.cli.demo_receivers import PATIENCE, DemoReceivers, Failed, Site, Status
from tocsin.storage.postgres.children import die_with_parent

NAME = "Site from three places"
PLACES = ("wien", "graz", "linz")
STRICT = PLACES[-1]
"""Its own guard forbids it the addresses of this machine, so that it sees nothing."""
END = 10.0


class Probes:
    """Three probes, and a site of their own. `start`, then `show`, and `stop` whatever happens."""

    def __init__(
        self, ask: Ask, say: Say, receivers: DemoReceivers, folder: Path, url: str, environ: Mapping[str, str]
    ) -> None:
        self._ask = ask
        self._say = say
        self._receivers = receivers
        self._folder = folder
        self._url = url
        self._environ = environ
        self._site = Site()
        self._children: list[subprocess.Popen[bytes]] = []
        self._uuid = ""

    async def start(self) -> None:
        await self._site.start()
        for name, token in zip(PLACES, await asyncio.gather(*map(self._add, PLACES)), strict=True):
            self._run(name, token)
        wanted = {
            "name": NAME, "url": self._site.url, "interval": 1, "timeout": 5, "confirmations": 2, "locations": PLACES,
        }  # fmt: skip
        self._uuid = (await self._ask("POST", "/api/v1/network_monitors", {"network_monitor": wanted}))["uuid"]
        attach = {"integration_id": await hook(self._ask, self._receivers, "places")}
        await self._ask("POST", f"/api/v1/network_monitors/{self._uuid}/integrations", attach)

    async def show(self) -> None:
        """They disagree, and nothing follows; then the site is really gone. Raises `Failed`."""
        self._say("a site is checked by three probes, of which one does not get to it", "bold red")
        for each in await self._seen():
            self._say(f"  from {each['place']}: {each['message'] or 'all is well'}", "cyan")
        shown = await self._ask("GET", f"/api/v1/network_monitors/{self._uuid}")
        if shown["open_incident_uuids"]:
            raise Failed("one place of three opened an incident")
        self._say("  one of three is no majority: nobody is told", "cyan")
        await self._site.stop()
        await self._told("ongoing")
        await self._site.start()
        await self._told("resolved")

    async def stop(self) -> None:
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, END)
            child.kill()
        await self._site.stop()

    async def _add(self, name: str) -> str:
        made: Any = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tocsin", "probe", "add", name, env=self._environ, stdout=subprocess.PIPE
        )
        out, _ = await made.communicate()
        if made.returncode:
            raise Failed(f"the probe {name} could not be added")
        return str(out.decode().strip())

    def _run(self, name: str, token: str) -> None:
        environ = {**self._environ, "TOCSIN_PROBE_TOKEN": token, "TOCSIN_PROBE_URL": self._url}
        if name == STRICT:
            environ["TOCSIN_ENV"] = "production"
        with (self._folder / f"probe-{name}.log").open("wb") as log:
            self._children.append(subprocess.Popen(
                [sys.executable, "-m", "tocsin", "probe"], env=environ, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
            ))  # fmt: skip

    async def _seen(self) -> list[dict[str, Any]]:
        """What each place sees, once all have looked."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    shown = await self._ask("GET", f"/api/v1/network_monitors/{self._uuid}")
                    places: list[dict[str, Any]] = shown["places"]
                    if all(each["last_check"] for each in places):
                        return places
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise Failed("not all probes have checked the site") from None

    async def _told(self, status: Status) -> None:
        arrival = await self._receivers.wait_for("webhook", status, NAME)
        self._say(f"  webhook {arrival.text}", "cyan")
