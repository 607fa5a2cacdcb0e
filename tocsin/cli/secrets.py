"""`tocsin secrets`: make keys, and move everything that is sealed to the newest one."""

from __future__ import annotations

import click

from tocsin.actions import secrets as actions
from tocsin.actions.base import operator
from tocsin.cli import installation
from tocsin.cli.installation import asynchronous, connected
from tocsin.cli.options import settings_option
from tocsin.settings import Settings
from tocsin.storage.accounts import rotation
from tocsin.storage.postgres.secrets import new_key

BEHIND = """\
The running service ({parts}) does not seal with the newest key, and could not read what would be sealed anew.
Put the new key first in TOCSIN_SECRET_KEYS (or in {file}) everywhere, restart the service, then run this again."""


@click.group()
def secrets() -> None:
    """The keys that encrypt secrets at rest."""


@secrets.command()
def new() -> None:
    """Print a new key. Put it first in TOCSIN_SECRET_KEYS; the older ones behind it still decrypt."""
    click.echo(new_key())


@secrets.command()
@settings_option
@asynchronous
async def rotate(settings: Settings) -> None:
    """Encrypt all secrets anew with the newest key, while the service runs.

    Three steps: put a new key (tocsin secrets new) first in TOCSIN_SECRET_KEYS and keep the older ones behind it;
    restart the service; run this. It may be run again at any time.
    """
    vault = installation.vault(settings)
    async with connected(settings) as connection:
        if parts := await rotation.behind(connection, vault):
            raise click.ClickException(BEHIND.format(parts=" and ".join(parts), file=settings.keys_file))
        done = await actions.rotate(connection, operator(), vault)
        until = await rotation.last_sign_in_ends(connection)
    secrets_ = "secret was" if done.renewed == 1 else "secrets were"
    click.echo(f"{done.renewed} {secrets_} encrypted anew; all that can be opened are under key {vault.key_id} now")
    for where, why in done.failed.items():
        click.echo(f"{where}: {why}", err=True)
    if done.failed:
        raise click.ClickException(f"{len(done.failed)} could not be opened and stay as they are: keep the older keys")
    if len(settings.secret_keys) > 1:
        signed_in = f" (at the latest {until:%Y-%m-%d %H:%M} UTC)" if until else ""
        click.echo(
            "The older keys may go from the list; who signed in before the new key was there then signs in again, and "
            f"links in older mails end. To spare them that, wait until those sign-ins have ended{signed_in}."
        )
