"""What other programs can see of ours: their command lines."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

import psutil


class CommandLines:
    """Everything that any process's command line said while this was there; of children of `below`, if that is set."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.below: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for process in self._processes():
                with suppress(psutil.Error):
                    self.seen.add(" ".join(process.cmdline()))

    def _processes(self) -> Iterable[psutil.Process]:
        if self.below is None:
            return psutil.process_iter()
        try:
            return psutil.Process(self.below).children(recursive=True)
        except psutil.NoSuchProcess:
            return ()
