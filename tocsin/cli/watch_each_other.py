"""`tocsin watch-each-other`: two installations, of which each notices when the other no longer works."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

import asyncpg
import click
import msgspec
from click.core import ParameterSource

from tocsin import __version__, app
from tocsin.actions import heartbeats as actions
from tocsin.actions.base import operator
from tocsin.cli import installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import settings_option
from tocsin.domain import heartbeats as rules
from tocsin.domain import urls
from tocsin.domain.heartbeats import HeartbeatConfig, Schedule
from tocsin.domain.settings import Unusable
from tocsin.settings import Settings
from tocsin.storage.monitoring import heartbeats, probes
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Answer, Http, Unreachable

PERIOD = GRACE = 60.0
"""Seconds: a call comes every 30, and two may get lost."""
KEEP_ANSWER = 1 << 20
MAX_TOKEN_FILE = 4_096
SEEN = "everybody on this machine can read a --token: use TOCSIN_OTHER_TOKEN or --token-file instead"
SET_HERE = "Put this into the settings of this installation, and restart its engines:"
SET_THERE = "And this into those of {url}, and restart its engines:"
ASK_THERE = "No token was given. For the other half, run there: tocsin watch-each-other {ours}"


@click.command()
@click.argument("url")
@click.option("--token", envvar="TOCSIN_OTHER_TOKEN", metavar="TOKEN", help="The API token of a project there.")
@click.option("--token-file", type=click.File(), metavar="FILE", help="A file with it; - is input.")
@click.option("--project", metavar="PROJECT", help="Where the heartbeat is made.  [default: the operator's]")
@click.option("--yes", is_flag=True, help="Do not ask before anything is made.")
@settings_option
@click.pass_context
def watch_each_other(
    context: click.Context, url: str, token: str | None, token_file: IO[str] | None, project: str | None, yes: bool,
    settings: Settings,
) -> None:  # fmt: skip
    """Have this installation and the one at URL watch each other.

    Makes a heartbeat here and, with the token of a project there, one there; then says which TOCSIN_HEARTBEAT_URL each
    is to have. What is there already is used again. Without a token, it asks for one, or does only this half.
    """
    url = _checked(url)
    if token_file is None and token and context.get_parameter_source("token") is ParameterSource.COMMANDLINE:
        click.echo(f"tocsin: {SEEN}", err=True)
    given = (token_file.read(MAX_TOKEN_FILE) if token_file is not None else token or "").strip()
    asking = sys.stdin.isatty()
    if not given and asking and token_file is None:
        words = f"API token of a project at {url} (empty: only this half)"
        given = str(click.prompt(words, default="", show_default=False, hide_input=True, err=True)).strip()
    if given and not (given.isascii() and given.isprintable() and " " not in given):
        raise click.UsageError("the token must be one word")
    ours = app.noted_url(settings)
    if _is_of_one_machine(ours) and not _is_of_one_machine(url):
        raise Unusable("TOCSIN_PUBLIC_URL", f"must be set first: to {url}, {ours} is its own machine")
    click.echo(f"Here:  the heartbeat {_name(url)!r} is made unless it is there, expected every minute", err=True)
    if given:
        click.echo(f"There: the heartbeat {_name(ours)!r} is made unless it is there, in the token's project", err=True)
    if asking and not yes:
        click.confirm("Go on?", abort=True, err=True)
    _do(url, ours, given, project, settings)


@asynchronous
async def _do(url: str, ours: str, token: str, project: str | None, settings: Settings) -> None:
    theirs = await _there(url, token, _name(ours)) if token else None
    here = f"{ours}/ping/{await _here(settings, project, _name(url))}"
    if theirs is not None and theirs == settings.heartbeat_url:
        click.echo("TOCSIN_HEARTBEAT_URL is what it must be here.")
    elif theirs is not None:
        click.echo(f"{SET_HERE}\n    TOCSIN_HEARTBEAT_URL={theirs}")
    click.echo(f"{SET_THERE.format(url=url)}\n    TOCSIN_HEARTBEAT_URL={here}")
    if theirs is None:
        click.echo(ASK_THERE.format(ours=ours))


async def _here(settings: Settings, project: str | None, name: str) -> str:
    """The key of the heartbeat of that name here."""
    vault = installation.vault(settings)
    async with connected(settings, vault) as tx, tx.transaction():
        owner = await probes.operators_project(tx) if project is None else installation.project_id(project)
        if owner is None:
            raise click.ClickException("There is no project of an operator: name one with --project")
        slug = rules.slug_of(name)
        found, _ = await heartbeats.list_(tx, vault, owner, search=slug or "", sort="name", limit=100, offset=0)
        same = [each for each in found if each.wanted.slug == slug]
        if same:
            return same[0].ping_key
        try:
            wanted = HeartbeatConfig(name, slug, Schedule(period=PERIOD, grace=GRACE))
            return (await actions.create(tx, operator(owner), vault, wanted)).ping_key
        except asyncpg.ForeignKeyViolationError:
            raise click.ClickException(installation.no_project(project or "")) from None


async def _there(url: str, token: str, name: str) -> str:
    """The address of the heartbeat of that name there."""
    http = Http(Guard(EVERYWHERE), keep=KEEP_ANSWER)
    path, slug = f"{url}/api/v1/heartbeats", rules.slug_of(name)
    headers = {
        "Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": f"Tocsin/{__version__}"
    }  # fmt: skip
    try:
        asked = urlencode({"search": slug, "per_page": 100})
        found = _read(url, await http.request("GET", f"{path}?{asked}", b"", headers))
        same = [each for each in found.get("data", []) if each.get("slug") == slug]
        if not same:
            wanted = {"heartbeat": {"name": name, "slug": slug, "period": PERIOD, "grace": GRACE}}
            same = [_read(url, await http.post(path, msgspec.json.encode(wanted), headers))]
        return str(same[0]["ping_url"])
    except Unreachable as error:
        raise click.ClickException(f"{url} cannot be reached: {error}") from None
    except (msgspec.DecodeError, KeyError, AttributeError, TypeError):
        raise click.ClickException(f"{url} does not answer as a Tocsin does") from None
    finally:
        await http.close()


def _read(url: str, answer: Answer) -> dict[str, Any]:
    if answer.status in (401, 403):
        raise click.ClickException(f"{url} does not accept this token; it must be one of a project there")
    if not 200 <= answer.status < 300:
        raise click.ClickException(f"{url} answers {answer.status} to the API of Tocsin")
    return msgspec.json.decode(answer.text, type=dict[str, Any])


def _checked(url: str) -> str:
    try:
        read = urls.read(url)
        if read.scheme in urls.PORTS and not read.has_login:
            return url.rstrip("/")
    except ValueError:
        pass
    raise click.UsageError("URL must be an address such as https://tocsin.example.com")


def _is_of_one_machine(url: str) -> bool:
    """Whether an address leads everybody to their own machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _name(url: str) -> str:
    """A heartbeat's name for the installation at that address."""
    return f"Tocsin at {url.partition('://')[2]}"
