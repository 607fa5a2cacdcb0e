"""The HTTP server of a process: uvicorn's, with what is the same whatever it answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """A server that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # ours are set already


def config(application: Any, **options: Any) -> uvicorn.Config:
    """`options` are uvicorn's. Who sent a request is read from its headers by domain/clients.py, as far as these are
    trusted.
    """
    return uvicorn.Config(
        application, log_config=None, access_log=False, server_header=False, ws="none", proxy_headers=False, **options
    )
