"""JSON paths (RFC 9535) of people: compiled with bounds, and never evaluated for longer than some milliseconds.

Filters with regular expressions (`match`, `search`) are refused: nothing interrupts those.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonpath import JSONPath, JSONPathEnvironment

MAX_LENGTH = 500
"""Characters of one path."""
SECONDS = 0.02
"""How long all the paths of one mapping may take together."""
MAX_FOUND = 1_000


class Faulty(ValueError):
    """Why a path cannot be accepted."""


class TooSlow(Exception):
    """It took longer than it may."""


@lru_cache(maxsize=1)
def _environment() -> JSONPathEnvironment:
    import jsonpath  # heavy, and not needed until somebody maps

    class Bounded(jsonpath.JSONPathEnvironment):
        def setup_function_extensions(self) -> None:
            super().setup_function_extensions()
            known = ("length", "count", "value")
            self.function_extensions = {name: self.function_extensions[name] for name in known}

    return Bounded(strict=True)


@lru_cache(maxsize=256)
def compiled(path: str) -> JSONPath:
    """Raises `Faulty`."""
    if len(path) > MAX_LENGTH:
        raise Faulty(f"is longer than {MAX_LENGTH} characters")
    import jsonpath

    try:
        found = _environment().compile(path)
    except (jsonpath.JSONPathError, RecursionError, ValueError) as error:
        raise Faulty(f"is not a JSON path (RFC 9535): {str(error).splitlines()[0][:200]}") from None
    assert isinstance(found, jsonpath.JSONPath)
    return found


def found(path: str, value: object, most: int = MAX_FOUND) -> list[Any]:
    """What a path finds, in order, up to `most`. Within `bounded` alone. Raises `Faulty`."""
    import jsonpath

    try:
        return [each.obj for each in islice(compiled(path).finditer(value), most)]  # type: ignore[arg-type]
    except (jsonpath.JSONPathError, RecursionError, TypeError) as error:
        raise Faulty(f"cannot be followed: {str(error).splitlines()[0][:200]}") from None


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """Raises `TooSlow` into what runs here for longer than that.

    Paths are followed by Python functions, so a look at the clock at each call of one is enough; a timer would need
    signals, and a thread could not be stopped.
    """
    end = time.monotonic() + seconds

    def look(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if time.monotonic() > end:
            raise TooSlow
        return None

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)
