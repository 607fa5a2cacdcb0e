"""`tocsin secrets`: creates keys, and encrypts all secrets with the newest one."""

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
The running service ({parts}) does not use the newest key yet and could not decrypt rotated secrets.
Put the new key first in TOCSIN_SECRET_KEYS (or in {file}) everywhere, restart the service, then run this again."""


@click.group()
def secrets() -> None:
    """The keys that encrypt secrets at rest."""


@secrets.command()
def new() -> None:
    """Print a new key. Put it first in TOCSIN_SECRET_KEYS; the older ones after it still decrypt."""
    click.echo(new_key())


@secrets.command()
@settings_option
@asynchronous
async def rotate(settings: Settings) -> None:
    """Re-encrypt all secrets with the newest key, while the service runs.

    Three steps: put a new key (tocsin secrets new) first in TOCSIN_SECRET_KEYS and keep the older ones after it;
    restart the service; run this. It can be run again at any time.
    """
    vault = installation.vault(settings)
    async with connected(settings) as connection:
        if parts := await rotation.behind(connection, vault):
            raise click.ClickException(BEHIND.format(parts=" and ".join(parts), file=settings.keys_file))
        done = await actions.rotate(connection, operator(), vault)
        until = await rotation.last_sign_in_ends(connection)
    secrets_ = "secret was" if done.renewed == 1 else "secrets were"
    click.echo(f"{done.renewed} {secrets_} re-encrypted; all that can be decrypted now use key {vault.key_id}")
    for where, why in done.failed.items():
        click.echo(f"{where}: {why}", err=True)
    if done.failed:
        raise click.ClickException(f"{len(done.failed)} could not be decrypted; keep the older keys")
    if len(settings.secret_keys) > 1:
        signed_in = f" (at the latest {until:%Y-%m-%d %H:%M} UTC)" if until else ""
        click.echo(
            "You can now remove the older keys from the list. Anybody who signed in before the new key was added then "
            "has to sign in again, and links in older emails stop working. To avoid that, wait until those sign-ins "
            f"have expired{signed_in}."
        )
