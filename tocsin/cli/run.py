"""`tocsin run`: runs a command and reports to its heartbeat when it began, how it ended, and what it said last."""

from __future__ import annotations

from typing import IO
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

SEEN = "everybody on this machine can read a --heartbeat: use TOCSIN_HEARTBEAT or --heartbeat-file instead"


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--heartbeat", envvar="TOCSIN_HEARTBEAT", metavar="URL", help="Where to report: a heartbeat's ping_url.")
@click.option("--heartbeat-file", type=click.File(), metavar="FILE", help="A file with that address; - is input.")
@click.option(
    "--patience", type=click.FloatRange(0, 3_600), default=60, show_default=True,
    help="Seconds for which the report of the end is tried again while the service is away.",
)  # fmt: skip
@click.option("--no-output", is_flag=True, help="Report nothing of what the command says.")
@click.option("--data-dir", hidden=True, help="Accepted by every command; this one stores no data.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context, heartbeat: str | None, heartbeat_file: IO[str] | None, patience: float,
    no_output: bool, data_dir: str | None, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run COMMAND and report it to a heartbeat: start, end, duration, exit status, last output.

    The exit status is the command's own, whatever becomes of the reports. Signals are passed on to it.

        tocsin run --heartbeat-file /etc/backup.heartbeat -- /usr/local/bin/backup --all
    """
    from tocsin.cli import job

    given = heartbeat_file.read(4_096) if heartbeat_file is not None else heartbeat
    url = (given or "").strip()
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        known = False
    if not known:
        raise click.UsageError("needs the ping_url of a heartbeat: --heartbeat-file FILE, or TOCSIN_HEARTBEAT")
    if heartbeat_file is None and context.get_parameter_source("heartbeat") is ParameterSource.COMMANDLINE:
        job.say(SEEN)
    context.exit(job.run(url, command, patience=patience, output=not no_output))
