"""What the commands have in common, light enough for every one of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from tocsin import settings

data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the installation lives."
)
host_option = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="The port; 0 takes a free one."
)


def settings_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--data-dir`, and hands the command its `settings`."""

    @data_dir_option
    @wraps(command)
    def with_settings(*args: Any, data_dir: Path | None, **options: Any) -> Any:
        return command(*args, settings=settings.load(data_dir), **options)

    return with_settings
