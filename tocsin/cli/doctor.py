"""`tocsin doctor`: checks everything that an installation depends on, and reports what is wrong."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiosmtplib
import asyncpg
import click

from tocsin import app
from tocsin.checks.base import CheckContext, run_check
from tocsin.cli.installation import CONNECT_TIMEOUT, asynchronous, unreachable
from tocsin.cli.options import data_dir_option
from tocsin.domain.database_hosts import hosts_of
from tocsin.domain.errors import Refused
from tocsin.domain.inner_loop import ROUNDS
from tocsin.domain.settings import Unusable
from tocsin.engine import connectivity
from tocsin.engine.monitor_checks import USER_AGENT
from tocsin.settings import Settings, load
from tocsin.storage.accounts import rotation
from tocsin.storage.delivery import engines, inner_loop
from tocsin.storage.monitoring import probes
from tocsin.storage.postgres import connecting, database, migrate, replication
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports import icmp, sms
from tocsin.transports.apprise.catalog import Catalog
from tocsin.transports.apprise.workers import Workers
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.slack import Slack, SlackRefused
from tocsin.transports.smtp_session import session

CLOCK_WARN, CLOCK_FAIL = 2.0, 30.0
"""Seconds by which this machine's clock may differ from the database's."""

PROBES = """
SELECT count(*) AS probes, array_agg(name ORDER BY name) FILTER (
    WHERE seen_at IS NULL OR seen_at < now() - make_interval(secs => $1)
) AS silent FROM probes WHERE revoked_at IS NULL
"""
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. Only `fail` is an error; `warn` is for a person to decide."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    words: str


@click.command()
@data_dir_option
@asynchronous
async def doctor(data_dir: Path | None) -> None:
    """Check configuration, database, mail, SMS, Slack, Apprise, clock, ping, connectivity. Exit 1 if one is wrong."""
    wrong = False
    async for finding in examine(data_dir):
        click.echo(f"{finding.verdict:<5} {finding.what:<14} {finding.words}")
        wrong = wrong or finding.verdict == "fail"
    if wrong:
        raise click.exceptions.Exit(1)


async def examine(data_dir: Path | None) -> AsyncIterator[Finding]:
    """All findings, one after the other. Sends no email and changes nothing."""
    try:
        settings = load(data_dir)
    except Unusable as error:
        yield Finding("fail", "configuration", str(error))
        return
    for finding in _configuration(settings):
        yield finding
    async for finding in _database(settings):
        yield finding
    yield await _mail(settings)
    yield await _sms(settings)
    yield await _slack(settings)
    yield await _apprise()
    yield ping()
    async for finding in _connectivity(settings):
        yield finding


def _configuration(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "configuration", f"{settings.env}, data in {settings.data_dir}")
    if settings.public_url is None and settings.production:
        yield Finding("warn", "public address", "TOCSIN_PUBLIC_URL is not set: links in emails point to this machine")
    if (settings.public_url or "").startswith("https://") and not settings.trusted_proxies:
        words = "TOCSIN_TRUSTED_PROXIES is not set: all clients of the proxy that terminates TLS count as one network"
        yield Finding("warn", "proxies", words)
    if not settings.secret_keys:
        yield Finding(
            "fail", "secret keys", "none: tocsin up creates them on its first start, or set TOCSIN_SECRET_KEYS"
        )
    elif settings.keys_file.exists() and stat.S_IMODE(settings.keys_file.stat().st_mode) & 0o077:
        yield Finding("warn", "secret keys", f"others can read {settings.keys_file}; run: chmod 600 on it")
    else:
        yield Finding("ok", "secret keys", f"{len(settings.secret_keys)} in use")


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    try:
        dsn = app.dsn(settings)
        connection = await connecting.connect(dsn)
    except (*database.UNAVAILABLE, asyncpg.PostgresError, ValueError) as error:
        yield Finding("fail", "database", unreachable(settings, error))
        return
    try:
        version = connection.get_server_version()
        if version.major < migrate.OLDEST_POSTGRESQL:
            yield Finding("fail", "database", f"PostgreSQL {version.major} is older than {migrate.OLDEST_POSTGRESQL}")
            return
        at = f" at {connection.host}" if connection.host is not None and settings.database_url else ""
        yield Finding("ok", "database", f"PostgreSQL {version.major}.{version.minor} answers{at}")
        try:
            current = await migrate.is_current(dsn)
        except (Refused, Unusable) as error:
            yield Finding("fail", "migrations", str(error))
            return
        if not current:
            yield Finding("fail", "migrations", "migrations are pending; run: tocsin migrate")
            return
        yield Finding("ok", "migrations", "up to date")
        for finding in await _standbys(connection, dsn):
            yield finding
        yield await _sealed(connection, settings)
        yield await _engines(connection)
        yield await _inner_loop(connection, settings)
        yield await _clock(connection)
        yield await _probes(connection)
    finally:
        await connection.close()


async def _standbys(connection: asyncpg.Connection, dsn: str) -> list[Finding]:
    """Only where there are some, or several hosts say that there should be."""
    hosts, known = len(hosts_of(dsn)), await replication.read(connection)
    if hosts < 2 and not known.standbys:
        return []
    found = [Finding("ok", "standbys", replication.in_words(known))] if known.hidden is None else []
    return [*found, *(Finding("warn", "replication", words) for words in known.warnings(hosts))]


async def _sealed(connection: asyncpg.Connection, settings: Settings) -> Finding:
    if not settings.secret_keys:
        return Finding("ok", "stored secrets", "there are no keys to try them with")
    try:
        await rotation.require_fitting(connection, Vault(settings.secret_keys))
    except Unusable as error:
        return Finding("fail", "stored secrets", str(error))
    return Finding("ok", "stored secrets", "the keys decrypt them")


async def _engines(connection: asyncpg.Connection) -> Finding:
    living = await engines.living(connection)
    if living:
        each = (f"{engine.number} on {engine.machine} since {engine.since:%Y-%m-%d %H:%M:%S} UTC" for engine in living)
        return Finding("ok", "engine", f"{len(living)} running: {', '.join(each)}")
    return Finding("warn", "engine", "none is running, so nothing is delivered; start one with: tocsin engine")


async def _inner_loop(connection: asyncpg.Connection, settings: Settings) -> Finding:
    loop, late = await inner_loop.state(connection), settings.heartbeat_every * ROUNDS
    if loop.ago is None or loop.took is None:
        tried = await inner_loop.tried_for(connection)
        if tried is None or tried <= late:
            words = f"has not gone through yet; it does once an engine has run for {late:g} s"
            return Finding("ok", "inner loop", words)
        return Finding("warn", "inner loop", f"has not gone through in the {tried:.0f} s since it was first tried")
    words = f"an incident was opened, delivered and resolved {loop.ago:.0f} s ago, in {loop.took * 1000:.0f} ms"
    rhythm = f"every {settings.heartbeat_every:g} s"
    if loop.ago > late:
        return Finding("warn", "inner loop", f"{words}, and not since; it is tried {rhythm}")
    if settings.heartbeat_url is None:
        return Finding("ok", "inner loop", f"{words}; set TOCSIN_HEARTBEAT_URL to have others see that it stops")
    if loop.called_ago is None or loop.called_ago > late:
        words = f"{words}; no engine calls TOCSIN_HEARTBEAT_URL, which is set here: restart them with it"
        return Finding("warn", "inner loop", words)
    if loop.call_problem is not None:
        return Finding("warn", "inner loop", f"{words}; TOCSIN_HEARTBEAT_URL cannot be called: {loop.call_problem}")
    return Finding("ok", "inner loop", f"{words}; TOCSIN_HEARTBEAT_URL is called")


async def _clock(connection: asyncpg.Connection) -> Finding:
    before = time.time()
    theirs = await connection.fetchval(CLOCK)
    after = time.time()
    away = max(before - theirs, theirs - after, 0.0)
    words = f"{away:.1f} s between this machine's clock and the database's"
    if away > CLOCK_FAIL:
        return Finding("fail", "clock", f"{words}; synchronize both with a time server")
    return Finding("warn" if away > CLOCK_WARN else "ok", "clock", words)


async def _probes(connection: asyncpg.Connection) -> Finding:
    row = await connection.fetchrow(PROBES, float(probes.SILENT_AFTER))
    if not row["probes"]:
        return Finding("ok", "probes", "none; tocsin probe add NAME makes one, to check from several places")
    if row["silent"]:
        return Finding("warn", "probes", f"not heard of: {', '.join(row['silent'])}; see tocsin probe list")
    return Finding("ok", "probes", f"{row['probes']} heard of")


async def _mail(settings: Settings) -> Finding:
    if settings.smtp is None:
        verdict: Literal["ok", "warn"] = "warn" if settings.production else "ok"
        return Finding(verdict, "mail", f"TOCSIN_SMTP_URL is not set: email is written to {settings.outbox}")
    smtp = settings.smtp
    try:
        async with session(smtp, CONNECT_TIMEOUT) as client:
            await client.noop()
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        return Finding("fail", "mail", f"{smtp.host}:{smtp.port} does not accept our email: {words}")
    words = f"{smtp.host}:{smtp.port} answers{' and accepts the password' if smtp.username else ''}"
    return Finding("warn", "mail", f"{words}; {smtp.exposure}") if smtp.exposure else Finding("ok", "mail", words)


async def _sms(settings: Settings) -> Finding:
    if (sms_sender := sms.sms_sender(settings)) is None:
        return Finding("ok", "sms", "off; set TOCSIN_SMS_PROVIDER to enable it")
    try:
        words = await sms_sender.provider.check()
    except sms.SmsRefused as error:
        return Finding("fail", "sms", str(error))
    finally:
        await sms_sender.close()
    return Finding("warn" if settings.sms == "outbox" and settings.production else "ok", "sms", words)


async def _connectivity(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.connectivity:
        words = "TOCSIN_CONNECTIVITY is not set: if our own line fails, every monitor seems down; set 2 or 3 targets"
        yield Finding("warn" if settings.production else "ok", "connectivity", words)
        return
    context = CheckContext(Dialer(Guard(EVERYWHERE)), USER_AGENT)
    for target in connectivity.targets(settings.connectivity):
        result = await run_check(target, context)
        words = "answers" if connectivity.answers(result) else f"does not answer: {result.message}"
        yield Finding("ok" if connectivity.answers(result) else "fail", "connectivity", f"{target.url} {words}")


def ping() -> Finding:
    """Whether this process could run `ping` checks."""
    try:
        return Finding("ok", "ping", f"checks can ping, by {icmp.way()} sockets")
    except icmp.NotAllowed as error:
        return Finding("warn", "ping", f"{error}; only ping checks are affected")


async def _slack(settings: Settings) -> Finding:
    if settings.slack is None:
        names = "TOCSIN_SLACK_CLIENT_ID, TOCSIN_SLACK_CLIENT_SECRET and TOCSIN_SLACK_SIGNING_SECRET"
        return Finding("ok", "slack", f"off; set {names} to enable it")
    client = Slack(settings.slack)
    try:
        words = await client.check()
    except SlackRefused as error:
        return Finding("fail", "slack", str(error))
    finally:
        await client.close()
    if not (settings.public_url or "").startswith("https:") and settings.production:
        return Finding("warn", "slack", f"{words}; it only redirects to https, so set TOCSIN_PUBLIC_URL to https")
    return Finding("ok", "slack", words)


async def _apprise() -> Finding:
    workers = Workers(None)
    try:
        found = await Catalog(workers).services()
    except Refused as refusal:
        return Finding("warn", "apprise", f"{refusal.message}; only integrations through it are affected")
    finally:
        await workers.close()
    return Finding("ok", "apprise", f"{len(found)} services")
