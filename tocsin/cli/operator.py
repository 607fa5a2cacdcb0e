"""`tocsin operator`: access for whoever runs the installation."""

from __future__ import annotations

import click

from tocsin import app
from tocsin.actions import people
from tocsin.actions.base import operator as as_operator
from tocsin.cli import installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import settings_option
from tocsin.settings import Settings


@click.group()
def operator() -> None:
    """The operator's account."""


@operator.command()
@settings_option
@asynchronous
async def link(settings: Settings) -> None:
    """Print a link that sets up the operator's account or resets its password. Valid once, for one hour."""
    vault = installation.vault(settings)
    async with connected(settings, vault) as tx, tx.transaction():
        made = await people.operator_link(tx, as_operator(), vault, app.noted_url(settings))
    if made is None:
        raise click.ClickException("There is no operator yet; tocsin up creates one when it starts for the first time")
    click.echo(made)
