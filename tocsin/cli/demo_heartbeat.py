"""The demo's third act: a job that reports once, and then does not."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from tocsin.cli.demo_notifying import Ask, Say, hook
from tocsin.cli.demo_receivers import DemoReceivers, Failed

NAME = "nightly-job"
PERIOD, GRACE = 2, 1
"""Seconds."""


async def begin(ask: Ask, say: Say, receivers: DemoReceivers) -> str:
    """A job runs under `tocsin run`, and is expected again. Returns its ping address. Raises `Failed`."""
    wanted = {"name": NAME, "period": PERIOD, "grace": GRACE}
    made = await ask("POST", "/api/v1/heartbeats", {"heartbeat": wanted})
    attach = {"integration_id": await hook(ask, receivers, "hook")}
    await ask("POST", f"/api/v1/heartbeats/{made['uuid']}/integrations", attach)
    await _run(made["ping_url"])
    pings = (await ask("GET", f"/api/v1/heartbeats/{made['uuid']}/pings"))["data"]
    took = next((each["duration_ms"] for each in pings if each["kind"] == "success"), None)
    if took is None:
        raise Failed("the job's report did not arrive")
    say(f"a job has run under `tocsin run` ({took:.0f} ms), and must report again within {PERIOD} s and {GRACE} s more")
    return str(made["ping_url"])


async def show(say: Say, receivers: DemoReceivers, url: str) -> None:
    """It is missed, and comes back."""
    arrival = await receivers.wait_for("webhook", "ongoing", NAME)
    say("the job has not run again", "bold red")
    say(f"  webhook {arrival.text}", "cyan")
    await _run(url)
    arrival = await receivers.wait_for("webhook", "resolved", NAME)
    say("it runs again", "bold green")
    say(f"  webhook {arrival.text}", "cyan")


async def _run(url: str) -> None:
    job: Any = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tocsin", "run", "--", sys.executable, "-c", "pass",
        env={**os.environ, "TOCSIN_HEARTBEAT": url},
    )  # fmt: skip
    if await job.wait():
        raise Failed("the job failed")
