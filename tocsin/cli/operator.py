"""`tocsin operator`: the way back in for whoever runs the installation."""

from __future__ import annotations

import click

from tocsin import app
from tocsin.cli import installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import settings_option
from tocsin.settings import Settings
from tocsin.storage import operator as accounts_of_operators


@click.group()
def operator() -> None:
    """The operator's account."""


@operator.command()
@settings_option
@asynchronous
async def link(settings: Settings) -> None:
    """Print a link that sets the operator's account up, or its password anew: within an hour, once."""
    vault = installation.vault(settings)
    async with connected(settings) as tx, tx.transaction():
        made = await accounts_of_operators.new_link(tx, vault, app.noted_url(settings))
    if made is None:
        raise click.ClickException("There is no operator yet; tocsin up makes one when it starts for the first time")
    click.echo(made)
