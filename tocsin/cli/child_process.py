"""Child processes that are kept running: started again when they end, told to end with us, and never left behind."""

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
"""Seconds after which a child counts as well, and the next pause begins small again."""


class Backoff:
    """How long to wait before the next start."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE
        self._started = 0.0
        self._due = 0.0

    def started(self) -> None:
        self._started = time.monotonic()

    def ended(self) -> float:
        """It has ended: the seconds until the next start."""
        now = time.monotonic()
        pause = FIRST_PAUSE if now - self._started > STEADY else self._pause
        self._pause = min(pause * 2, MAX_PAUSE)
        self._due = now + pause
        return pause

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due


class Child:
    """One of our own commands as a child process. Its standard output comes to us, its standard error is ours."""

    def __init__(
        self, name: str, arguments: Sequence[str], environ: dict[str, str], *, fds: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.ready = False
        """It has said so once, since it was started last."""
        # Without -P, a file in the folder that we were started in could take the place of one of Python's own.
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

    def hear(self, events: selectors.BaseSelector) -> None:
        """Take in what it says; only `ready` means something."""
        assert self._process
        assert self._process.stdout
        said = self._process.stdout.read()
        if said == b"":
            events.unregister(self._process.stdout)
            self._process.stdout.close()
        elif said and b"ready" in said:
            self.ready = True

    def keep_up(self, events: selectors.BaseSelector) -> None:
        """Start it again if it has ended and its pause is over."""
        if self._process is None:
            if self._backoff.due:
                self.start(events)
        elif (status := self._process.poll()) is not None:
            pause = self._backoff.ended()
            log.error("A process ended; starting it again", child=self.name, how=how(status), pause=pause)
            self._forget(events)

    def _forget(self, events: selectors.BaseSelector) -> None:
        if self._process and self._process.stdout and not self._process.stdout.closed:
            with suppress(KeyError):
                events.unregister(self._process.stdout)
            self._process.stdout.close()
        self._process = None

    def tell(self, signum: int) -> None:
        if self.alive and self._process:
            self._process.send_signal(signum)


def how(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class Interruption:
    """SIGTERM, SIGINT and the end of children, as something to wait for beside everything else.

    `count` is how often we were told to stop.
    """

    def __init__(self, events: selectors.BaseSelector) -> None:
        self.count = 0
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._reading = reading
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._told)
        events.register(reading, selectors.EVENT_READ, None)

    def _told(self, *_: object) -> None:
        self.count += 1

    def __call__(self) -> bool:
        """Whether we were told to stop."""
        return self.count > 0

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._reading, 1000)
