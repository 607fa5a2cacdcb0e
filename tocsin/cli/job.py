"""A command that is run for a heartbeat: its output passed through, its end reported, never hindered by the reports.

Whatever goes wrong with the service costs the command nothing: the start is reported beside it, and given up when it
has ended; the end is tried again for a while.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import IO
from urllib.parse import urlencode, urlsplit, urlunsplit

from tocsin import __version__

OUTPUT = 100_000
"""Bytes of the last output that are reported."""
CHUNK = 65_536
TIMEOUT = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
LEFT_OPEN = 1.0
"""Seconds that are waited for more output of what the command has left running in the background."""
NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128
"""Exit statuses, as shells have them."""
PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH")
FROM_TERMINALS = (signal.SIGINT, signal.SIGQUIT)


def run(url: str, command: Sequence[str], *, patience: float, output: bool) -> int:
    """Run it and report. Returns its exit status."""
    reports, said = Reports(url), Tail()
    child = Child()
    child.listen()
    began = time.monotonic()
    starting = threading.Thread(target=reports.start, daemon=True)
    starting.start()
    try:
        to = subprocess.PIPE if output else None
        process = subprocess.Popen(command, stdout=to, stderr=to)  # noqa: S603  (what it is for)
    except OSError as error:
        reason = f"cannot run {command[0]}: {error.strerror}"
        say(reason)
        said.add(reason.encode())
        status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    else:
        child.begun(process)
        readers = [
            threading.Thread(target=_pass_through, args=(source, own.fileno(), said), daemon=True)
            for source, own in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)) if source is not None
        ]  # fmt: skip
        for each in readers:
            each.start()
        ended = _wait(process)
        status = ended if ended >= 0 else SIGNALLED - ended
        deadline = time.monotonic() + LEFT_OPEN
        for each in readers:
            each.join(max(0.0, deadline - time.monotonic()))
    took = time.monotonic() - began
    reports.given_up.set()
    child.over = reports.enough
    starting.join(TIMEOUT)  # a start that arrived after the end would be a run that never ends
    problem = reports.end(status, took, said.text(), patience)
    if problem is not None:
        say(f"the end could not be reported to {urlsplit(url).hostname}: {problem}")
    return status


def say(text: str) -> None:
    print(f"tocsin: {text}", file=sys.stderr, flush=True)


class Tail:
    """The last of what was said, on both streams in the order in which it came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: deque[bytes] = deque()
        self._size = 0

    def add(self, part: bytes) -> None:
        with self._lock:
            self._parts.append(part)
            self._size += len(part)
            while self._parts and self._size - len(self._parts[0]) >= OUTPUT:
                self._size -= len(self._parts.popleft())

    def text(self) -> bytes:
        with self._lock:
            return b"".join(self._parts)[-OUTPUT:]


class Child:
    """Passes signals on to the command; when it has ended, one that would end us ends the reports."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self.over: threading.Event | None = None

    def listen(self) -> None:
        for name in PASSED_ON:
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, for one, means the command too
                signal.signal(number, self._came)

    def begun(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.over is not None:
            if number != signal.SIGWINCH:
                self.over.set()
        elif self._process is None:
            self._early.append(number)
        elif not (number in FROM_TERMINALS and _in_front()):  # the terminal tells the command itself
            self._process.send_signal(number)


class Reports:
    """What is reported to a heartbeat about one run."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._rid = str(uuid.uuid4())
        self.given_up, self.enough = threading.Event(), threading.Event()

    def start(self) -> None:
        """Report the start, until that has worked or the command has ended."""
        pause = FIRST_PAUSE
        while not self.given_up.is_set():
            problem, again = self._send("start", {})
            if problem is None or not again:
                return
            self.given_up.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def end(self, status: int, took: float, said: bytes, patience: float) -> str | None:
        """Report the end. Returns what went wrong, if it did to the last."""
        pause, deadline = FIRST_PAUSE, time.monotonic() + patience
        while True:
            problem, again = self._send(str(status), {"duration": f"{took:.3f}"}, said)
            left = deadline - time.monotonic()
            if problem is None or not again or left <= 0 or self.enough.wait(min(pause, left)):
                return problem
            pause = min(2 * pause, LONGEST_PAUSE)

    def _send(self, action: str, more: dict[str, str], body: bytes = b"") -> tuple[str | None, bool]:
        """What went wrong, if anything did; and whether another try may help."""
        given = self._url
        query = "&".join(filter(None, (given.query, urlencode({"rid": self._rid, **more}))))
        url = urlunsplit((given.scheme, given.netloc, f"{given.path.rstrip('/')}/{action}", query, ""))
        headers = {"User-Agent": f"Tocsin/{__version__}", "Content-Type": "text/plain; charset=utf-8"}
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  (checked)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                answer.read(CHUNK)
        except urllib.error.HTTPError as error:
            with error:
                again = error.code >= 500 or error.code in (408, 429)
                return f"it answers {error.code} {error.reason}", again
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            return str(getattr(reason, "strerror", None) or reason or type(error).__name__), True
        return None, False


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Until it has ended; signals that come meanwhile are passed on, whenever they come.

    One that comes just before a wait in the kernel begins does not end that wait, and its handler would run when it is
    over. So somebody else waits, and here only a pipe is read, into which each signal writes.
    """
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    waiting = threading.Thread(target=lambda: (process.wait(), os.write(writes, b"\0")), daemon=True)
    waiting.start()
    while process.returncode is None:
        os.read(reads, CHUNK)
    signal.set_wakeup_fd(-1)
    waiting.join()
    os.close(reads)
    os.close(writes)
    return process.returncode


def _pass_through(source: IO[bytes], to: int, said: Tail) -> None:
    """Pass on what comes, as it comes. Whoever has closed our output has closed the command's."""
    with source:
        while part := os.read(source.fileno(), CHUNK):
            said.add(part)
            try:
                while part:
                    part = part[os.write(to, part) :]
            except OSError:
                return


def _in_front() -> bool:
    """Whether this is in the foreground of a terminal, whose signals reach the whole group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
