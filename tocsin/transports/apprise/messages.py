"""What a worker and we say to each other, over a pair of sockets that keep the bounds of messages (SOCK_SEQPACKET).

We send one request. The worker asks for connections (each with its end of a new pair of sockets, which we connect), and
ends with its answer, in pieces. Everything is JSON after the first byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

READY = "ready"
"""What a fork server says when it can fork."""
CONNECT, MORE, LAST = b">", b"+", b"="
PIECE = 60_000
"""Bytes of one message: less than what a socket takes by default."""
MAX_REQUEST = 64 * 1024
MAX_ANSWER = 1024 * 1024
"""Bytes of a request, and of a whole answer."""


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def decoded(data: bytes) -> Any:
    return json.loads(data)


def pieces(value: Any) -> Iterator[bytes]:
    """An answer as messages."""
    data = encoded(value)
    starts = range(0, len(data), PIECE)
    for start in starts:
        yield (LAST if start == starts[-1] else MORE) + data[start : start + PIECE]
