"""`tocsin install-service`: units that systemd accepts and finds hardened, and what `tocsin up` tells systemd."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.needed import program
from tests.processes import Process, tocsin
from tests.waiting import PATIENCE
from tocsin.cli import unit

EXPOSED = 3.0
"""Of 10, as `systemd-analyze security` judges; below 4 is what it calls OK."""
PARTS: list[unit.Part] = ["up", "serve", "engine", "probe"]


@pytest.mark.parametrize("part", PARTS)
async def test_systemd_accepts_the_unit_of_each_part_and_finds_it_hardened(part: unit.Part, tmp_path: Path) -> None:
    done = await tocsin("install-service", "--dry-run", "--part", part)
    assert done.code == 0 or "without --dry-run, this is refused" in done.err
    text = done.out[done.out.index("[Unit]") : done.out.index("\nrun ")]
    file = tmp_path / unit.name(part)
    file.write_text(text)
    analyze = program("systemd-analyze")
    verified = subprocess.run([analyze, "verify", "--man=no", str(file)], capture_output=True, text=True)
    assert unit.name(part) not in verified.stderr, verified.stderr
    judged = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={int(EXPOSED * 10)}", "--no-pager", str(file)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-600:] + judged.stderr


async def test_systemd_accepts_the_unit_of_a_user(tmp_path: Path) -> None:
    done = await tocsin("install-service", "--user", "--dry-run", "--port", "8100", environ={"XDG_CONFIG_HOME": "/x"})
    assert done.out.startswith("write /x/systemd/user/tocsin.service:")
    assert "useradd" not in done.out
    assert "systemctl --user enable tocsin.service" in done.out
    assert "up --port 8100" in done.out
    file = tmp_path / "tocsin.service"
    file.write_text(done.out[done.out.index("[Unit]") : done.out.index("\nrun ")])
    verified = subprocess.run(
        [program("systemd-analyze"), "verify", "--user", "--man=no", str(file)], capture_output=True, text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert "tocsin.service" not in verified.stderr, verified.stderr


def test_without_root_it_is_refused_in_a_line_and_nothing_is_done() -> None:
    somebody = [program("unshare"), "--user"] if os.geteuid() == 0 else []
    command = [*somebody, sys.executable, "-m", "tocsin", "install-service", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "needs root: use sudo, or --user" in done.stderr


def test_a_python_that_the_account_cannot_reach_is_found_behind_every_link() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        closed, opened = folder / "closed", folder / "opened"
        (opened / "bin").mkdir(parents=True)
        closed.mkdir()
        (closed / "python").symlink_to(sys.executable)
        (opened / "bin" / "python").symlink_to(closed / "python")
        closed.chmod(0o700)
        root = [] if os.geteuid() == 0 else [program("unshare"), "--user", "--map-root-user"]
        command = [*root, str(opened / "bin" / "python"), "-m", "tocsin", "install-service"]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environ)
        assert done.returncode == 1
        assert f"Tocsin runs from {closed / 'python'}" in done.stderr
        assert f"({closed} is closed to it)" in done.stderr
    finally:
        shutil.rmtree(folder)


async def test_a_data_folder_is_refused_where_it_would_be_ignored() -> None:
    for more, words in ((), "its data is in /var/lib/tocsin"), (("--user",), "TOCSIN_DATA_DIR"):
        done = await tocsin("install-service", "--dry-run", "--data-dir", "/srv/x", *more)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert words in done.err


@pytest.mark.parametrize(
    ("place", "host"), [("a folder", "::1"), ("$HOME 5%n ü;x", "fe80::1%eth0"), ("plain", "tocsin.example.com")]
)
def test_systemd_reads_each_word_as_it_was_given(tmp_path: Path, place: str, host: str) -> None:
    python = tmp_path / place / "python"
    python.parent.mkdir()
    shutil.copy("/bin/true", python)
    words = [str(python), "-m", "tocsin", "up", "--host", host, 'and "this" $HOME \\ 5%']
    file = tmp_path / "tocsin.service"
    file.write_text(f"[Service]\nType=oneshot\nExecStart={unit.command_line(words)}\n")
    verified = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(file)], capture_output=True, text=True
    )
    assert "tocsin.service" not in verified.stderr, verified.stderr


@pytest.mark.parametrize("host", ["0.0.0.0\nExecStartPre=/bin/false", "-x", "a b", "\udcff", ""])
async def test_what_is_no_host_gets_into_no_unit(host: str) -> None:
    done = await tocsin("install-service", "--dry-run", "--host", host)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err


@pytest.mark.parametrize("program_", ['/opt/a"b/python', "/opt/a\\b/python", "/opt/a\nb/python", "/opt/\udcff/python"])
def test_a_program_whose_name_systemd_does_not_take_is_refused(program_: str) -> None:
    with pytest.raises(ValueError, match="systemd takes no"):
        unit.command_line([program_, "up"])


async def test_what_is_there_is_not_replaced_without_a_word(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    file = tmp_path / "systemd" / "user" / "tocsin.service"
    file.parent.mkdir(parents=True)
    made = (await tocsin("install-service", "--user", "--dry-run", environ=environ)).out
    text = made[made.index("[Unit]") : made.index("\nrun ")]
    file.write_text(text)
    assert (await tocsin("install-service", "--user", "--dry-run", environ=environ)).out.startswith(f"keep  {file}")
    file.write_text(text.replace("Restart=on-failure", "Restart=always"))
    edited = (await tocsin("install-service", "--user", "--dry-run", environ=environ)).out
    assert edited.startswith(f"replace {file}, which is there and differs")
    assert "- Restart=always\n      + Restart=on-failure" in edited
    file.unlink()
    file.symlink_to("/dev/null")
    masked = await tocsin("install-service", "--user", "--yes", environ=environ)
    assert (masked.code, masked.out, "is a link to /dev/null" in masked.err) == (1, "", True)
    assert file.is_symlink()


async def test_a_part_that_listens_nowhere_takes_no_port() -> None:
    done = await tocsin("install-service", "--part", "engine", "--port", "8100", "--dry-run")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_systemd_is_told_when_it_is_ready_that_it_lives_and_when_it_stops(tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(place))
        systemd.settimeout(PATIENCE)
        up = Process(
            "up", "--port", "0", "--data-dir", str(tmp_path / "data"), environ={"NOTIFY_SOCKET": str(place)},
            log=tmp_path / "log",
        ).start()
        try:
            told = ""
            while "READY=1" not in told:  # it may live for a while before
                assert told in ("", "WATCHDOG=1")
                told = systemd.recv(1000).decode()
            assert "STATUS=Answers at http://127.0.0.1:" in told
            up.wait_for_line("ready ")
            assert systemd.recv(1000) == b"WATCHDOG=1"
            assert "NOTIFY_SOCKET" not in up.descendants("engine")[0].environ()
            assert up.stop() == 0
            while told != "STOPPING=1":
                assert "READY=1" in told or told == "WATCHDOG=1"
                told = systemd.recv(1000).decode()
        finally:
            up.kill_tree()
