"""`tocsin restore`: a backup into an empty installation, all of it or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import UUID

import click

from tocsin.cli import files, interrupts, logs, passphrase
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

LOOK_FOR = 60.0
"""Seconds in which the database must answer whether a commit without an answer was done."""


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
    with _empty_folder(settings) as folder:
        keys = _Keys(settings, folder, manifest)
        if settings.database_url:
            opened, unknown = interrupts.run(_load(settings.database_url, file, secret, keys))
        else:
            opened, unknown = _into_embedded(settings, folder, file, secret, keys)
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
    half_done = MAKING in there and "postgres" not in there  # of a restore that was killed between two names
    allowed = HARMLESS | ({settings.keys_file.name} if settings.database_url or half_done else set())
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
        _require_empty(settings)  # by now nobody else changes it
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


class _Keys:
    """The backup's keys. They come to their place just before what they open: a database without them is of no use, and
    they are of none to anybody else. Not if the settings have them.
    """

    def __init__(self, settings: Settings, folder: Path, manifest: Manifest) -> None:
        self.file = settings.keys_file
        self.placed = False
        self._new = folder / self.file.name
        self._known = bool(settings.secret_keys)
        with os.fdopen(os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(",".join(urlsafe_b64encode(key).decode() for key in manifest.keys) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def place(self) -> None:
        """Raises `OSError`."""
        if self._known:
            return
        self._new.rename(self.file)
        self.placed = True
        files.keep_names(self.file.parent)

    def take_back(self) -> None:
        """What they open is not there."""
        if self.placed:
            self.file.unlink(missing_ok=True)


def _into_embedded(settings: Settings, folder: Path, file: Path, secret: str, keys: _Keys) -> tuple[int, int]:
    from tocsin.storage.postgres import embedded

    server = embedded.start(folder)
    try:
        done = interrupts.run(_load(server.dsn, file, secret))
    finally:
        server.stop()
    there = settings.data_dir / "postgres"
    try:
        keys.place()
        server.cluster.rename(there)
    except BaseException:
        if not there.exists():
            keys.take_back()
        raise
    files.keep_names(settings.data_dir)
    return done


async def _load(dsn: str, file: Path, secret: str, keys: _Keys | None = None) -> tuple[int, int]:
    """In one transaction. Returns how many secrets the keys open, and how many restarts have an unknown outcome."""
    from tocsin.actions import backups as actions
    from tocsin.actions.base import operator
    from tocsin.cli.progress import bar
    from tocsin.storage.accounts import rotation
    from tocsin.storage.postgres import backups, database, migrate, sealed_file
    from tocsin.storage.postgres.secrets import Vault
    from tocsin.storage.postgres.session import OutcomeUnknown

    connection = await migrate.reach(dsn, 0.0)
    entry = None
    try:
        await database.prepare(connection)
        with file.open("rb") as source, bar("Restoring") as show:
            async with connection.transaction():
                manifest = await backups.load(connection, sealed_file.read(source, secret), show)
                opened, failed = await rotation.try_all(connection, Vault(manifest.keys))
                if failed and not opened:
                    raise Refused(422, "keys_do_not_fit", "The keys of this backup do not open its secrets")
                unknown = await actions.restore(connection, operator(), manifest.at)
                entry = await backups.restored_by(connection)
                if keys is not None:
                    keys.place()
    except OutcomeUnknown:
        assert entry is not None
        await _look(dsn, entry, keys)
    except Exception:
        if keys is not None:
            keys.take_back()
        raise
    finally:
        connection.terminate()
    if failed:
        click.echo(f"{len(failed)} secrets are opened by none of its keys, as before the backup", err=True)
    return opened, unknown


async def _look(dsn: str, entry: UUID, keys: _Keys | None) -> None:
    """The connection was lost in the middle of the commit. Raises `Refused` unless all is there."""
    from tocsin.storage.postgres import backups, migrate
    from tocsin.storage.postgres.session import LOST

    away: tuple[type[BaseException], ...] = (Refused, *LOST)
    try:
        async with asyncio.timeout(LOOK_FOR):
            connection = await migrate.reach(dsn, LOOK_FOR)
            try:
                there = await backups.is_restored_by(connection, entry)
            finally:
                connection.terminate()
    except away as error:
        kept = f" The keys are in {keys.file}." if keys is not None and keys.placed else ""
        raise Refused(
            503, "outcome_unknown",
            "The connection was lost while the restore was committed, and the database does not answer: nobody knows "
            f"whether all or nothing is restored.{kept} Restore again when it answers: if all is, that is refused, as "
            "the database is not empty",
        ) from error  # fmt: skip
    if not there:
        if keys is not None:
            keys.take_back()
        raise Refused(503, "database_unavailable", "The connection was lost at the end; nothing is restored. Try again")
