"""`tocsin run`: a command keeps its output, its signals and its exit status, and its heartbeat hears of all of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.processes import clean_environ
from tests.receivers import Answer, Receiver, Request
from tests.waiting import poll
from tocsin.storage.postgres.children import die_with_parent

KEY = "/ping/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
AWAY = Answer(503)


class Running:
    """`tocsin run` as a process of its own."""

    def __init__(self, url: str, *command: str, options: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tocsin", "run", *options, "--", *command], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**clean_environ(), "TOCSIN_HEARTBEAT": url},
            start_new_session=True, preexec_fn=_as_from_a_terminal(),
        )  # fmt: skip

    def ended(self) -> tuple[int, str, str]:
        """Exit status, and what was said on both outputs."""
        out, error = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), error.decode()


def _as_from_a_terminal() -> Callable[[], None]:
    """Whoever started the tests may ignore signals, as `nohup` does: what they start would ignore them, too."""
    ends_with_us = die_with_parent(signal.SIGKILL)

    def arrange() -> None:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(each, signal.SIG_DFL)
        ends_with_us()

    return arrange


def run(url: str, *command: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    return Running(url, *command, options=options).ended()


def action(request: Request) -> str:
    return urlsplit(request.path).path.removeprefix(KEY + "/")


def asked(request: Request, name: str) -> str:
    return parse_qs(urlsplit(request.path).query)[name][0]


@pytest.fixture
def url(receiver: Receiver) -> str:
    return receiver.url(KEY)


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_exit_status_is_the_commands_and_is_reported_with_duration_and_output(
    receiver: Receiver, url: str, status: int
) -> None:
    script = f"echo one; echo two >&2; sleep 0.2; echo three; exit {status}"
    assert run(url, "sh", "-c", script) == (status, "one\nthree\n", "two\n")
    start, end = receiver.requests
    assert (start.method, action(start), start.body) == ("POST", "start", b"")
    assert (end.method, action(end)) == ("POST", str(status))
    assert sorted(end.body.split()) == [b"one", b"three", b"two"]
    assert asked(start, "rid") == asked(end, "rid")
    assert 0.2 <= float(asked(end, "duration")) < 30


def test_only_the_last_output_is_reported_and_all_of_it_is_passed_on(receiver: Receiver, url: str) -> None:
    status, out, _ = run(url, sys.executable, "-c", "print('x' * 300_000 + 'end')")
    assert (status, len(out)) == (0, 300_004)
    assert len(receiver.requests[-1].body) == 100_000
    assert receiver.requests[-1].body.endswith(b"xend\n")


def test_output_that_is_nobodys_business_is_not_reported(receiver: Receiver, url: str) -> None:
    assert run(url, "echo", "secret", options=("--no-output",)) == (0, "secret\n", "")
    assert receiver.requests[-1].body == b""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signals_reach_the_command_which_decides_what_they_mean(receiver: Receiver, url: str, name: str) -> None:
    script = f"trap 'echo heard; exit 42' {name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    running = Running(url, "sh", "-c", script)
    assert running.process.stdout is not None
    assert running.process.stdout.readline() == b"ready\n"
    running.process.send_signal(getattr(signal, name))
    assert running.ended() == (42, "heard\n", "")
    assert action(receiver.requests[-1]) == "42"


def test_a_command_that_a_signal_ends_is_reported_as_shells_do(receiver: Receiver, url: str) -> None:
    status, _, _ = run(url, "sh", "-c", "kill -KILL $$")
    assert status == 128 + signal.SIGKILL
    assert action(receiver.requests[-1]) == "137"


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/etc/hostname", 126)])
def test_a_command_that_cannot_be_run_is_a_failure_too(
    receiver: Receiver, url: str, command: str, status: int
) -> None:
    ended, _, said = run(url, command)
    assert ended == status
    assert f"cannot run {command}" in said
    assert (action(receiver.requests[-1]), receiver.requests[-1].body[:10]) == (str(status), b"cannot run")


def test_a_service_that_is_away_does_not_hinder_the_command(tmp_path: Path) -> None:
    receiver, done = Receiver(), tmp_path / "done"
    receiver.otherwise = Answer(how="hang")
    running = Running(receiver.url(KEY), "sh", "-c", f"echo working; touch {done}; exit 7", options=("--patience", "0"))
    poll(done.exists, what="the command to work while its start is being reported")
    receiver.close()
    status, out, said = running.ended()
    assert (status, out) == (7, "working\n")
    assert "could not be reported to 127.0.0.1" in said
    assert KEY.rpartition("/")[2] not in said


def test_the_end_is_reported_again_until_the_service_is_back(receiver: Receiver, url: str) -> None:
    receiver.otherwise = AWAY
    running = Running(url, "true")
    poll(lambda: any(action(each) == "0" for each in receiver.requests), what="a first report of the end")
    receiver.otherwise = Answer()
    assert running.ended()[0] == 0
    assert [each.answer.status for each in receiver.requests if action(each) == "0"][-1] == 200


def test_an_address_that_is_unknown_is_not_tried_again(receiver: Receiver, url: str) -> None:
    receiver.otherwise = Answer(404)
    began = time.monotonic()
    status, _, said = run(url, "true")
    assert status == 0
    assert "404" in said
    assert len([each for each in receiver.requests if action(each) == "0"]) == 1
    assert time.monotonic() - began < 50


def test_what_the_command_leaves_running_does_not_keep_it_from_ending(receiver: Receiver, url: str) -> None:
    began = time.monotonic()
    status, _, _ = run(url, "sh", "-c", "sleep 300 & echo $!")
    assert (status, time.monotonic() - began < 60) == (0, True)
    left = int(receiver.requests[-1].body)
    subprocess.run(["kill", str(left)], check=True)


def test_an_address_by_slug_keeps_its_query(receiver: Receiver) -> None:
    assert run(receiver.url("/ping/key/backup?create=1"), "true")[0] == 0
    assert {urlsplit(each.path).path for each in receiver.requests} == {"/ping/key/backup/start", "/ping/key/backup/0"}
    assert {asked(each, "create") for each in receiver.requests} == {"1"}


def test_without_an_address_nothing_is_run(tmp_path: Path) -> None:
    for wrong in ("", "ftp://example.com/ping", "http://", "http://example.com:99999/ping/x"):
        status, _, said = run(wrong, "touch", str(tmp_path / "made"))
        assert (status, (tmp_path / "made").exists()) == (2, False)
        assert said.startswith("tocsin: needs the ping_url of a heartbeat")


def test_an_address_on_the_command_line_is_warned_of_and_one_in_a_file_is_not(
    receiver: Receiver, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "heartbeat"
    file.write_text(url + "\n")
    assert run("", "true", options=("--heartbeat-file", str(file))) == (0, "", "")
    status, _, said = run("", "true", options=("--heartbeat", url))
    assert status == 0
    assert "everybody on this machine can read" in said
    assert [action(each) for each in receiver.requests].count("0") == 2
