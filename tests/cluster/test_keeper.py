"""What a test starts for a cluster does not outlive it, even if nobody could clean up."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.cluster.keeper import Keeper
from tests.waiting import poll


def test_orphans_of_orphans_end_with_whoever_had_them_started_and_their_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    keeper = Keeper(folder)
    orphan = folder / "orphan"
    script = f"setsid sh -c 'echo $$ > {orphan}; exec sleep 600' & while [ ! -s {orphan} ]; do :; done"
    first = keeper.run(["sh", "-c", script], folder / "log", {})
    poll(lambda: not psutil.pid_exists(first), what="the first one to end")
    left = psutil.Process(int(orphan.read_text()))
    assert left.ppid() == keeper.pid
    left.suspend()
    keeper.end()
    assert not left.is_running()
    assert not folder.exists()
