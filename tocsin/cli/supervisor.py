"""What `tocsin up` supervises: PostgreSQL, the API processes and an engine."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

import click
import structlog

from tocsin.cli.child_process import Backoff, Child, Interruption, how
from tocsin.cli.sockets import url_of
from tocsin.cli.systemd import Notifier
from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.settings import Settings
from tocsin.storage.postgres.embedded import Server

log = structlog.get_logger(__name__)

TICK = 1.0
READY_TIMEOUT = 10.0
"""Seconds that database and engine may take to become ready once the API answers, before a warning."""
END = 9.0
"""Seconds from the first signal until we exit."""
DATABASE_END = 1.2
"""Of those, reserved for a clean shutdown of the database."""


class Supervisor:
    """The processes of one `tocsin up`."""

    def __init__(self, settings: Settings, listening: socket.socket, server: Server | None, workers: int) -> None:
        self.url = url_of(listening)
        self.server = server
        self.server_backoff = Backoff()
        self.events = selectors.DefaultSelector()
        self.stopping = Interruption(self.events)
        self.announced = False
        self.answering_since: float | None = None
        place = ["--data-dir", str(settings.data_dir)]
        public_url = settings.public_url or self.url
        ours = dict(os.environ)
        self.systemd = Notifier(ours.pop("NOTIFY_SOCKET", None))
        environ = {**ours, "TOCSIN_FOUND_URL": self.url, "MALLOC_ARENA_MAX": "2"}
        self.preparing = Child("migrate", ["migrate", "--first-start", public_url, *place], environ)
        handed = listening.fileno()
        self.api = [
            Child(f"serve {number}", ["serve", "--fd", str(handed), *place], environ, fds=[handed])
            for number in range(1, workers + 1)
        ]
        self.engine = Child("engine", ["engine", *place], environ)

    @property
    def kept(self) -> list[Child]:
        return [*self.api, self.engine]

    def run(self) -> int:
        """Runs until a signal, or until a start fails for good. Returns the exit status."""
        try:
            return self._run()
        finally:
            self._end()

    def _run(self) -> int:
        if self.server:
            self.server_backoff.started()
            self.server.start(self._give_up)
        for child in (self.preparing, *self.kept):
            if not self.stopping():
                child.start(self.events)
        while not self.stopping():
            self._wait(TICK if self.announced else 0.05)
            self.systemd.alive()
            if not self.announced and (failed := self._failed()) is not None:
                return failed
            self._keep_up()
            if not self.announced:
                self._announce()
        return 0

    def _give_up(self) -> bool:
        """Asked while the database starts, which may take minutes after a crash: we live meanwhile."""
        self.systemd.alive()
        return self.stopping()

    def _wait(self, seconds: float) -> None:
        for event, _ in self.events.select(seconds):
            if event.data is None:
                self.stopping.clear()
            else:
                event.data.read(self.events)

    def _failed(self) -> int | None:
        """The exit status of a child that failed before we were ready; it has logged why."""
        for child in (self.preparing, *self.kept):
            if child.status:
                return child.status if child.status > 0 else 1
        return None

    def _keep_up(self) -> None:
        if self.server:
            self._keep_database_up(self.server)
        for child in self.kept:
            child.keep_up(self.events)

    def _keep_database_up(self, server: Server) -> None:
        for line in server.news():
            if not line.startswith("LOG:") or "terminated by signal" in line:
                log.warning("PostgreSQL logged", line=line)
        if server.status is not None:
            pause = self.server_backoff.ended()
            log.error("PostgreSQL ended; restarting it", how=how(server.status), pause=pause)
            server.forget()
        if not server.alive and self.server_backoff.due:
            self.server_backoff.started()
            try:
                server.start(self._give_up)
                log.info("PostgreSQL is running again")
            except (Refused, Unusable) as error:
                pause = self.server_backoff.ended()
                log.error("PostgreSQL could not be started; retrying", error=str(error), pause=pause)

    def _announce(self) -> None:
        """Print `ready` once requests are answered, and database and engine are ready."""
        if self.preparing.alive or not any(child.ready for child in self.api):
            return
        now = time.monotonic()
        self.answering_since = self.answering_since or now
        if not _all_ready(self.url):
            if now - self.answering_since < READY_TIMEOUT:
                return
            log.warning("The API answers, but not everything is ready yet", see=f"{self.url}/health/ready")
        click.echo(f"ready {self.url}")
        self.systemd.ready(f"Answers at {self.url}")
        self.announced = True

    def _end(self) -> None:
        """Stop the children first, then the database; a second signal kills them at once."""
        self.systemd.stopping()
        asked = self.stopping.count
        deadline = time.monotonic() + END
        children = (self.preparing, *self.kept)
        for child in children:
            child.send_signal(signal.SIGTERM)
        last = deadline - (DATABASE_END if self.server else 0.0)
        while any(child.alive for child in children) and time.monotonic() < last:
            if self.stopping.count > max(asked, 1):
                break
            self._wait(0.1)
        for child in children:
            if child.alive:
                log.warning("A process did not stop in time; killing it", child=child.name)
                child.send_signal(signal.SIGKILL)
        if self.server:
            self.server.stop(max(deadline - time.monotonic(), DATABASE_END / 2))
        log.info("Stopped")


def _all_ready(url: str) -> bool:
    """Request our own `/health/ready` by hand: a client library would need more memory than all the rest."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.hostname, address.hostname)  # noqa: S104
    try:
        with closing(socket.create_connection((host, address.port), timeout=1.0)) as wire:
            wire.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return wire.recv(12)[9:12] == b"200"
    except OSError:
        return False
