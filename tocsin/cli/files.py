"""How many files this process may open, of which each connection is one."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow_many() -> int:
    """Raise the limit as far as the system lets us; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
