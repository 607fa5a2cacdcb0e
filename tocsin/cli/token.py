"""`tocsin token`: replace a project's API token."""

from __future__ import annotations

import asyncio

import click

from tocsin.actions import tokens
from tocsin.actions.base import operator
from tocsin.api.authentication import TOKEN_CACHE_SECONDS
from tocsin.cli import installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import settings_option
from tocsin.cli.project import as_object
from tocsin.domain.errors import Refused
from tocsin.settings import Settings

CLOCKS = 0.1
"""Seconds, more than two processes' timers may differ over one second."""


@click.group()
def token() -> None:
    """API tokens."""


@token.command()
@click.argument("uuid")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@settings_option
@asynchronous
async def rotate(uuid: str, as_json: bool, settings: Settings) -> None:
    """Replace a project's API token. The old one stops working before the new one is printed."""
    project_id = installation.project_id(uuid)
    vault = installation.vault(settings)
    try:
        async with connected(settings, vault) as tx, tx.transaction():
            made = await tokens.rotate(tx, operator(project_id), vault)
    except Refused:
        raise click.ClickException(installation.no_project(uuid)) from None
    # API processes cache tokens for a moment.
    await asyncio.sleep(TOKEN_CACHE_SECONDS + CLOCKS)
    click.echo(as_object(made) if as_json else made.api_token)
