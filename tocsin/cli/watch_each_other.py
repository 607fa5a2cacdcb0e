"""`tocsin watch-each-other`: two installations, of which each notices when the other no longer works."""

from __future__ import annotations

import re
import sys
from typing import IO, TypeVar
from urllib.parse import urlencode

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
from tocsin.domain import installations
from tocsin.domain.heartbeats import HeartbeatConfig, Schedule
from tocsin.domain.installations import Installation
from tocsin.domain.settings import Unusable, heartbeat_url
from tocsin.settings import Settings
from tocsin.storage.monitoring import heartbeats, probes
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Answer, Http, Unreachable

PERIOD = GRACE = 60.0
"""Seconds: a call comes every 30, and two may get lost."""
KEEP_ANSWER = 1 << 20
MAX_TOKEN_FILE = 4_096
PLAIN = re.compile(r"[A-Za-z0-9:/._~%\[\]-]+")
"""An address of which nothing means anything to a shell."""
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
    theirs, ours = _checked(url, settings)
    if token_file is None and token and context.get_parameter_source("token") is ParameterSource.COMMANDLINE:
        click.echo(f"tocsin: {SEEN}", err=True)
    given = (token_file.read(MAX_TOKEN_FILE) if token_file is not None else token or "").strip()
    asking = sys.stdin.isatty()
    if not given and asking and token_file is None:
        words = f"API token of a project at {theirs.url} (empty: only this half)"
        given = str(click.prompt(words, default="", show_default=False, hide_input=True, err=True)).strip()
    if given and not (given.isascii() and given.isprintable() and " " not in given):
        raise click.UsageError("the token must be one word")
    click.echo(f"Here:  the heartbeat {theirs.name!r} is made unless it is there, expected every minute", err=True)
    if given:
        click.echo(f"There: the heartbeat {ours.name!r} is made unless it is there, in the token's project", err=True)
    if asking and not yes:
        click.confirm("Go on?", abort=True, err=True)
    _do(theirs, ours, given, project, settings)


@asynchronous
async def _do(theirs: Installation, ours: Installation, token: str, project: str | None, settings: Settings) -> None:
    to_call = await _there(theirs, token, ours) if token else None
    here = f"{ours.url}/ping/{await _here(settings, project, theirs)}"
    if to_call is not None and to_call == settings.heartbeat_url:
        click.echo("TOCSIN_HEARTBEAT_URL is what it must be here.")
    elif to_call is not None:
        click.echo(f"{SET_HERE}\n    TOCSIN_HEARTBEAT_URL={to_call}")
    click.echo(f"{SET_THERE.format(url=theirs.url)}\n    TOCSIN_HEARTBEAT_URL={here}")
    if to_call is None:
        click.echo(ASK_THERE.format(ours=ours.url))


async def _here(settings: Settings, project: str | None, theirs: Installation) -> str:
    """The key of their heartbeat here."""
    vault = installation.vault(settings)
    async with connected(settings, vault) as tx, tx.transaction():
        owner = await probes.operators_project(tx) if project is None else installation.project_id(project)
        if owner is None:
            raise click.ClickException("There is no project of an operator: name one with --project")
        found, _ = await heartbeats.list_(tx, vault, owner, search=theirs.slug, sort="name", limit=100, offset=0)
        same = [each for each in found if each.wanted.slug == theirs.slug]
        if same:
            return same[0].ping_key
        try:
            wanted = HeartbeatConfig(theirs.name, theirs.slug, Schedule(period=PERIOD, grace=GRACE))
            return (await actions.create(tx, operator(owner), vault, wanted)).ping_key
        except asyncpg.ForeignKeyViolationError:
            raise click.ClickException(installation.no_project(project or "")) from None


class _Heartbeat(msgspec.Struct):
    ping_url: str
    slug: str | None = None


class _Heartbeats(msgspec.Struct):
    data: list[_Heartbeat]


Read = TypeVar("Read", _Heartbeat, _Heartbeats)


async def _there(theirs: Installation, token: str, ours: Installation) -> str:
    """The address of our heartbeat there."""
    http = Http(Guard(EVERYWHERE), keep=KEEP_ANSWER)
    path, slug = f"{theirs.url}/api/v1/heartbeats", ours.slug
    headers = {
        "Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": f"Tocsin/{__version__}"
    }  # fmt: skip
    try:
        asked = urlencode({"search": slug, "per_page": 100})
        found = _read(theirs, await http.request("GET", f"{path}?{asked}", b"", headers), _Heartbeats)
        same = [each for each in found.data if each.slug == slug]
        if not same:
            wanted = {"heartbeat": {"name": ours.name, "slug": slug, "period": PERIOD, "grace": GRACE}}
            same = [_read(theirs, await http.post(path, msgspec.json.encode(wanted), headers), _Heartbeat)]
    except Unreachable as error:
        raise click.ClickException(f"{theirs.url} cannot be reached: {error}") from None
    finally:
        await http.close()
    return _to_call(theirs, same[0].ping_url)


def _read(theirs: Installation, answer: Answer, shape: type[Read]) -> Read:
    if answer.status in (401, 403):
        raise click.ClickException(f"{theirs.url} does not accept this token; it must be one of a project there")
    if not 200 <= answer.status < 300:
        raise click.ClickException(f"{theirs.url} answers {answer.status} to the API of Tocsin")
    try:
        return msgspec.json.decode(answer.text, type=shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _no_tocsin(theirs) from None


def _to_call(theirs: Installation, ping_url: str) -> str:
    """That address, as a setting that somebody may copy into a file or a shell."""
    try:
        if PLAIN.fullmatch(ping_url) and heartbeat_url(ping_url):
            return ping_url
    except Unusable:
        pass
    raise _no_tocsin(theirs)


def _no_tocsin(theirs: Installation) -> click.ClickException:
    return click.ClickException(f"{theirs.url} does not answer as a Tocsin does")


def _checked(url: str, settings: Settings) -> tuple[Installation, Installation]:
    """The other installation, and this one as the other is to call it."""
    try:
        theirs = installations.at(url)
    except ValueError:
        raise click.UsageError("URL must be an address such as https://tocsin.example.com") from None
    ours = installations.at(app.noted_url(settings))
    if theirs == ours:
        raise click.UsageError(f"{theirs.url} is this installation, and nobody notices their own end")
    if ours.local and not theirs.local:
        raise Unusable("TOCSIN_PUBLIC_URL", f"must be set first: to {theirs.url}, {ours.url} is its own machine")
    return theirs, ours
