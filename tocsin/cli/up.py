"""`tocsin up`: everything in one. This process only starts, supervises and stops the others, so it stays small."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode

import click

from tocsin import __version__
from tocsin.cli import memory
from tocsin.cli.options import host_option, port_option, settings_option
from tocsin.cli.sockets import listen
from tocsin.domain.settings import Unusable
from tocsin.settings import KEY_BYTES, Settings


@click.command()
@host_option
@port_option
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of API processes.")
@settings_option
def command(host: str, port: int, workers: int, settings: Settings) -> None:
    """Run everything: the embedded PostgreSQL (unless TOCSIN_DATABASE_URL is set), API, web console and engine."""
    memory.block_imports(traces=settings.otlp_endpoint is not None)
    import structlog

    from tocsin.cli import logs
    from tocsin.cli.supervisor import Supervisor
    from tocsin.storage.postgres.embedded import Server
    from tocsin.transports import tracing

    tracing.require(settings.otlp_endpoint)
    listening = listen(host, port)
    if settings.database_url and not settings.secret_keys:
        raise Unusable("TOCSIN_SECRET_KEYS", "is required with TOCSIN_DATABASE_URL; tocsin secrets new prints a key")
    server = None if settings.database_url else Server(settings.data_dir)
    logs.set_up("up", settings.log_level)
    log = structlog.get_logger(__name__)
    log.info(f"Tocsin {__version__} is starting in {settings.env} mode", data=str(settings.data_dir))
    if not settings.secret_keys:
        _make_keys(settings)
    status = Supervisor(settings, listening, server, workers).run()
    if status:
        raise click.exceptions.Exit(status)


def _make_keys(settings: Settings) -> None:
    """Creates the key of a new installation, but never for a database that was encrypted with another."""
    if (settings.data_dir / "postgres" / "PG_VERSION").exists():
        raise Unusable(
            "TOCSIN_SECRET_KEYS",
            f"is not set and {settings.keys_file} is gone, but the secrets in the database were encrypted with it; "
            "restore the key",
        )
    new = settings.keys_file.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(urlsafe_b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(settings.keys_file)
    except OSError as error:
        raise Unusable("TOCSIN_DATA_DIR", f"{settings.keys_file} cannot be written ({error.strerror})") from error
