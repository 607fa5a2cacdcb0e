"""`tocsin backup`: everything of an installation in one encrypted file, while it runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import click

from tocsin import __version__
from tocsin.cli import files, interrupts, logs, passphrase
from tocsin.cli.options import settings_option
from tocsin.settings import Settings


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@passphrase.option
@settings_option
def backup(file: Path, passphrase_file: IO[str] | None, settings: Settings) -> None:
    """Save database and keys in FILE, encrypted with a passphrase, while the service runs.

    It is as of one moment, and was read back when it is there. An older backup of that name is replaced. The passphrase
    is asked for, or read from --passphrase-file or TOCSIN_BACKUP_PASSPHRASE; without it, nobody can restore the backup.
    """
    from tocsin.cli.installation import vault

    logs.set_up("backup", settings.log_level)
    interrupts.listen()
    vault(settings)
    _may_be_replaced(file)
    secret = passphrase.ask(passphrase_file, twice=True)
    with _complete_or_not_at_all(file) as out, _database(settings):
        interrupts.run(_save(settings, out, secret))
        rows, tables = _read_back(out, secret)
        interrupts.run(_record(settings, file.name))
    click.echo(f"Saved {rows:,} rows of {tables} tables and the keys in {file} ({file.stat().st_size:,} bytes)")


def _may_be_replaced(file: Path) -> None:
    from tocsin.storage.postgres import sealed_file

    try:
        with file.open("rb") as there:
            if not sealed_file.is_sealed(there.read(100)):
                raise click.UsageError(f"{file} exists and is no backup; choose another name")
    except FileNotFoundError:
        if not file.absolute().parent.is_dir():
            raise click.UsageError(f"there is no folder {file.absolute().parent}") from None


@contextlib.contextmanager
def _complete_or_not_at_all(file: Path) -> Iterator[BinaryIO]:
    """What is written has the name of the file once it is whole and on the disk; before, nothing is there."""
    number, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)  # readable by its owner alone
    try:
        with os.fdopen(number, "w+b") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    files.keep_names(file.absolute().parent)


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[None]:
    """The embedded database runs in here: if the service does not, it is started for the backup alone."""
    from tocsin.cli.installation import Unreachable, connected
    from tocsin.storage.postgres import embedded

    async def look() -> None:
        async with connected(settings):
            pass

    try:
        interrupts.run(look())
        server = None
    except Unreachable as error:
        if not error.not_running or not (settings.data_dir / "postgres" / "PG_VERSION").exists():
            raise
        server = embedded.start(settings.data_dir)
    try:
        yield
    finally:
        if server is not None:
            server.stop()


async def _save(settings: Settings, out: BinaryIO, secret: str) -> None:
    from tocsin.cli.installation import connected, vault
    from tocsin.cli.progress import bar
    from tocsin.storage.accounts import rotation
    from tocsin.storage.postgres import backups, sealed_file

    async with connected(settings) as connection:
        opened, failed = await rotation.try_all(connection, vault(settings))
        if failed and not opened:
            raise click.ClickException("The keys in use open no secret of this database; a backup would be of no use")
        if failed:
            click.echo(f"{len(failed)} secrets are opened by no key in use; they are saved as they are", err=True)
        if others := await backups.left_out(connection):
            click.echo(f"Not saved, for they are no tables of Tocsin's: {', '.join(others)}", err=True)
        with bar("Saving") as show:
            writer = sealed_file.Writer(out, secret)
            await backups.dump(connection, writer.write, version=__version__, keys=settings.secret_keys, done=show)
            writer.finish()


def _read_back(out: BinaryIO, secret: str) -> tuple[int, int]:
    """How many rows of how many tables it has. To be called outside a loop: it takes minutes, and waits for nothing, so
    that no signal of a loop's would be heard.
    """
    from tocsin.storage.postgres import backups, sealed_file

    out.flush()
    out.seek(0)
    manifest, rows = backups.check(sealed_file.read(out, secret))
    return rows, len(manifest.tables)


async def _record(settings: Settings, name: str) -> None:
    from tocsin.actions import backups as actions
    from tocsin.actions.base import operator
    from tocsin.cli.installation import connected

    async with connected(settings) as connection, connection.transaction():
        await actions.take(connection, operator(), name)
