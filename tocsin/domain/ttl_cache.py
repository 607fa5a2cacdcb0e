"""A TTL cache: bounded in size and in time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TTLCache(Generic[Key, Value]):
    """At most `max_size` values for `seconds` each, the oldest evicted first. Its user bounds the length of keys."""

    def __init__(self, max_size: int, seconds: float) -> None:
        self.max_size = max_size
        self.seconds = seconds
        self._known: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Key) -> Value | None:
        """The value, or None if it is missing or expired."""
        known = self._known.get(key)
        return known[1] if known is not None and known[0] > time.monotonic() else None

    def put(self, key: Key, value: Value, since: float) -> None:
        """Store the value as of `since` (`time.monotonic`), and evict what has expired."""
        known = self._known
        known[key] = since + self.seconds, value
        known.move_to_end(key)
        now = time.monotonic()
        while len(known) > self.max_size or (known and known[next(iter(known))][0] <= now):
            known.popitem(last=False)
