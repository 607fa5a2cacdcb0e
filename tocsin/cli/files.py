"""The limit of open files, which includes connections."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow_many() -> int:
    """Raise the limit as far as the system allows; returns the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
