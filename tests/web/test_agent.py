"""The agent that is handed out as one file: run alone, by the oldest Python there is here, against the real service."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.receivers import Answer, Receiver
from tests.waiting import poll, until
from tocsin import __version__
from tocsin.web import agent

FILE = Path(agent.__file__).parent / "static/agent.py"
CREATED = Answer(201)
VERSIONS = Path(sys.base_prefix).parent.glob("3.*/bin/python3")
PYTHONS = sorted(str(path) for path in VERSIONS if int(path.parts[-3].split(".")[1]) >= 8) or [sys.executable]
"""Those installed side by side with ours."""

Start = Callable[..., "subprocess.Popen[str]"]


def command(*arguments: str, python: str = sys.executable) -> list[str]:
    return [python, "-I", "-S", *arguments]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts agents that end with the test."""
    started = []

    def run(url: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(str(FILE), "--url", url, "--interval", "0.3", *arguments),
            env={"TOCSIN_TOKEN": "t"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def once(*arguments: str, python: str = sys.executable, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(str(FILE), "--once", *arguments, python=python), env=environ, capture_output=True, text=True, timeout=30
    )


def times(request: Any) -> list[str]:
    return list(dict.fromkeys(metric["timestamp"] for metric in request.json["metrics"]))


async def test_a_machine_with_python_alone_appears_with_readings(service: Any, client: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=service.url, trust_env=False) as stranger:
        answer = await stranger.get("/agent")
    assert answer.status_code == 200
    assert f"SERVICE = '{service.url}'" in answer.text
    done = subprocess.run(
        command("-", "--once", "--interval", "0.3"),  # as the line on the page does: from standard input
        input=answer.text, env={"TOCSIN_TOKEN": service.token}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    async def registered() -> Any:
        return (await client.get("/api/v1/servers")).json()

    (server,) = await until(registered)
    memory = psutil.virtual_memory()
    last = {name: reading["value"] for name, reading in server["last_metrics"].items()}
    assert last.keys() - {"swap_used_b"} == {
        "cpu_used", "mem_used_b", "disk_used_b", "net_sent_b", "net_recv_b", "pkt_sent", "pkt_recv", "load_1m", "disk",
    }  # fmt: skip
    assert "/" in {each["mount"] for each in server["disks"]}
    assert server["memory_total_bytes"] == memory.total
    assert last["mem_used_b"] == pytest.approx(memory.total - memory.available, rel=0.3)
    assert last["disk_used_b"] == pytest.approx(psutil.disk_usage("/").used, rel=0.1)
    assert last["net_recv_b"] == pytest.approx(psutil.net_io_counters().bytes_recv, rel=0.3)
    assert 0 <= last["cpu_used"] <= 100
    assert (server["operating_system"], server["agent_version"]) == ("linux", __version__)


@pytest.mark.parametrize("python", PYTHONS[-1:] + [each for each in PYTHONS if "/3.8" in each])
def test_it_runs_by_the_oldest_python_and_the_newest(receiver: Receiver, python: str) -> None:
    receiver.otherwise = CREATED
    done = once("--url", receiver.url("/"), "--interval", "0.2", python=python, TOCSIN_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/api/v1/server_metrics")
    assert request.headers["authorization"] == "secret"


def test_what_cannot_be_sent_is_kept_and_sent_later(receiver: Receiver, start: Start) -> None:
    receiver.then(Answer(503), Answer(how="reset"), Answer(200))
    receiver.otherwise = CREATED
    process = start(receiver.url(""))
    requests = receiver.wait_for(5)
    assert [len(times(request)) for request in requests[:5]] == [1, 2, 3, 4, 1]
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "answered 503" in said
    assert "retrying" in said
    assert "sent to" in said


def test_after_413_the_newest_go_first_and_none_is_lost(receiver: Receiver, start: Start) -> None:
    receiver.then(*[Answer(500)] * 7, Answer(413))
    receiver.otherwise = CREATED
    start(receiver.url(""))
    requests = receiver.wait_for(11)
    assert [len(times(request)) for request in requests[6:11]] == [7, 8, 6, 2, 1]
    everything = times(requests[7])
    assert times(requests[8]) == everything[-6:]
    assert times(requests[9]) == everything[:2]


def test_a_wrong_token_ends_it_with_one_line(receiver: Receiver) -> None:
    receiver.otherwise = Answer(401)
    done = once("--url", receiver.url(""), "--interval", "0.2", TOCSIN_TOKEN="t")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "does not accept the token" in line


def test_the_token_follows_no_redirect(receiver: Receiver) -> None:
    receiver.answers["/api/v1/server_metrics"] = Answer(307, headers={"Location": receiver.url("/elsewhere")})
    assert once("--url", receiver.url(""), "--interval", "0.2", TOCSIN_TOKEN="t").returncode == 1
    assert receiver.to("/elsewhere") == []


def test_the_token_may_lie_in_a_file_but_never_on_the_command_line(receiver: Receiver, tmp_path: Path) -> None:
    receiver.otherwise = CREATED
    file = tmp_path / "token"
    file.write_text("from-file\n")
    url = receiver.url("")
    assert once("--url", url, "--interval", "0.2", "--token-file", str(file)).returncode == 0
    assert receiver.requests[-1].headers["authorization"] == "from-file"
    by_input = subprocess.run(
        command(str(FILE), "--once", "--url", url, "--interval", "0.2", "--token-file", "-"), input="from-input\n",
        env={}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert by_input.returncode == 0, by_input.stderr
    assert receiver.requests[-1].headers["authorization"] == "from-input"
    refused = once("--url", url, "--token", "t")
    assert refused.returncode == 2
    assert "unrecognized arguments: --token" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--url", "ftp://example.com"], ["--url", "example.com"], ["--url", "http://a.b/%h"], []],
    ids=str,
)
def test_bad_usage_is_one_line_and_exit_2(arguments: list[str]) -> None:
    done = once(*arguments, TOCSIN_TOKEN="t")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    nobody = once("--url", "http://127.0.0.1:9")
    assert (nobody.returncode, "TOCSIN_TOKEN" in nobody.stderr) == (2, True)


def test_installing_writes_a_service_whose_token_only_root_can_read(receiver: Receiver, tmp_path: Path) -> None:
    text = FILE.read_text()
    text, moved = re.subn(
        r'"(/usr/local/lib|/etc|/etc/systemd/system)/(tocsin-agent[.a-z]+)"', f'"{tmp_path}/\\2"', text
    )
    assert moved == 3
    said = tmp_path / "said"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho $* >> {said}\n")
    systemctl.chmod(0o755)
    receiver.answers["/agent"] = Answer(200, body=b"# the agent\n")
    done = subprocess.run(
        command("-", "--install", "--url", receiver.url("")), input=text, capture_output=True, text=True, timeout=30,
        env={"TOCSIN_TOKEN": "secret", "PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said.read_text().splitlines() == ["daemon-reload", "enable tocsin-agent", "restart tocsin-agent"]
    token = tmp_path / "tocsin-agent.token"
    assert (token.read_text(), token.stat().st_mode & 0o777) == ("secret\n", 0o600)
    assert (tmp_path / "tocsin-agent.py").read_text() == "# the agent\n"
    unit = (tmp_path / "tocsin-agent.service").read_text()
    assert f"--url {receiver.url('')} " in unit
    assert "--token-file ${CREDENTIALS_DIRECTORY}/token" in unit
    assert "secret" not in unit


def test_a_service_that_is_away_is_waited_for(receiver: Receiver, start: Start) -> None:
    receiver.otherwise = CREATED
    receiver.refuse()
    process = start(receiver.url(""))
    assert process.stdout
    assert "cannot be reached" in process.stdout.readline()
    receiver.listen()
    poll(lambda: receiver.requests or None)
    assert process.poll() is None
