"""The embedded PostgreSQL's data folder: created completely or not at all, of our version, configured at each start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.storage.postgres import binaries
from tocsin.storage.postgres.children import die_with_parent

USER = DATABASE = "tocsin"

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
io_max_concurrency = 8
max_pred_locks_per_transaction = 10
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


def make(cluster: Path, runner: binaries.Account, programs: Path) -> None:
    """Create the cluster next to its place, then rename it, so that an interrupted one is never used."""
    if cluster.exists() and any(cluster.iterdir()):
        raise Unusable("TOCSIN_DATA_DIR", f"{cluster} holds something that is no PostgreSQL database")
    making = cluster.with_name("postgres.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    if runner.switch:
        os.chown(making, runner.uid, runner.gid)
    folder = os.open(making, os.O_RDONLY | os.O_DIRECTORY)
    try:
        place = f"/proc/self/fd/{folder}"
        _run(
            cluster, runner, folder, programs / "initdb", "-D", place, "--username", USER, "--auth-local", "peer",
            "--auth-host", "reject", "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8", "--no-instructions", "--no-sync",
        )
        creation = f"CREATE DATABASE {DATABASE} STRATEGY file_copy\n"
        _run(
            cluster, runner, folder, programs / "postgres", "--single", "-F", "-D", place, "-c", "exit_on_error=on",
            "postgres", stdin=creation,
        )  # without that setting, it ends well whatever became of its statements
        _run(cluster, runner, folder, programs / "initdb", "--sync-only", "-D", place)  # all of it, once
    finally:
        os.close(folder)
    _write(making / "postgresql.conf", OWN_CONFIGURATION, runner)
    making.rename(cluster)


def _run(cluster: Path, runner: binaries.Account, folder: int, *command: Path | str, stdin: str = "") -> None:
    done = subprocess.run(  # noqa: S603
        command, input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[folder],
        preexec_fn=die_with_parent(signal.SIGKILL), start_new_session=True, **runner.options(),
    )
    if done.returncode:
        reason = gist(done.stdout.decode(errors="replace"))
        raise trouble(f"cannot make its database in {cluster.parent}: {reason}")


def check_version(cluster: Path) -> None:
    version = (cluster / "PG_VERSION").read_text().strip()
    if version != binaries.MAJOR:
        raise Unusable(
            "TOCSIN_DATA_DIR",
            f"{cluster} was made by PostgreSQL {version}, and this Tocsin has {binaries.MAJOR}; save it with "
            "pg_dump of the Tocsin that made it, start this one on an empty folder, and load it there with psql",
        )


def configure(cluster: Path, runner: binaries.Account) -> None:
    """Rewritten each time: who may connect depends on who starts, and a newer version may tune differently."""
    names = dict.fromkeys((binaries.own_name(), runner.name))
    _write(cluster / "tocsin.conf", CONFIGURATION, runner)
    _write(cluster / "pg_hba.conf", "local all all peer map=tocsin\n", runner)
    _write(cluster / "pg_ident.conf", "".join(f'tocsin "{name}" {USER}\n' for name in names), runner)


def _write(path: Path, text: str, runner: binaries.Account) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if runner.switch:
            os.fchown(file.fileno(), runner.uid, runner.gid)
    new.rename(path)


def gist(output: str) -> str:
    """The line of PostgreSQL's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "rror", "could not", "cannot"))]
    return " ".join((wrong or lines or ["no reason given"])[0].split())


def trouble(problem: str) -> Refused:
    return Refused(503, "database_unavailable", f"The embedded PostgreSQL {problem}")
