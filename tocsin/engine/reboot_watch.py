"""Watches whether machines come back after a restart. The result is recorded with the delivery; failures notify people.

A machine is back if it reports another boot than before; or if, after it stopped answering, it accepts a login or its
agent reports again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

import asyncpg

from tocsin.domain import boots
from tocsin.domain.incidents import format_duration
from tocsin.integrations.ssh_server_restart import boot_id, login
from tocsin.storage.channels import restarts
from tocsin.storage.channels.integrations import Sendable, sendable
from tocsin.storage.channels.restarts import WATCH, WatchedReboot
from tocsin.storage.delivery import health
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.ssh import Ssh, SshFailed

BATCH = 20
PAUSE = 1.0
PROBE_INTERVAL = 5.0
LOOK_TIMEOUT = 4.0
CLEAN_EVERY = 3600.0

Seen = Literal["back", "up", "silent", "unclear"]
"""Another boot; the same boot, or an unknown one; nothing answers; something answers but accepts no login."""


async def run(pool: asyncpg.Pool, vault: Vault, ssh: Ssh, stop: asyncio.Event) -> None:
    """Probe until `stop`. Any number of engines may do so at once."""
    clean_at = 0.0
    while not stop.is_set():
        now = asyncio.get_running_loop().time()
        async with pool.acquire() as tx, tx.transaction():
            if now >= clean_at:
                await restarts.forget_old(tx)
                clean_at = now + CLEAN_EVERY
            due = await restarts.take_watched(tx, BATCH, PROBE_INTERVAL)
            to = await sendable(tx, vault, {each.integration_id for each in due}) if due else {}
        await asyncio.gather(*(_follow(pool, ssh, each, to.get(each.integration_id)) for each in due))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE):
                await stop.wait()


async def _follow(pool: asyncpg.Pool, ssh: Ssh, watched: WatchedReboot, to: Sendable | None) -> None:
    seen = "unclear" if to is None or to.failure is not None else await _look(ssh, watched, to)
    async with pool.acquire() as tx, tx.transaction():
        await _conclude(tx, watched, seen, deleted=to is None)


async def _look(ssh: Ssh, watched: WatchedReboot, to: Sendable) -> Seen:
    try:
        async with (
            asyncio.timeout(LOOK_TIMEOUT),
            ssh.login(login(to.settings), to.settings.get("host_key")) as session,
        ):
            found = await boot_id(session)
    except TimeoutError:
        return "silent"
    except SshFailed as error:
        return "silent" if error.retry == "scheduled" else "unclear"
    restarted = boots.rebooted(watched.boot_id, found)
    if restarted is not None:
        return "back" if restarted else "up"
    return "back" if watched.silent_at is not None else "up"


async def _conclude(tx: Tx, watched: WatchedReboot, seen: Seen, *, deleted: bool) -> None:
    since = await tx.fetchval("SELECT clock_timestamp()") - watched.sent_at
    if seen != "back" and watched.silent_at is not None and watched.incident_id is not None:
        reported = await restarts.reported_since(tx, watched.incident_id, watched.silent_at)
        seen = "back" if reported and seen != "up" else seen
    if seen == "back":
        await restarts.end_watch(tx, watched.delivery_id, f"back after {format_duration(since.total_seconds())}")
    elif deleted:
        await restarts.end_watch(tx, watched.delivery_id, "no longer watched: the integration was deleted")
    elif since > WATCH:
        after = format_duration(WATCH.total_seconds())
        remark = f"not restarted after {after}: it still runs as before" if seen == "up" else f"not back after {after}"
        if await restarts.end_watch(tx, watched.delivery_id, remark):
            await health.notify_people(
                tx, watched.project_id,
                f"{watched.target} was told to restart and is {remark}. Please look at the machine.",
                exclude=watched.integration_id,
            )  # fmt: skip
    elif seen == "silent":
        await restarts.mark_unreachable(tx, watched.delivery_id)
