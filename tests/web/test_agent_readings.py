"""What the handed-out agent reads, beside what df, free and psutil say of this machine; and how it replaces itself."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.receivers import Answer, Receiver
from tests.web.test_agent import FILE, PYTHONS, command
from tocsin.domain import file_systems, processes, servers, units
from tocsin.web.static import agent

OLDEST = min(PYTHONS, key=lambda path: [int(number) for number in re.findall(r"\d+", path)])


def test_it_is_written_in_python_3_8_with_nothing_but_its_standard_library() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in ([each.name for each in node.names] if isinstance(node, ast.Import) else [])
        + ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
    }
    look = "import importlib.util, sys; print(all(map(importlib.util.find_spec, sys.argv[1:])))"
    stdlib = subprocess.run(
        [OLDEST, "-I", "-S", "-c", look, *sorted(imported)], capture_output=True, text=True, timeout=30
    )
    assert stdlib.stdout == "True\n", stdlib.stderr


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The body of one report of the oldest Python there is here."""
    receiver = Receiver()
    try:
        receiver.otherwise = Answer(201)
        done = subprocess.run(
            command(str(FILE), "--once", "--interval", "0.5", "--url", receiver.url(""), python=OLDEST),
            env={"TOCSIN_TOKEN": "t", "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return receiver.requests[-1].json
    finally:
        receiver.close()


def test_everything_that_it_sends_is_valid(sent: Any) -> None:
    assert file_systems.valid(sent["disks"])[1] == []
    assert units.valid(sent.get("failed_units"))[1] == []
    assert processes.valid(sent["processes"])[1] == []
    assert all(isinstance(servers.validate(each), servers.Sample) for each in sent["metrics"])


def test_file_systems_are_as_full_as_df_says(sent: Any) -> None:
    assert "/" in {each["mount"] for each in sent["disks"]}
    for each in sent["disks"]:
        line = subprocess.run(
            ["df", "-B1", "--output=pcent,ipcent", each["mount"]], capture_output=True, text=True, check=True
        )
        by_bytes, by_inodes = line.stdout.splitlines()[1].replace("%", "").split()
        assert abs(100 * each["used"] / each["total"] - int(by_bytes)) <= 1.5
        assert by_inodes == "-" if each["inodes"] is None else abs(each["inodes"] - int(by_inodes)) <= 1.5
    values = {each["metric"]: each["value"] for each in sent["metrics"]}
    assert abs(values["disk"] - max(map(file_systems.percent, sent["disks"]))) <= 1


def test_swap_and_load_are_those_of_this_machine(sent: Any) -> None:
    values = {each["metric"]: each["value"] for each in sent["metrics"]}
    swap = psutil.swap_memory()
    assert sent["attributes"]["swap_total_bytes"] == swap.total
    assert ("swap_used_b" in values) == bool(swap.total)
    assert values["load_1m"] == pytest.approx(os.getloadavg()[0], rel=0.8, abs=2)


def test_the_process_that_is_busy_is_the_highest_by_name_without_its_arguments() -> None:
    reader = agent.Reader()
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done", "secret-argument"])
    try:
        def found() -> bool:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                reader.sample()
                if any(each["name"] == "sh" for each in reader.highest["cpu"]):
                    return True
                time.sleep(0.2)
            return False

        assert found()
        assert "secret-argument" not in json.dumps(reader.highest)
    finally:
        busy.kill()
        busy.wait()


def test_pseudo_network_and_read_only_file_systems_and_second_mounts_are_left_out(tmp_path: Path) -> None:
    spaced = tmp_path / "my disk"
    for each in (spaced, tmp_path / "bound", tmp_path / "snap", tmp_path / "nfs", tmp_path / "ro", tmp_path / "tmp"):
        each.mkdir()
    (tmp_path / "file").touch()
    where = str(tmp_path)
    lines = [
        f"1 0 8:1 / {where}/my\\040disk ro,nosuid shared:1 - ext4 /dev/sda1 rw,discard",  # as in a sandboxed service
        f"2 0 8:1 /sub {where}/my\\040disk/bound/again rw - ext4 /dev/sda1 rw",
        f"3 0 7:1 / {where}/snap ro - squashfs /dev/loop1 ro",
        f"4 0 0:50 / {where}/nfs rw - nfs4 host:/export rw",
        f"5 0 8:2 / {where}/ro rw - ext4 /dev/sdb1 ro",
        f"6 0 0:51 / {where}/tmp rw - tmpfs tmpfs rw",
        f"7 0 8:3 / {where}/file rw - ext4 /dev/sdc1 rw",
        f"8 0 8:4 / {where}/gone rw - ext4 /dev/sdd1 rw",
        "9 0 0:52 / / rw - overlay overlay rw",
        "nonsense",
    ]
    mounted, kinds = tmp_path / "mountinfo", tmp_path / "filesystems"
    mounted.write_text("\n".join(lines))
    kinds.write_text("nodev\ttmpfs\nnodev\tnfs4\nnodev\toverlay\n\text4\n\tsquashfs\n")
    found = agent.file_systems(str(mounted), str(kinds))
    assert sorted(each["mount"] for each in found) == ["/", str(spaced)]


def test_failed_units_are_sent_where_there_is_systemd(sent: Any) -> None:
    assert ("failed_units" in sent) == os.path.isdir("/run/systemd/system")


# -------------------------------------------------------------------------------------------------------------- update


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path = tmp_path / "tocsin-agent.py"
    path.write_bytes(FILE.read_bytes())
    path.chmod(0o755)
    return path


@pytest.fixture
def update(installed: Path) -> Callable[[str], Any]:
    def run(url: str) -> Any:
        return subprocess.run(
            command(str(installed), "--update", "--url", url, python=OLDEST), env={}, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip

    return run


def offer(receiver: Receiver, program: bytes, said: str = "") -> None:
    receiver.answers["/agent"] = Answer(200, body=program)
    said = said or f"{hashlib.sha256(program).hexdigest()}  tocsin-agent.py\n"
    receiver.answers["/agent.sha256"] = Answer(200, body=said.encode())


def test_an_update_replaces_the_file_whole_keeps_the_old_one_and_its_mode(
    receiver: Receiver, installed: Path, update: Any
) -> None:
    old = installed.read_bytes()
    offer(receiver, b"print('new')\n")
    done = update(receiver.url(""))
    assert (done.returncode, installed.read_bytes()) == (0, b"print('new')\n"), done.stderr
    kept = installed.with_name("tocsin-agent.py.old")
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777, installed.stat().st_mode & 0o777) == (old, 0o755, 0o755)
    assert [each.name for each in installed.parent.iterdir() if each.name.endswith(".new")] == []


@pytest.mark.parametrize(
    ("program", "said", "words"),
    [
        (b"print('new')\n", "0" * 64, "is not what it says"),
        (b"print('new')\n", " ", "is not what it says"),
        (b"<html>sign in</html>", "", "is no program"),
        (b"#" * 1_000_001, "", "is not what it says"),
    ],
    ids=["another hash", "no hash", "no program", "too long"],
)
def test_what_is_not_whole_or_no_program_changes_nothing(
    receiver: Receiver, installed: Path, update: Any, program: bytes, said: str, words: str
) -> None:
    old = installed.read_bytes()
    offer(receiver, program, said)
    done = update(receiver.url(""))
    assert (done.returncode, installed.read_bytes()) == (1, old)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(installed.parent.iterdir()) == [installed]


def test_an_update_over_plain_http_from_elsewhere_is_refused_before_anything_is_asked(
    installed: Path, update: Any
) -> None:
    done = update("http://tocsin.example.com")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "needs an https address" in done.stderr


async def test_the_service_hands_out_what_an_update_checks(service: Any, installed: Path, update: Any) -> None:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as stranger:
        program, said = (await stranger.get("/agent")).content, (await stranger.get("/agent.sha256")).text
    assert said == f"{hashlib.sha256(program).hexdigest()}  tocsin-agent.py\n"
    first, second = update(service.url), update(service.url)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert installed.read_bytes() == program
    assert "is up to date" in second.stderr
