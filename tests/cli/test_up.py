"""`tocsin up` and its parts as real processes: starting, being ready, being killed, being told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.postgres import Postgres, of_database
from tests.processes import NO_AUTHORITIES, Process, clean_environ
from tests.service import KEY
from tests.waiting import poll
from tocsin.cli.sockets import free_port

MAX_END = 10.0
IDLE_BYTES = 190_000_000
"""In seven processes and the nine sessions of the database, where no other program shares their libraries."""
IDLE_AFTER = 40.0
"""Seconds by which the engine has closed the connections that only its start needed."""


class Up:
    """One `tocsin up` on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process(
            "up", "--port", str(self.port), "--data-dir", str(self.data_dir), environ={}, log=folder / "up.log"
        )

    def start(self) -> Up:
        begun = len(self.process.said())
        self.process.start()

        def ready() -> bool:
            said = self.process.said()[begun:]
            assert self.process.alive, said
            return f"ready {self.url}\n" in said

        poll(ready, timeout=30, what=lambda: f"ready; it said:\n{self.process.said()[begun:]}")
        return self

    def child(self, name: str) -> psutil.Process:
        """The one descendant with `name` in its command line that has no such parent."""
        found = [each for each in self.process.descendants(name) if each.ppid() == self.process.pid]
        return poll(lambda: found[0] if found else None, what=f"a child {name}")

    def works(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2, verify=NO_AUTHORITIES).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """For tests that leave it running."""
    up = Up(tmp_path_factory.mktemp("up"))
    try:
        yield up.start()
    finally:
        up.process.kill_tree()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    try:
        yield up.start()
    finally:
        up.process.kill_tree()


def tocsin(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tocsin", *arguments], env={**clean_environ(), **environ}, capture_output=True,
        text=True, timeout=30, check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


# ----------------------------------------------------------------------------------------------------------- starting


def test_the_first_start_tells_how_to_sign_in_by_a_file_that_only_its_owner_can_read(shared: Up) -> None:
    file = shared.data_dir / "first-start.txt"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in shared.process.said()
    token = file.read_text().split("API token")[1].split()[0]
    assert token not in shared.process.said()
    answer = httpx.get(f"{shared.url}/api/v1/integrations", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()) == (200, [])


def test_the_operator_sets_the_account_up_by_the_link_and_can_sign_in(shared: Up) -> None:
    link = (shared.data_dir / "first-start.txt").read_text().split("sign in")[1].split()[0]
    assert link.startswith(shared.url)
    chosen = {"email": "operator@example.com", "name": "Olga", "password": "correct horse"}
    form = {**chosen, "token": httpx.URL(link).params["token"], "password_confirmation": chosen["password"]}
    assert httpx.get(link).status_code == 200
    assert httpx.post(f"{shared.url}/welcome", data=form).status_code == 303
    user = {"user": {"email": chosen["email"], "password": chosen["password"]}}
    answer = httpx.post(f"{shared.url}/api/v1/users/sign_in", json=user)
    assert answer.status_code == 200, answer.text


def test_its_keys_are_its_owners_alone_and_in_no_process_list(shared: Up) -> None:
    file = shared.data_dir / "secret_keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = file.read_text().strip()
    for each in shared.process.family():
        with contextlib.suppress(psutil.NoSuchProcess):
            assert key not in " ".join(each.cmdline())


def test_the_start_says_its_mode(shared: Up) -> None:
    assert "production mode" in shared.process.said()


def test_ready_is_the_only_line_on_standard_output(tmp_path: Path) -> None:
    port = free_port()
    up = subprocess.Popen(
        [sys.executable, "-m", "tocsin", "up", "--port", str(port), "--data-dir", str(tmp_path / "data")],
        env=clean_environ(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    assert up.stdout
    assert up.stdout.readline() == f"ready http://127.0.0.1:{port}\n"
    up.terminate()
    assert up.communicate(timeout=MAX_END)[0] == ""
    assert up.returncode == 0


def test_a_second_one_on_the_same_folder_is_refused_in_one_line(shared: Up) -> None:
    done = tocsin("up", "--port", "0", "--data-dir", str(shared.data_dir))
    assert_one_line(done, 2, "in use by another Tocsin", str(shared.process.pid), "--data-dir")
    assert shared.works()


def test_a_busy_port_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in ("up", "serve"):
            done = tocsin(command, "--port", port, "--data-dir", str(tmp_path / "data"))
            assert_one_line(done, 2, f"127.0.0.1:{port}", "--port")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TOCSIN_ENV", "staging"),
        ("TOCSIN_DATABASE_URL", "mysql://example.com/x"),
        ("TOCSIN_SECRET_KEYS", "short"),
        ("TOCSIN_RETRY_SCHEDULE", "soon"),
        ("TOCSIN_ALLOW_NETWORKS", "10.0.0.0/99"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_in_one_line(tmp_path: Path, setting: str, value: str) -> None:
    assert_one_line(tocsin("up", "--data-dir", str(tmp_path), **{setting: value}), 2, setting)


def test_another_database_needs_keys_of_its_own(tmp_path: Path) -> None:
    url = "postgresql://tocsin@127.0.0.1:1/tocsin"
    for command in (["up", "--port", "0"], ["serve", "--port", "0"], ["engine"]):
        done = tocsin(*command, "--data-dir", str(tmp_path), TOCSIN_DATABASE_URL=url)
        assert_one_line(done, 2, "TOCSIN_SECRET_KEYS", "tocsin secrets new")


def test_bad_usage_is_one_line_that_names_what_there_is() -> None:
    assert_one_line(tocsin("upp"), 2, "'upp'", "serve", "engine")
    assert_one_line(tocsin(), 2, "no command given", "serve")
    assert_one_line(tocsin("up", "--workers", "none"), 2, "--workers", "tocsin up --help")
    assert_one_line(tocsin("serve", "--nonsense"), 2, "--nonsense")


def test_keys_that_are_gone_are_never_made_anew_beside_a_database(up: Up) -> None:
    assert up.process.stop() == 0
    (up.data_dir / "secret_keys").unlink()
    done = tocsin("up", "--port", "0", "--data-dir", str(up.data_dir))
    assert done.returncode == 2
    assert "TOCSIN_SECRET_KEYS" in done.stderr.splitlines()[-1]
    assert not (up.data_dir / "secret_keys").exists()


# ------------------------------------------------------------------------------------------------- staying and ending


def test_idle_it_is_small(shared: Up) -> None:
    def taken() -> int:
        """PSS of its processes; of one that ends while it is looked at (a backend of PostgreSQL), nothing."""
        total = 0
        for each in shared.process.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_full_info().pss
        return total

    poll(lambda: taken() <= IDLE_BYTES, timeout=IDLE_AFTER, what=lambda: f"{IDLE_BYTES} bytes, it takes {taken()}")


def test_told_to_stop_it_ends_everything_with_exit_0(up: Up) -> None:
    family = up.process.family()[1:]
    began = time.monotonic()
    assert up.process.stop(timeout=MAX_END + 5) == 0
    assert time.monotonic() - began < MAX_END
    assert not [each for each in family if each.is_running()]
    assert "database system is shut down" in (up.data_dir / "postgres.log").read_text()


def test_ctrl_c_ends_it_as_well(up: Up) -> None:
    up.process.signal(signal.SIGINT)
    assert up.process.wait(MAX_END) == 0


@pytest.mark.parametrize("part", ["serve", "engine", "postgres"])
def test_a_killed_part_comes_back(shared: Up, part: str) -> None:
    killed = shared.child(part)
    killed.kill()
    poll(lambda: not _lives(killed), what=f"{part} to be gone")
    poll(lambda: shared.process.descendants(part), what=f"{part} to be back")
    poll(shared.works, timeout=20, what=lambda: f"work without that {part}; it said:\n{shared.process.said()[-2000:]}")
    assert shared.process.alive


def test_when_it_is_killed_nothing_stays_and_the_next_start_works(up: Up) -> None:
    family = up.process.family()[1:]
    up.process.kill()
    poll(lambda: not [each for each in family if _lives(each)], what="its children to be gone")
    assert "database system is shut down" in (up.data_dir / "postgres.log").read_text()
    up.start()
    assert up.works()


def test_when_all_is_killed_the_next_start_works(up: Up) -> None:
    up.process.kill_tree()
    up.start()
    assert up.works()


def test_a_project_can_be_made_while_it_runs(shared: Up) -> None:
    done = tocsin("project", "create", "Another", "--json", "--data-dir", str(shared.data_dir))
    assert done.returncode == 0, done.stderr
    assert '"api_token"' in done.stdout


# ------------------------------------------------------------------------------------------------------- own database


async def test_the_halves_wait_for_a_database_that_is_migrated_later(postgres: Postgres, tmp_path: Path) -> None:
    name = f"late_{os.getpid()}"
    await postgres.run(f"CREATE DATABASE {name}")
    settings = {"TOCSIN_DATABASE_URL": of_database(postgres.dsn, name), "TOCSIN_SECRET_KEYS": KEY}
    place = ["--data-dir", str(tmp_path / "data")]
    serve = Process("serve", "--port", "0", *place, environ=settings, log=tmp_path / "serve.log").start()
    engine = Process("engine", *place, environ=settings, log=tmp_path / "engine.log").start()
    try:
        poll(lambda: "Waiting for migrations" in serve.said(), what="serve to wait")
        assert tocsin("migrate", *place, **settings).returncode == 0
        url = serve.wait_for_line("ready ").split()[1]
        poll(lambda: httpx.get(f"{url}/health/ready").status_code == 200, what=lambda: engine.said()[-2000:])
        assert (serve.stop(MAX_END), engine.stop(MAX_END)) == (0, 0)
    finally:
        serve.kill()
        engine.kill()
        await postgres.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
