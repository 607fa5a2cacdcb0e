"""The identifier of a request, and what is known of where something came from: its origin.

An origin is the identifier of the request that something was done for; behind a blank follows the position in a trace,
if there is one, as a `traceparent` (https://www.w3.org/TR/trace-context/). It is stored with what a request opens or
resolves, so that log lines and deliveries can be followed from the request on, in whatever process.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
from collections.abc import Sequence
from contextvars import ContextVar

LONGEST = 128
"""Characters of an identifier that a caller gives: several times what proxies make."""

_HARMLESS = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,%d}" % (LONGEST - 1))
"""Nothing that could mean something to whoever reads a log, a header or a page; nor a mail address."""

_BEGINNING = base64.b32encode(os.urandom(10))[:12].decode().lower()
_numbers = itertools.count(1)

ORIGIN: ContextVar[str | None] = ContextVar("origin", default=None)
"""Of what is being done at present."""


def new_id() -> str:
    """A new identifier: 60 random bits of this process, and a number. Unique, and no secret; quick to make."""
    return f"{_BEGINNING}-{next(_numbers):x}"


def id_from(given: bytes | None) -> str:
    """The identifier that a caller gave, in `X-Request-Id`, if it is harmless; else a new one."""
    if given is not None and _HARMLESS.fullmatch(given) is not None:
        return given.decode("ascii")
    return new_id()


def id_of(origin: str | None) -> str | None:
    """The request's identifier in an origin."""
    return None if origin is None else origin.partition(" ")[0] or None


def trace_of(origin: str | None) -> str:
    """The `traceparent` in an origin; empty if it has none."""
    return "" if origin is None else origin.partition(" ")[2]


def written(origins: Sequence[str | None]) -> str | None:
    """Origins as one text, a line each, None if there is none: an array of them would cost more."""
    return "\n".join(each or "" for each in origins) if any(origins) else None


def current() -> str | None:
    """The origin of what is being done at present; None for what a process does by itself."""
    return ORIGIN.get()
