"""What systemd is told of a process that it started: that it is ready, lives, or stops (sd_notify, systemd.exec(5))."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping

EVERY = 5.0
"""Seconds between two signs of life."""


class Notifier:
    """Speaks over `NOTIFY_SOCKET`; nothing at all where systemd does not ask for it."""

    def __init__(self, place: str | None) -> None:
        self._said_alive = 0.0
        self._place = f"\0{place[1:]}" if place and place[0] == "@" else place

    def ready(self, status: str) -> None:
        self._say({"READY": "1", "STATUS": status})

    def alive(self) -> None:
        """May be called as often as one likes."""
        if self._place and time.monotonic() - self._said_alive > EVERY:
            self._said_alive = time.monotonic()
            self._say({"WATCHDOG": "1"})

    def stopping(self) -> None:
        self._say({"STOPPING": "1"})

    def _say(self, words: Mapping[str, str]) -> None:
        if not self._place:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.sendto("\n".join(f"{name}={value}" for name, value in words.items()).encode(), self._place)
