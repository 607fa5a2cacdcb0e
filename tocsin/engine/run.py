"""One engine: its loops, its listening session, and its shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable

import structlog

from tocsin.checks.base import CheckContext
from tocsin.engine import (
    alerts,
    connectivity,
    domains,
    downtime,
    first_tries,
    heartbeats,
    inner_loop,
    monitor_checks,
    probes,
    reboot_watch,
    replays,
    sweep,
    turns,
)
from tocsin.engine import telegram as telegram_updates
from tocsin.engine.deliver import Deliverer
from tocsin.integrations.base import Transports
from tocsin.settings import Settings
from tocsin.storage.channels.restarts import Limits
from tocsin.storage.delivery import engines, leases
from tocsin.storage.delivery.queue import HAND_OFF_CHANNEL, TURNS_CHANNEL, WAKE_CHANNEL
from tocsin.storage.postgres import database
from tocsin.storage.postgres.database import UNAVAILABLE
from tocsin.storage.postgres.primary import Primary, WaitsForStandby
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.apprise.workers import Workers
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Http
from tocsin.transports.rdap import Rdap
from tocsin.transports.slack import Slack
from tocsin.transports.sms import sms_sender
from tocsin.transports.smtp import Mailer
from tocsin.transports.ssh import Ssh
from tocsin.transports.telegram import Telegram

log = structlog.get_logger(__name__)

CONNECTIONS = 6
HOUSEKEEPING_CONNECTIONS = 2
"""For all but deliveries and checks, so that what looks every second at the same moment does not take a session each: a
session ends up with the plans and the catalogue of all statements of its pool, up to 8 MB.
"""
KEEP = 10.0
"""Seconds that a connection is kept without use. The loops use one all the time; a burst opens the others again."""
HEARTBEAT = 1.0
DRAIN = 6.0
"""Seconds that running attempts get at shutdown."""
HOPE, TICK = 3.0, 0.2
"""Seconds at shutdown until a database that is away, or waits for a standby, is not waited for; how often it is asked.
"""
LATE_DRAIN = 2.0
"""Seconds that they get if the listening session was just lost."""
CONNECT_TIMEOUT = 4.0
"""Seconds that the listening session is waited for at a time, so that the end is not."""
LISTEN_TIMEOUT = 5.0
"""Seconds that its statements may take."""
ALIVE_ALL_THE_SAME = "SET synchronous_commit = local"
"""SQL: for heartbeats and returned leases, which are told again to a primary that does not know of them. So an engine
is alive while no standby confirms anything. Its number is not such a thing: nobody else may be given it.
"""
RESTART_PAUSE = 1.0
SAID_AGAIN = 60.0
"""Seconds until what keeps a loop from working is said again, if it is still the same."""
STAGGER = 0.05
"""Seconds from the start of one loop to that of the next: most look once a second, and take turns with a session."""


async def run(settings: Settings, dsn: str, public_url: str, stop: asyncio.Event) -> None:
    """Deliver, monitor and sweep until `stop` is set; then return what is in flight, within eight seconds."""
    began = time.monotonic()
    guard = Guard(settings.allow_networks)
    http = Http(guard)
    ssh = Ssh(Dialer(guard))
    sms = sms_sender(settings)
    slack = Slack(settings.slack) if settings.slack else None
    telegram = Telegram(settings.telegram_api_url)
    apprise = Workers(Dialer(guard))
    rdap = Rdap(settings.rdap_bootstrap, guard, monitor_checks.USER_AGENT)
    transports = Transports(
        http, Mailer(settings.smtp, settings.email_from, settings.outbox), public_url,
        ssh=ssh, sms=sms, slack=slack, telegram=telegram, apprise=apprise,
        restart_limits=Limits(settings.ssh_cooldown, settings.ssh_daily_limit),
    )  # fmt: skip
    vault = Vault(settings.secret_keys)
    name = f"engine, key {vault.key_id}"
    primary = Primary(dsn)
    pool = await database.pool(primary, size=CONNECTIONS, name=name, keep=KEEP)
    housekeeping = await database.pool(primary, size=HOUSEKEEPING_CONNECTIONS, name=name, keep=KEEP)
    deliverer = Deliverer(pool, vault, transports, settings.retry_schedule)
    to_decide = asyncio.Event()
    connected = connectivity.Connectivity(
        connectivity.targets(settings.connectivity),
        CheckContext(Dialer(Guard(EVERYWHERE)), monitor_checks.USER_AGENT),
    )
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "listen": lambda: _listen(primary, deliverer, to_decide, stop, began),
        "deliver": lambda: deliverer.claim_forever(stop),
        "turns": lambda: turns.run(pool, to_decide, stop),
        "monitor_checks": lambda: monitor_checks.run(
            pool, vault, guard, public_url, stop, deliverer.counters, connected
        ),
        "connectivity": lambda: connectivity.run(housekeeping, vault, connected, public_url, stop),
        "reboot_watch": lambda: reboot_watch.run(housekeeping, vault, ssh, stop),
        "telegram": lambda: telegram_updates.run(
            housekeeping, vault, telegram, public_url, stop, lambda: deliverer.number
        ),
        "replays": lambda: replays.run(housekeeping, settings.retention, stop),
        "downtime": lambda: downtime.run(housekeeping, public_url, stop, connected),
        "heartbeats": lambda: heartbeats.run(housekeeping, public_url, stop, connected),
        "domains": lambda: domains.run(housekeeping, rdap, public_url, stop, connected),
        "probes": lambda: probes.run(housekeeping, public_url, stop, connected),
        "alerts": lambda: alerts.run(housekeeping, stop, connected),
        "first_tries": lambda: first_tries.run(housekeeping, vault, settings.slo, public_url, stop),
        "inner_loop": lambda: inner_loop.run(
            housekeeping, vault, settings.heartbeat_url, settings.heartbeat_every, public_url, stop
        ),
        "sweep": lambda: sweep.run(
            housekeeping, deliverer, public_url=public_url, retention_raw=settings.retention_raw,
            retention_days=settings.retention, stop=stop,
        ),
    }  # fmt: skip
    ending = asyncio.create_task(_let_go(primary, stop))
    try:
        async with asyncio.TaskGroup() as group:
            for number, (name, loop) in enumerate(loops.items()):
                group.create_task(_keep_up(name, loop, stop, delay=STAGGER * number))
        await deliverer.drain(LATE_DRAIN)
    finally:
        ending.cancel()
        await http.close()
        await apprise.close()
        await rdap.close()
        if sms is not None:
            await sms.close()
        if slack is not None:
            await slack.close()
        await telegram.close()
        pool.terminate()
        housekeeping.terminate()


async def _let_go(primary: Primary, stop: asyncio.Event) -> None:
    """Once we are to stop, wait for a database that is of no use for a moment only."""
    await stop.wait()
    await asyncio.sleep(HOPE)
    while primary.trouble is None:  # noqa: ASYNC110 - nobody else needs to be told
        await asyncio.sleep(TICK)
    primary.close()


async def _keep_up(name: str, loop: Callable[[], Awaitable[None]], stop: asyncio.Event, *, delay: float) -> None:
    """Restart a loop whenever it fails: neither an unavailable database nor a bug stops it for good."""
    await asyncio.sleep(delay)
    said, said_at = "", 0.0
    while not stop.is_set():
        try:
            await loop()
        except UNAVAILABLE as error:
            words, now = f"{type(error).__name__}: {error}", time.monotonic()
            if words != said or now > said_at + SAID_AGAIN:
                log.warning("Database unavailable; retrying", loop=name, error=words)
                said, said_at = words, now
        except Exception:
            log.exception("Engine loop failed; restarting it", loop=name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTART_PAUSE):
                await stop.wait()


async def _listen(
    primary: Primary, deliverer: Deliverer, to_decide: asyncio.Event, stop: asyncio.Event, began: float
) -> None:
    """The session that shows that this engine is alive: it receives hand-offs and sends heartbeats. `began` is when the
    engine did, in monotonic time.

    After a lost session, hand-offs missed meanwhile are found by a query; at shutdown, all leases are returned.
    """
    if primary.waits_for_standby:  # a session that waits there is never ended, and more would wait behind it
        raise WaitsForStandby(primary.trouble)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        connection = await primary.connect(
            command_timeout=LISTEN_TIMEOUT, server_settings={"application_name": "tocsin engine listening"}
        )
    try:
        async with primary.watched(connection), connection.transaction():
            deliverer.number = await engines.register(
                connection, deliverer.number, socket.gethostname(), time.monotonic() - began
            )
        await connection.add_listener(WAKE_CHANNEL, lambda *_: deliverer.wake.set())
        await connection.add_listener(TURNS_CHANNEL, lambda *_: to_decide.set())
        await connection.add_listener(
            f"{HAND_OFF_CHANNEL}{deliverer.number}", lambda *arguments: deliverer.accept_payload(arguments[3])
        )
        await connection.execute(ALIVE_ALL_THE_SAME)
        await deliverer.return_unknown_leases(connection)
        deliverer.wake.set()
        while not stop.is_set():
            await engines.heartbeat(connection, deliverer.number, accepting=deliverer.accepting)
            if deliverer.unsure:
                await deliverer.return_unknown_leases(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await stop.wait()
        await engines.heartbeat(connection, deliverer.number, accepting=False)
        await deliverer.drain(DRAIN)
        await leases.return_leases(connection, await leases.leased(connection, deliverer.number))
        await engines.unregister(connection, deliverer.number)
    finally:
        connection.terminate()
