"""`tocsin probe`: checks monitors from where it runs, for a service elsewhere; and the probes that there are."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import IO

import asyncpg
import click
from click.core import ParameterSource

from tocsin.cli import files, installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import data_dir_option, settings_option
from tocsin.domain import ids, urls
from tocsin.settings import Settings, load

SEEN = "everybody on this machine can read a --token: use TOCSIN_PROBE_TOKEN or --token-file instead"
REVOKED = "the service does not know this token, or not any more: tocsin probe add NAME prints one, where it runs"
MAX_TOKEN_FILE = 4_096
KEEP_ANSWER = 32 << 20
WITHIN = 45.0
"""Seconds that an answer may take: longer than the service holds a request."""


@click.group(invoke_without_command=True)
@click.option("--url", envvar="TOCSIN_PROBE_URL", metavar="URL", help="Where the service is.")
@click.option("--token", envvar="TOCSIN_PROBE_TOKEN", metavar="TOKEN", help="What `tocsin probe add` printed.")
@click.option("--token-file", type=click.File(), metavar="FILE", help="A file with the token; - is input.")
@data_dir_option
@click.pass_context
def probe(
    context: click.Context, url: str | None, token: str | None, token_file: IO[str] | None, data_dir: str | None
) -> None:
    """Check monitors from here, for a service elsewhere.

    It connects to the service, never the other way, and may check what TOCSIN_ALLOW_NETWORKS says where it runs.

        tocsin probe --url https://tocsin.example.com --token-file /etc/tocsin-probe.token
    """
    if context.invoked_subcommand is not None:
        return
    given = (token_file.read(MAX_TOKEN_FILE) if token_file is not None else token or "").strip()
    if not url or not given:
        raise click.UsageError("needs --url and --token-file (or TOCSIN_PROBE_URL and TOCSIN_PROBE_TOKEN)")
    try:
        known = urls.read(url).scheme in ("http", "https")
    except ValueError:
        known = False
    if not known or not given.isascii() or not given.isprintable() or " " in given:
        raise click.UsageError("--url must be an address such as https://tocsin.example.com, and the token one word")
    if token_file is None and context.get_parameter_source("token") is ParameterSource.COMMANDLINE:
        click.echo(f"tocsin: {SEEN}", err=True)
    if not _run(url, given, load(data_dir)):
        raise click.ClickException(REVOKED)


def _run(url: str, token: str, settings: Settings) -> bool:
    """Until a signal comes; returns False where the token is not known."""
    files.allow_many()
    import uvloop

    from tocsin import __version__
    from tocsin.checks.base import CheckContext
    from tocsin.cli import logs
    from tocsin.cli.probing import Prober, Revoked
    from tocsin.cli.serve import stop_on_signals
    from tocsin.transports.dial import Dialer
    from tocsin.transports.guard import EVERYWHERE, Guard
    from tocsin.transports.http import Http

    logs.set_up("probe", settings.log_level)

    async def run() -> bool:
        stop = asyncio.Event()
        stopping = stop_on_signals()
        stopping.add_done_callback(lambda _: stop.set())
        http = Http(Guard(EVERYWHERE), keep=KEEP_ANSWER, patience=WITHIN, within=WITHIN)
        context = CheckContext(Dialer(Guard(settings.allow_networks)), f"Tocsin/{__version__}")
        try:
            await Prober(url, token, http, context).run(stop)
        except Revoked:
            return False
        finally:
            await http.close()
        return True

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


@probe.command()
@click.argument("name")
@click.option("--only", metavar="PROJECT", help="Only monitors of this project may use it.")
@click.option("--project", metavar="PROJECT", help="Whose incident it is if it is silent.  [default: the operator's]")
@settings_option
@asynchronous
async def add(name: str, only: str | None, project: str | None, settings: Settings) -> None:
    """Make a probe and print its token, which is not shown again.

    The token is all that a probe needs, and it opens nothing else. A name that was revoked gets a new one.
    """
    from tocsin.actions import probes as actions
    from tocsin.actions.base import INSTALLATION, operator

    vault = installation.vault(settings)
    owner = INSTALLATION if project is None else installation.project_id(project)
    only_project = None if only is None else installation.project_id(only)
    try:
        async with connected(settings, vault) as tx, tx.transaction():
            made = await actions.create(tx, operator(owner), vault, name, only_project)
    except asyncpg.ForeignKeyViolationError:
        raise click.ClickException(installation.no_project(only or project or "")) from None
    click.echo(made.token)
    if sys.stdout.isatty():
        click.echo(f"Put it into a file where {made.name} is to run: tocsin probe --token-file FILE", err=True)


@probe.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array and nothing else.")
@settings_option
@asynchronous
async def list_(as_json: bool, settings: Settings) -> None:
    """List the probes, and when each was last heard of."""
    import msgspec

    from tocsin.storage.monitoring import probes

    async with connected(settings) as tx:
        found = await probes.list_(tx)
    if as_json:
        rows = [
            {"uuid": ids.public(ids.PROBE, each.id), "name": each.name, "version": each.version,
             "seen_at": each.seen_at, "created_at": each.created_at,
             "only_project": None if each.only_project is None else ids.public(ids.PROJECT, each.only_project)}
            for each in found
        ]  # fmt: skip
        click.echo(msgspec.json.encode(rows))
        return
    for each in found:
        click.echo(f"{each.name}  {_seen(each.seen_at)}{f', version {each.version}' if each.version else ''}")


@probe.command()
@click.argument("name")
@settings_option
@asynchronous
async def revoke(name: str, settings: Settings) -> None:
    """Revoke a probe's token, at once. Its monitors are checked from their other places."""
    from tocsin.actions import probes as actions
    from tocsin.actions.base import operator

    async with connected(settings) as tx, tx.transaction():
        done = await actions.revoke(tx, operator(), name)
    click.echo(f"Revoked {done.name}; it checked {done.monitors} monitors")
    if done.unchecked:
        click.echo(f"{done.unchecked} of them are not checked from anywhere now: change their locations", err=True)


def _seen(at: datetime | None) -> str:
    if at is None:
        return "never heard of"
    return f"heard of {max(0, int((datetime.now(UTC) - at).total_seconds()))} s ago"
