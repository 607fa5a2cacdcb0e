"""The first start: creates an operator account and a first project, and tells the operator how to sign in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tocsin.actions import people, projects
from tocsin.actions.base import system
from tocsin.domain import ids
from tocsin.settings import Settings
from tocsin.storage.accounts import accounts, rotation
from tocsin.storage.postgres import connecting, database
from tocsin.storage.postgres.secrets import Vault

PROJECT = "First project"

ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('tocsin first account'))"

WORDS = """\
First start: an operator account and a first project were created.

  sign in    {link}
             (to set up your account; valid once, for one hour; tocsin operator link prints another)
  project    {name} ({uuid}), plan {plan}
  API token  {token}
  try        {url}/api/docs, or this (curl reads the token from standard input, where nobody else can see it):

curl -H @- {url}/api/v1/integrations <<END
Authorization: Bearer {token}
END
"""


async def make(settings: Settings, dsn: str, url: str) -> None:
    """Create both if the installation has neither. Secrets go to a terminal, else to a file with mode 0600."""
    connection = await connecting.connect(dsn)
    try:
        await database.prepare(connection)
        if await connection.fetchval(accounts.ANYBODY):
            return
        vault = Vault(settings.secret_keys)
        await rotation.require_fitting(connection, vault)
        async with connection.transaction():
            await connection.execute(ONE_AT_A_TIME)
            made = await projects.create_first(connection, system(), vault, PROJECT)
            if made is None:  # another machine was faster
                return
            words = WORDS.format(
                link=await people.operator_link(connection, system(), vault, url), url=url, name=made.name,
                uuid=ids.public(ids.PROJECT, made.id), plan=made.plan, token=made.api_token,
            )
            # Before the commit: the token must not be lost if this process ends in between.
            file = _keep(settings.data_dir, words)
    finally:
        connection.terminate()
    if sys.stderr.isatty():
        click.echo(words, err=True)
        file.unlink()
    else:
        click.echo(f"First start: how to sign in, and a project's API token, are in {file}", err=True)


def _keep(data_dir: Path, words: str) -> Path:
    file = data_dir / "first-start.txt"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(words)
        out.flush()
        os.fsync(out.fileno())
    return file
