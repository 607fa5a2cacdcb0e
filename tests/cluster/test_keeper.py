"""What a test starts for a cluster does not outlive it, even if nobody could clean up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from tests.waiting import poll


def test_orphans_of_orphans_end_with_whoever_had_them_started_and_their_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.keeper", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    orphan = folder / "orphan"
    script = f"setsid sh -c 'echo $$ > {orphan}; exec sleep 600' & while [ ! -s {orphan} ]; do :; done"
    wish = {"command": ["sh", "-c", script], "log": str(folder / "log"), "environ": {}, "account": None}
    keeper.stdin.write(json.dumps(wish).encode() + b"\n")
    keeper.stdin.flush()
    first = int(keeper.stdout.readline())
    poll(lambda: not psutil.pid_exists(first), what="the first one to end")
    left = psutil.Process(int(orphan.read_text()))
    assert left.ppid() == keeper.pid
    left.suspend()
    keeper.stdin.close()  # as the death of this process would
    keeper.wait(30)
    keeper.stdout.close()
    assert not left.is_running()
    assert not folder.exists()
