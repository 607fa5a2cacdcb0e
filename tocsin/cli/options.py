"""Options that commands share; imports little, because every command imports it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from tocsin import settings

data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="The data folder of the installation."
)
host_option = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="The port; 0 picks a free one."
)


def settings_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--data-dir`, and passes `settings` to the command."""

    @data_dir_option
    @wraps(command)
    def with_settings(*args: Any, data_dir: Path | None, **options: Any) -> Any:
        return command(*args, settings=settings.load(data_dir), **options)

    return with_settings
