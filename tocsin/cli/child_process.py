"""Supervised child processes: restarted when they end, stopped with us, and never orphaned."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from tocsin.storage.postgres.children import die_with_parent

log = structlog.get_logger(__name__)

FIRST_PAUSE, MAX_PAUSE = 0.1, 15.0
STEADY = 30.0
"""Seconds after which a child counts as healthy, and the backoff is reset."""


class Backoff:
    """How long to wait before the next start."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE
        self._started = 0.0
        self._due = 0.0

    def started(self) -> None:
        self._started = time.monotonic()

    def ended(self) -> float:
        """Called when it has ended; the seconds until the next start."""
        now = time.monotonic()
        pause = FIRST_PAUSE if now - self._started > STEADY else self._pause
        self._pause = min(pause * 2, MAX_PAUSE)
        self._due = now + pause
        return pause

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due


class Child:
    """One of our own commands as a child process. We read its standard output; it shares our standard error."""

    def __init__(
        self, name: str, arguments: Sequence[str], environ: dict[str, str], *, fds: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.ready = False
        """Whether it has printed `ready` since its last start."""
        # Without -P, a file in the current folder could shadow a module of Python's.
        self._command = [sys.executable, "-P", "-m", "tocsin", *arguments]
        self._environ = environ
        self._fds = fds
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff()

    def start(self, events: selectors.BaseSelector) -> None:
        self.ready = False
        self._process = subprocess.Popen(  # noqa: S603
            self._command, env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pass_fds=self._fds,
            start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM),
        )
        assert self._process.stdout
        os.set_blocking(self._process.stdout.fileno(), False)
        events.register(self._process.stdout, selectors.EVENT_READ, self)
        self._backoff.started()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        return self._process.poll() if self._process else None

    def read(self, events: selectors.BaseSelector) -> None:
        """Read its output; only `ready` matters."""
        assert self._process
        assert self._process.stdout
        output = self._process.stdout.read()
        if output == b"":
            events.unregister(self._process.stdout)
            self._process.stdout.close()
        elif output and b"ready" in output:
            self.ready = True

    def keep_up(self, events: selectors.BaseSelector) -> None:
        """Restart it if it has ended and its backoff is over."""
        if self._process is None:
            if self._backoff.due:
                self.start(events)
        elif (status := self._process.poll()) is not None:
            pause = self._backoff.ended()
            log.error("A process ended; restarting it", child=self.name, how=how(status), pause=pause)
            self._forget(events)

    def _forget(self, events: selectors.BaseSelector) -> None:
        if self._process and self._process.stdout and not self._process.stdout.closed:
            with suppress(KeyError):
                events.unregister(self._process.stdout)
            self._process.stdout.close()
        self._process = None

    def send_signal(self, signum: int) -> None:
        if self.alive and self._process:
            self._process.send_signal(signum)


def how(status: int) -> str:
    """How a process ended: its exit status or signal."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class Interruption:
    """SIGTERM, SIGINT and the end of children, as an event of the selector.

    `count` is how many signals to stop have arrived.
    """

    def __init__(self, events: selectors.BaseSelector) -> None:
        self.count = 0
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._reading = reading
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        events.register(reading, selectors.EVENT_READ, None)

    def _on_signal(self, *_: object) -> None:
        self.count += 1

    def __call__(self) -> bool:
        """Whether we were asked to stop."""
        return self.count > 0

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._reading, 1000)
