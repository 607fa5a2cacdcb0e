"""`tocsin agent`: runs the same file that machines without Tocsin download (`web/static/agent.py`)."""

from __future__ import annotations

import click
from click.core import ParameterSource

from tocsin import __version__
from tocsin.web.static import agent as program

SEEN = "everybody on this machine can read a --token: use TOCSIN_TOKEN or --token-file instead"


@click.command()
@click.option("--url", required=True, help="Address of the service, such as https://tocsin.example.com.")
@click.option("--token-file", metavar="FILE", help="File with the API token; - is standard input.")
@click.option("--token", envvar="TOCSIN_TOKEN", default="", help="The token; everybody on this machine can read it.")
@click.option("--interval", type=float, default=60, show_default=True, help="Seconds.")
@click.option("--once", is_flag=True, help="Send one report and exit; status 1 if it was not accepted.")
@click.option("--data-dir", hidden=True, help="Accepted by every command; the agent stores no data.")
@click.pass_context
def agent(
    context: click.Context, url: str, token: str, token_file: str | None, interval: float, once: bool,
    data_dir: str | None,
) -> None:
    """Send this machine's CPU, memory, swap, load, disk and network figures to Tocsin.

    The project's API token is read from --token-file, else from the environment variable TOCSIN_TOKEN.
    """
    arguments = ["--url", url, "--interval", str(interval)]
    if token_file is not None:
        arguments += ["--token-file", token_file]
    if once:
        arguments.append("--once")
    seen = context.get_parameter_source("token") is ParameterSource.COMMANDLINE
    context.exit(program.main(arguments, {"TOCSIN_TOKEN": token}, __version__, SEEN if seen else ""))
