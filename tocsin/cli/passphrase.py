"""The passphrase of a backup: from a file, the environment or a terminal, and never from the command line."""

from __future__ import annotations

import sys
from typing import IO

import click

from tocsin import settings

LEAST = 8
MAX_FILE = 4_096

option = click.option(
    "--passphrase-file", type=click.File(), metavar="FILE",
    help="A file with the passphrase in its first line; - is standard input.",
)  # fmt: skip


def ask(file: IO[str] | None, *, twice: bool = False) -> str:
    """The passphrase; `twice`: whoever types a new one repeats it. Raises `click.UsageError`."""
    if file is not None:
        given = file.readline(MAX_FILE).rstrip("\r\n")
    else:
        given = settings.backup_passphrase()
        if not given:
            if not sys.stdin.isatty():
                raise click.UsageError(
                    "needs a passphrase: --passphrase-file FILE (- is standard input) or TOCSIN_BACKUP_PASSPHRASE"
                )
            given = click.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True)
    if len(given) < LEAST:
        raise click.UsageError(f"the passphrase must have {LEAST} characters or more; a few random words are good")
    return given
