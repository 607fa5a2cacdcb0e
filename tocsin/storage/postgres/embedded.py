"""The embedded PostgreSQL: a direct child of this process, reached over a socket in the data folder and nowhere else.

The server is given its folder as an open file (`/proc/self/fd/N`). So it needs no way through the folders above, which
may be closed to its account, and the path of its socket is never too long for it.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import binaries

USER = DATABASE = "tocsin"
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET = 107
"""Bytes that the path of a unix socket may have."""

TAKEOVER = 30.0
"""Seconds that a server, left behind by a killed parent, gets to end."""

DYING = 1.0
"""Seconds that a process, killed while it held the folder, may take to be gone."""

RECOVERY = 600.0
"""Seconds that a server may take to replay its log after a crash."""

LOG_LIMIT = 10_000_000
"""Bytes of the server's log file, which each start begins anew."""

CONFIGURATION = """\
# Written by Tocsin at each start. Your own settings go into postgresql.conf, below its first line.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 60
shared_buffers = 64MB
effective_cache_size = 512MB
maintenance_work_mem = 32MB
huge_pages = off
jit = off
random_page_cost = 1.1
max_parallel_workers = 0
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
max_logical_replication_workers = 0
max_worker_processes = 2
io_method = sync
wal_level = minimal
max_wal_senders = 0
wal_compression = on
wal_buffers = 4MB
min_wal_size = 128MB
max_wal_size = 2GB
checkpoint_timeout = 15min
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_line_prefix = ''
log_checkpoints = off
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
"""

OWN_CONFIGURATION = "include 'tocsin.conf'\n"

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def die_with_parent(signum: int) -> Callable[[], None]:
    """For `preexec_fn`: the child gets `signum` when the thread that starts it ends, however that happens."""
    parent = os.getpid()

    def arrange() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # it ended before this was arranged
            os._exit(1)

    return arrange


def dsn_of(data_dir: Path) -> str:
    """Where the embedded server of that folder is, or would be, reached; by whom it was started does not matter."""
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
    """The server of one data folder, which is this process's alone from here to `stop` or `close`.

    Raises `Unusable` for a folder that cannot be used, `Refused` where PostgreSQL does not start.
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
        """How it ended, as `subprocess` says it; None while it runs or has not been started."""
        return self._process.poll() if self._process else None

    def forget(self) -> None:
        """Take note that it has ended."""
        self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Start it and wait until it takes connections. `give_up` is asked meanwhile whether to leave it at that."""
        try:
            self._start(give_up)
        except (OSError, subprocess.SubprocessError) as error:
            raise _trouble(f"cannot be started on {self.cluster} ({error})") from error

    def _start(self, give_up: Callable[[], bool]) -> None:
        runner = binaries.account(self.cluster)
        programs = binaries.programs(runner)
        if not (self.cluster / "PG_VERSION").exists():
            self._make(runner, programs)
        self._check_version()
        self._configure(runner)
        deadline = time.monotonic() + TAKEOVER
        while not give_up():
            self._take_over(runner, deadline)
            said = self._launch(runner, programs, give_up)
            if said is None:
                return
            if not any(sign in said for sign in ("lock file", "shared memory block")) or time.monotonic() > deadline:
                raise _trouble(f"did not start on {self.cluster}: {_gist(said)}")
            time.sleep(0.1)

    def _make(self, runner: binaries.Account, programs: Path) -> None:
        """Create the cluster beside its place, so that one that was interrupted is never taken for whole."""
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise Unusable("TOCSIN_DATA_DIR", f"{self.cluster} holds something that is no PostgreSQL database")
        making = self.cluster.with_name("postgres.new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        if runner.switch:
            os.chown(making, runner.uid, runner.gid)
        folder = os.open(making, os.O_RDONLY | os.O_DIRECTORY)
        try:
            place = f"/proc/self/fd/{folder}"
            self._run(
                runner, folder, programs / "initdb", "-D", place, "--username", USER, "--auth-local", "peer",
                "--auth-host", "reject", "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
                "--builtin-locale", "C.UTF-8", "--no-instructions", "--no-sync",
            )
            creation = f"CREATE DATABASE {DATABASE} STRATEGY file_copy\n"
            self._run(runner, folder, programs / "postgres", "--single", "-F", "-D", place, "postgres", said=creation)
            self._run(runner, folder, programs / "initdb", "--sync-only", "-D", place)  # all of it, once
        finally:
            os.close(folder)
        _write(making / "postgresql.conf", OWN_CONFIGURATION, runner)
        making.rename(self.cluster)

    def _run(self, runner: binaries.Account, folder: int, *command: Path | str, said: str = "") -> None:
        done = subprocess.run(  # noqa: S603
            command, input=said.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[folder],
            preexec_fn=die_with_parent(signal.SIGKILL), start_new_session=True, **runner.options(),
        )
        if done.returncode:
            reason = _gist(done.stdout.decode(errors="replace"))
            raise _trouble(f"cannot make its database in {self.data_dir}: {reason}")

    def _check_version(self) -> None:
        version = (self.cluster / "PG_VERSION").read_text().strip()
        if version != binaries.MAJOR:
            raise Unusable(
                "TOCSIN_DATA_DIR",
                f"{self.cluster} was made by PostgreSQL {version}, and this Tocsin has {binaries.MAJOR}; save it with "
                "pg_dump of the Tocsin that made it, start this one on an empty folder, and load it there with psql",
            )

    def _configure(self, runner: binaries.Account) -> None:
        """Written anew each time: who may connect depends on who starts, and a newer version may tune differently."""
        names = dict.fromkeys((binaries.own_name(), runner.name))
        _write(self.cluster / "tocsin.conf", CONFIGURATION, runner)
        _write(self.cluster / "pg_hba.conf", "local all all peer map=tocsin\n", runner)
        _write(self.cluster / "pg_ident.conf", "".join(f'tocsin "{name}" {USER}\n' for name in names), runner)

    def _take_over(self, runner: binaries.Account, deadline: float) -> None:
        """Wait for a server that outlived its parent, then remove what it or a crash left lying about.

        PostgreSQL itself takes any process with the number in its pid file, even a dead one, for a living server.
        """
        urged = None
        while left := _processes_in(self.cluster, runner.uid):
            urge = signal.SIGQUIT if time.monotonic() > deadline - TAKEOVER / 3 else signal.SIGINT
            main = _pid_on_file(self.cluster)
            if urge != urged and main in left:
                os.kill(main, urge)
                urged = urge
            if time.monotonic() > deadline:
                raise _trouble(f"still runs on {self.cluster} as process {min(left)}; stop it, then start again")
            time.sleep(0.02)
        for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
            (self.cluster / name).unlink(missing_ok=True)

    def _launch(self, runner: binaries.Account, programs: Path, give_up: Callable[[], bool]) -> str | None:
        """Start `postgres` and wait; None when it is ready, else what it said before it ended."""
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
                raise _trouble(f"was not ready on {self.cluster} within {RECOVERY:.0f} s; see {self.log}")
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
        """Shut down cleanly; after `patience` seconds at once, which the next start repairs. Gives the folder free."""
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
        """Give the folder free. A server that still runs ends with this process."""
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
    if len(os.fsencode(cluster / SOCKET)) <= LONGEST_SOCKET:
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
    except FileExistsError:  # another process was quicker
        pass
    except OSError as error:
        raise Unusable(
            "TOCSIN_DATA_DIR", f"{cluster} is too long a path, and there is no shorter way to it ({error.strerror})"
        ) from error
    return short


def _processes_in(cluster: Path, uid: int) -> set[int]:
    """Living processes of the server of that folder: those that stand in it."""
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
        except PermissionError:  # a container's root may not see where others stand
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


def _write(path: Path, text: str, runner: binaries.Account) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if runner.switch:
            os.fchown(file.fileno(), runner.uid, runner.gid)
    new.rename(path)


def _gist(said: str) -> str:
    """The line of a log that says what went wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "rror", "could not"))]
    return " ".join((wrong or lines or ["no reason given"])[0].split())


def _trouble(problem: str) -> Refused:
    return Refused(503, "database_unavailable", f"The embedded PostgreSQL {problem}")
