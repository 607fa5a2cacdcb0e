"""`tocsin restore`: a backup into an empty installation, all of it or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from tocsin.cli import interrupts, logs, passphrase
from tocsin.cli.options import settings_option
from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.settings import Settings

if TYPE_CHECKING:
    from tocsin.storage.postgres.manifest import Manifest

MAKING = "restoring"
"""The folder in the data folder where the database is made. It becomes the installation's when it is complete."""
HARMLESS = {".env", "lock", "lost+found", MAKING}
"""What may be in a data folder that counts as empty."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@passphrase.option
@settings_option
def restore(file: Path, passphrase_file: IO[str] | None, settings: Settings) -> None:
    """Restore the backup in FILE into an empty data folder, or into the empty database of TOCSIN_DATABASE_URL.

    Before it is started, and only once the service that it was taken from is stopped for good: both would notify.
    Notifications that were outstanding then are sent; a restart that was outstanding is not, for it may have been made
    since: its delivery ends dead, "outcome unknown".
    """
    from tocsin.storage.postgres import backups, sealed_file

    logs.set_up("restore", settings.log_level)
    interrupts.listen()
    _require_empty(settings)
    secret = passphrase.ask(passphrase_file)
    with file.open("rb") as source:
        manifest, rows = backups.check(sealed_file.read(source, secret))
    _require_right_keys(settings, manifest)
    with _empty_folder(settings) as folder, _keys_file(settings, folder, manifest):
        if settings.database_url:
            opened, unknown = interrupts.run(_load(settings.database_url, file, secret))
        else:
            opened, unknown = _into_embedded(settings, folder, file, secret)
    click.echo(
        f"Restored {rows:,} rows of {len(manifest.tables)} tables, as of {manifest.at:%Y-%m-%d %H:%M:%S} UTC, from "
        f"Tocsin {manifest.version}; all is as it was saved, and the keys open {opened:,} secrets."
    )
    if unknown:
        click.echo(f"Restarts that may have been made since, so they are not: {unknown}. Please check the machines.")
    if settings.database_url:
        click.echo(f"The keys are in {settings.keys_file}: every process needs them (TOCSIN_SECRET_KEYS).")
    click.echo("Start it with: tocsin up")


def _require_empty(settings: Settings) -> None:
    """Raises `Unusable` for a folder with an installation in it."""
    try:
        there = {path.name for path in settings.data_dir.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unusable("TOCSIN_DATA_DIR", f"{settings.data_dir} cannot be used ({error.strerror})") from error
    allowed = HARMLESS | ({settings.keys_file.name} if settings.database_url else set())
    if found := sorted(there - allowed):
        raise Unusable(
            "TOCSIN_DATA_DIR",
            f"{settings.data_dir} is not empty (it has {found[0]}); a backup is only restored into an empty folder: "
            "choose one with --data-dir, or move this one away",
        )


def _require_right_keys(settings: Settings, manifest: Manifest) -> None:
    if settings.secret_keys and not set(manifest.keys) <= set(settings.secret_keys):
        raise Unusable(
            "TOCSIN_SECRET_KEYS", "is set, and lacks keys of this backup; unset it: the backup brings its own keys"
        )


@contextlib.contextmanager
def _empty_folder(settings: Settings) -> Iterator[Path]:
    """The folder to work in, which nobody else uses meanwhile. If this fails, all is as it was."""
    from tocsin.storage.postgres.embedded import Server

    new = not settings.data_dir.exists()
    lock = Server(settings.data_dir)
    making = settings.data_dir / MAKING
    try:
        shutil.rmtree(making, ignore_errors=True)  # of a restore that was killed
        making.mkdir(mode=0o700)
        yield making
    finally:
        shutil.rmtree(making, ignore_errors=True)
        lock.close()
        if not any(path.name not in HARMLESS for path in settings.data_dir.iterdir()):
            (settings.data_dir / "lock").unlink(missing_ok=True)
            if new:
                settings.data_dir.rmdir()


@contextlib.contextmanager
def _keys_file(settings: Settings, folder: Path, manifest: Manifest) -> Iterator[None]:
    """The backup's keys are there when all else is, unless the settings have them."""
    new = folder / settings.keys_file.name
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(",".join(urlsafe_b64encode(key).decode() for key in manifest.keys) + "\n")
        file.flush()
        os.fsync(file.fileno())
    yield
    if not settings.secret_keys:
        new.rename(settings.keys_file)


def _into_embedded(settings: Settings, folder: Path, file: Path, secret: str) -> tuple[int, int]:
    from tocsin.storage.postgres import embedded

    server = embedded.start(folder)
    try:
        done = interrupts.run(_load(server.dsn, file, secret))
    finally:
        server.stop()
    server.cluster.rename(settings.data_dir / "postgres")
    return done


async def _load(dsn: str, file: Path, secret: str) -> tuple[int, int]:
    """In one transaction. Returns how many secrets the keys open, and how many restarts have an unknown outcome."""
    from tocsin.actions import backups as actions
    from tocsin.actions.base import operator
    from tocsin.cli.progress import bar
    from tocsin.storage.accounts import rotation
    from tocsin.storage.postgres import backups, database, migrate, sealed_file
    from tocsin.storage.postgres.secrets import Vault

    connection = await migrate.reach(dsn, 0.0)
    try:
        await database.prepare(connection)
        with file.open("rb") as source, bar("Restoring") as show:
            async with connection.transaction():
                manifest = await backups.load(connection, sealed_file.read(source, secret), show)
                opened, failed = await rotation.try_all(connection, Vault(manifest.keys))
                if failed and not opened:
                    raise Refused(422, "keys_do_not_fit", "The keys of this backup do not open its secrets")
                unknown = await actions.restore(connection, operator(), manifest.at)
    finally:
        connection.terminate()
    if failed:
        click.echo(f"{len(failed)} secrets are opened by none of its keys, as before the backup", err=True)
    return opened, unknown
