"""The demo, as `make demo` runs it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import needed
from tests.command_lines import CommandLines
from tests.processes import Process
from tests.waiting import poll


def demo_in(folder: Path) -> Process:
    temporary = folder / "tmp"
    temporary.mkdir()
    return Process("demo", environ={"TMPDIR": str(temporary), "COLUMNS": "120"}, log=folder / "demo.log")


@pytest.fixture
def demo(tmp_path: Path) -> Process:
    return demo_in(tmp_path)


@pytest.fixture(scope="module")
def seen() -> Iterator[CommandLines]:
    """All command lines while the whole demo ran."""
    watching = CommandLines()
    yield watching
    watching.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, seen: CommandLines) -> Process:
    """The demo after it ended by itself."""
    demo = demo_in(tmp_path_factory.mktemp("demo")).start()
    seen.below = demo.pid
    assert demo.wait(110) == 0, demo.said()
    return demo


def test_no_token_is_on_a_command_line_while_the_demo_runs(whole: Process, seen: CommandLines) -> None:
    ours = [line for line in list(seen.seen) if "-m tocsin" in line]
    assert any(" agent " in line for line in ours)
    assert not [line for line in list(seen.seen) if re.search(r"\bt(?:c[puo]|pr)_[\w-]{20,}", line)]


def test_the_demo_shows_the_main_job_and_ends_by_itself(whole: Process) -> None:
    said = whole.said()
    for where in ("webhook", "mail", "sms", "slack"):
        assert len(re.findall(rf"^ *[\d.]+ s +{where} .* ms after the commit\]$", said, re.MULTILINE)) == 4, said
    assert "is your Tocsin verification code" in said
    assert "updated in place: Resolved" in said
    assert "development" in said
    assert not list((whole.log.parent / "tmp").iterdir()), "the demo leaves nothing behind"


def test_the_demo_stops_everything_when_it_is_interrupted(demo: Process, tmp_path: Path) -> None:
    demo.start()
    poll(lambda: "registered itself" in demo.said(), timeout=60, what=demo.said)
    family = psutil.Process(demo.pid).children(recursive=True)
    demo.signal(signal.SIGINT)
    assert demo.wait(20) != 0
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert "Traceback" not in demo.said()
    assert not list((tmp_path / "tmp").iterdir())


def test_the_demo_shows_a_dry_run_of_a_restart_where_openssh_is_installed(whole: Process) -> None:
    needed.program("sshd")
    assert "Dry run: logged in to 127.0.0.1" in whole.said()


def test_the_demo_shows_that_one_place_of_three_is_no_majority(whole: Process) -> None:
    said = whole.said()
    assert "one of three is no majority: nobody is told" in said, said
    assert re.search(r"webhook ongoing: .*From \d of 3 places \(", said), said
