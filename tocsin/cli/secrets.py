"""`tocsin secrets`: make keys."""

from __future__ import annotations

import click

from tocsin.storage.secrets import new_key


@click.group()
def secrets() -> None:
    """The keys that encrypt secrets at rest."""


@secrets.command()
def new() -> None:
    """Print a new key. Put it first in TOCSIN_SECRET_KEYS; the older ones behind it still decrypt."""
    click.echo(new_key())
