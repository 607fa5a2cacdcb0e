"""The embedded PostgreSQL: a direct child of this process, reached over a socket in the data folder and nowhere else.

The server is given its folder as an open file (`/proc/self/fd/N`). So it needs no access to the folders above, which
may be closed to its account, and the path of its socket is never too long for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import binaries
from tocsin.storage.postgres.children import die_with_parent
from tocsin.storage.postgres.data_folder import DATABASE, USER, check_version, configure, gist, make, trouble

SOCKET = ".s.PGSQL.5432"
MAX_SOCKET_LENGTH = 107
"""Bytes that the path of a unix socket may have."""

TAKEOVER = 30.0
"""Seconds that a server, left behind by a killed parent, gets to exit."""

DYING = 1.0
"""Seconds that a process, killed while it held the folder, may take to disappear."""

RECOVERY = 600.0
"""Seconds that a server may take to replay its log after a crash."""

LOG_LIMIT = 10_000_000
"""Bytes of the server's log file, which each start truncates."""

def dsn_of(data_dir: Path) -> str:
    """The address of the embedded server of that folder, running or not, whoever started it."""
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(_socket_folder(data_dir / 'postgres')), safe='/')}"


def start(data_dir: Path) -> Server:
    """A server on that folder, ready for connections: `dsn`, `stop()`. To be called from the main thread."""
    server = Server(data_dir)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


class Server:
    """The server of one data folder, which this process locks until `stop` or `close`.

    Raises `Unusable` for a folder that cannot be used, `Refused` if PostgreSQL does not start.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.cluster = data_dir / "postgres"
        self.log = data_dir / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(data_dir)
        except OSError as error:
            raise Unusable("TOCSIN_DATA_DIR", f"{data_dir} cannot be used ({error.strerror})") from error

    @property
    def dsn(self) -> str:
        return dsn_of(self.data_dir)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its return code, as of `subprocess`; None while it runs or has not been started."""
        return self._process.poll() if self._process else None

    def forget(self) -> None:
        """Take note that it has ended."""
        self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Start it and wait until it takes connections. `give_up` is polled meanwhile and aborts the start."""
        try:
            self._start(give_up)
        except (OSError, subprocess.SubprocessError) as error:
            raise trouble(f"cannot be started on {self.cluster} ({error})") from error

    def _start(self, give_up: Callable[[], bool]) -> None:
        runner = binaries.account(self.cluster)
        programs = binaries.programs(runner)
        if not (self.cluster / "PG_VERSION").exists():
            make(self.cluster, runner, programs)
        check_version(self.cluster)
        configure(self.cluster, runner)
        deadline = time.monotonic() + TAKEOVER
        while not give_up():
            self._take_over(runner, deadline)
            output = self._launch(runner, programs, give_up)
            if output is None:
                return
            if not any(sign in output for sign in ("lock file", "shared memory block")) or time.monotonic() > deadline:
                raise trouble(f"did not start on {self.cluster}: {gist(output)}")
            time.sleep(0.1)

    def _take_over(self, runner: binaries.Account, deadline: float) -> None:
        """Wait for a server that outlived its parent, then remove what it or a crash left behind.

        PostgreSQL itself takes any process with the number in its pid file, even a zombie, for a running server.
        """
        urged = None
        while left := _processes_in(self.cluster, runner.uid):
            urge = signal.SIGQUIT if time.monotonic() > deadline - TAKEOVER / 3 else signal.SIGINT
            main = _pid_on_file(self.cluster)
            if urge != urged and main in left:
                os.kill(main, urge)
                urged = urge
            if time.monotonic() > deadline:
                raise trouble(f"still runs on {self.cluster} as process {min(left)}; stop it, then start again")
            time.sleep(0.02)
        for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
            (self.cluster / name).unlink(missing_ok=True)

    def _launch(self, runner: binaries.Account, programs: Path, give_up: Callable[[], bool]) -> str | None:
        """Start `postgres` and wait; None when it is ready, else its output before it ended."""
        folder = os.open(self.cluster, os.O_RDONLY | os.O_DIRECTORY)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        place = f"/proc/self/fd/{folder}"
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [programs / "postgres", "-D", place, "-k", place],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[folder], start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGINT), **runner.options(),
            )
        finally:
            os.close(folder)
            os.close(log)
        self._read = 0
        deadline = time.monotonic() + RECOVERY
        while self.alive:
            if _ready(self.cluster, self._process.pid):
                return None
            if give_up():
                return ""
            if time.monotonic() > deadline:
                self._end(signal.SIGQUIT, 5.0)
                raise trouble(f"was not ready on {self.cluster} within {RECOVERY:.0f} s; see {self.log}")
            time.sleep(0.005)
        return self.log.read_text(errors="replace")

    def news(self) -> list[str]:
        """What the server has logged since the last call. Keeps the file bounded."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._read)
                lines = file.read(100_000).splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            self._read += sum(map(len, whole))
            if self._read > LOG_LIMIT:
                os.truncate(self.log, 0)
                self._read = 0
        except OSError:
            return []
        return [line.decode(errors="replace").strip() for line in whole]

    def stop(self, patience: float = 8.0) -> None:
        """Shut down cleanly; after `patience` seconds immediately, which the next start repairs. Unlocks the folder."""
        try:
            self._end(signal.SIGINT, patience)
        finally:
            self.close()

    def _end(self, signum: int, patience: float) -> None:
        if not self.alive or self._process is None:
            return
        self._process.send_signal(signum)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """Unlock the folder. A server that still runs ends with this process."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(data_dir: Path) -> int:
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + DYING
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            os.close(lock)
            raise Unusable(
                "TOCSIN_DATA_DIR",
                f"{data_dir} is in use by another Tocsin (process {holder or 'unknown'}); stop that one, or choose "
                "another folder with --data-dir",
            ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _socket_folder(cluster: Path) -> Path:
    """The folder of the socket, by a path that is short enough to connect to."""
    if len(os.fsencode(cluster / SOCKET)) <= MAX_SOCKET_LENGTH:
        return cluster
    shelf = Path(f"/tmp/tocsin-{os.geteuid()}")  # noqa: S108 - checked below to be ours alone
    short = shelf / hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    try:
        shelf.mkdir(mode=0o700, exist_ok=True)
        found = shelf.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o170077 != 0o040000:
            raise PermissionError(0, f"{shelf} is not ours alone")
        if not short.is_symlink():
            short.symlink_to(cluster)
    except FileExistsError:  # another process was faster
        pass
    except OSError as error:
        raise Unusable(
            "TOCSIN_DATA_DIR", f"{cluster} is too long a path, and there is no shorter way to it ({error.strerror})"
        ) from error
    return short


def _processes_in(cluster: Path, uid: int) -> set[int]:
    """Running processes of the server of that folder: those with it as working directory."""
    place = cluster.stat()
    on_file = _pid_on_file(cluster)
    found = set()
    for entry in os.scandir("/proc"):
        try:
            if not entry.name.isdecimal() or entry.stat().st_uid != uid:
                continue
            name, _, rest = Path(entry.path, "stat").read_text().partition("(")[2].rpartition(")")
            if name != "postgres" or rest.split()[0] in "ZX":
                continue
            if os.path.samestat(Path(entry.path, "cwd").stat(), place):
                found.add(int(entry.name))
        except PermissionError:  # a container's root may not see others' working directories
            if int(entry.name) == on_file:
                found.add(on_file)
        except OSError:  # it ended meanwhile
            continue
    return found


def _pid_on_file(cluster: Path) -> int:
    try:
        return int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return 0


def _ready(cluster: Path, pid: int) -> bool:
    try:
        lines = (cluster / "postmaster.pid").read_text().split("\n")
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
