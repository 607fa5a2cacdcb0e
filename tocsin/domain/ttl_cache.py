"""What a process knows for a while, so that it need not ask again: bounded in number and in time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TTLCache(Generic[Key, Value]):
    """At most `max_size` values for `seconds` each, the oldest evicted first. How long a key may be is its user's matter."""

    def __init__(self, max_size: int, seconds: float) -> None:
        self.max_size = max_size
        self.seconds = seconds
        self._known: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Key) -> Value | None:
        """The value, or None where it is not known or not good any more."""
        known = self._known.get(key)
        return known[1] if known is not None and known[0] > time.monotonic() else None

    def put(self, key: Key, value: Value, since: float) -> None:
        """Know the value, as it was at `since` (of `time.monotonic`), and give up what is over."""
        known = self._known
        known[key] = since + self.seconds, value
        known.move_to_end(key)
        now = time.monotonic()
        while len(known) > self.max_size or (known and known[next(iter(known))][0] <= now):
            known.popitem(last=False)
