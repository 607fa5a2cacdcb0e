"""`tocsin migrate`: applies pending database migrations."""

from __future__ import annotations

import asyncio

import click

from tocsin.cli.options import settings_option
from tocsin.domain.errors import Refused
from tocsin.settings import Settings

PATIENCE = 60.0


@click.command()
@click.option("--first-start", metavar="URL", help="Also create the first account, which signs in here.")
@settings_option
def command(first_start: str | None, settings: Settings) -> None:
    """Apply pending database migrations. Safe to run on several machines at once."""
    from tocsin import app
    from tocsin.cli import logs
    from tocsin.storage.postgres import migrate

    logs.set_up("migrate", settings.log_level)
    dsn = app.dsn(settings)

    async def run() -> list[str]:
        patience = PATIENCE if settings.database_url else 0.0
        applied = await migrate.migrate(dsn, patience=float("inf") if first_start else patience)
        if first_start:
            from tocsin.cli import first_account

            app.note_url(settings, first_start)
            await first_account.make(settings, dsn, first_start)
        return applied

    try:
        applied = asyncio.run(run())
    except Refused as refused:
        if refused.code == migrate.UNREACHABLE and settings.database_url is None and not first_start:
            from tocsin.cli.installation import unreachable

            raise click.ClickException(unreachable(settings, refused.__cause__ or refused)) from refused
        raise
    if not first_start:
        click.echo(f"Applied: {', '.join(applied)}" if applied else "No pending migrations")
