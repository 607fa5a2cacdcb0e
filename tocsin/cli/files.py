"""The limit of open files, which includes connections; and names of files that outlive the machine."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path


def allow_many() -> int:
    """Raise the limit as far as the system allows; returns the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def keep_names(folder: Path) -> None:
    """Have the disk know what the files in it are called by now. Raises `OSError`."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
