"""`tocsin agent`: a real process that reads this very machine. What it shares with the file: test_agent_file.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Process, clean_environ
from tests.receivers import Answer, Receiver
from tests.waiting import until
from tocsin.domain import servers
from tocsin.web.static import agent

PATH = "/api/v1/server_metrics"
CREATED = Answer(201)

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Starts agents that end with the test."""
    started = []

    def run(url: str, *arguments: str) -> Process:
        log = tmp_path / f"agent{len(started)}.log"
        command = ("agent", "--url", url, "--interval", "0.3", *arguments)
        process = Process(*command, environ={"TOCSIN_TOKEN": "t"}, log=log)
        started.append(process)
        return process.start()

    yield run
    for process in started:
        process.kill()


def once(*arguments: str, said: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tocsin", "agent", "--once", *arguments]
    return subprocess.run(
        command, env={**clean_environ(), **environ}, capture_output=True, text=True, timeout=60, input=said
    )


def times(request: Any) -> list[str]:
    """The distinct times of a report's samples, in their order."""
    return list(dict.fromkeys(metric["timestamp"] for metric in request.json["metrics"]))


def test_one_report_has_the_public_agents_form_and_this_machines_figures(receiver: Receiver) -> None:
    receiver.otherwise = CREATED
    done = once("--url", receiver.url("/"), TOCSIN_TOKEN="secret")
    assert (done.returncode, done.stderr) == (0, "")
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["authorization"] == "secret"
    assert request.headers["content-type"] == "application/json"
    body = request.json
    assert body.keys() - {"failed_units"} == {"attributes", "metrics", "agent_version", "disks", "processes"}
    given = body["attributes"]
    assert {"motherboard_id", "hostname", "cpu_cores", "memory_total_bytes", "disk_total_bytes"} <= given.keys()
    assert given["motherboard_id"] not in ("", "unknown")
    samples = [servers.validate(metric) for metric in body["metrics"]]
    values = {sample.metric: sample.value for sample in samples if isinstance(sample, servers.Sample)}
    assert len(values) == len(samples)
    assert {"cpu_used", "mem_used_b", "disk_used_b"} <= values.keys()
    assert 0 < values["mem_used_b"] <= given["memory_total_bytes"]
    assert 0 < values["disk_used_b"] <= given["disk_total_bytes"]


def test_it_is_the_same_machine_every_time() -> None:
    assert agent.motherboard_id("00-0a-95-9d-67-16") == agent.motherboard_id("00-0a-95-9d-67-16")


def test_where_no_board_can_be_read_name_and_network_card_tell_machines_apart(tmp_path: Path) -> None:
    board = tmp_path / "board_serial"
    nothing = agent.motherboard_id("aa", (str(board),))
    assert nothing != agent.motherboard_id("bb", (str(board),))
    board.write_text("Default string\n")
    assert agent.motherboard_id("aa", (str(board),)) == nothing
    board.write_text("SN-12345\n")
    assert agent.motherboard_id("aa", (str(board),)) == agent.motherboard_id("bb", (str(board),)) != nothing
    assert "12345" not in agent.motherboard_id("aa", (str(board),))


def test_a_wrong_token_ends_it_with_one_line_that_says_so(receiver: Receiver, start: Start) -> None:
    receiver.otherwise = Answer(401)
    process = start(receiver.url(""))
    assert process.wait(15) == 1
    (line,) = process.said().splitlines()
    assert "does not accept the token" in line


def test_a_refused_report_fails_with_the_services_own_words(receiver: Receiver) -> None:
    receiver.otherwise = Answer(422, body=b'{"error": "invalid_request", "message": "the moon is\\nwrong"}')
    done = once("--url", receiver.url(""), TOCSIN_TOKEN="t")
    assert done.returncode == 1
    assert "answered 422: the moon is wrong" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_token_follows_no_redirect(receiver: Receiver) -> None:
    receiver.answers[PATH] = Answer(307, headers={"Location": receiver.url("/elsewhere")})
    assert once("--url", receiver.url(""), "--token", "t").returncode == 1
    assert receiver.to("/elsewhere") == []


def test_the_token_comes_by_a_file_standard_input_or_the_environment_and_else_with_a_warning(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.otherwise = CREATED
    file = tmp_path / "token"
    file.write_text("from-file\n")
    url = receiver.url("")
    quiet = [
        once("--url", url, "--token-file", str(file), TOCSIN_TOKEN="not-this"),
        once("--url", url, "--token-file", "-", said="from-input\n"),
        once("--url", url, TOCSIN_TOKEN="from-environment"),
    ]
    assert [(each.returncode, each.stderr) for each in quiet] == [(0, "")] * 3
    loud = once("--url", url, "--token", "from-line")
    assert loud.returncode == 0
    assert "everybody on this machine can read" in loud.stderr
    told = [each.headers["authorization"] for each in receiver.to("/api/v1/server_metrics")]
    assert told == ["from-file", "from-input", "from-environment", "from-line"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "http://127.0.0.1:9"],
        ["--url", "ftp://example.com", "--token", "t"],
        ["--url", "example.com", "--token", "t"],
        ["--url", "http://127.0.0.1:99999", "--token", "t"],
        ["--url", "http://127.0.0.1:9", "--token", "a\nb"],
        ["--url", "http://127.0.0.1:9", "--token-file", "/nowhere/token"],
        ["--url", "http://127.0.0.1:9", "--token", "t", "--interval", "0"],
        ["--token", "t"],
    ],
    ids=str,
)
def test_bad_usage_is_one_line_and_exit_2(arguments: list[str]) -> None:
    done = once(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


async def test_this_machine_registers_itself_at_the_real_service(
    service: Any, client: httpx.AsyncClient, start: Start
) -> None:
    start(service.url, "--token", service.token)

    async def registered() -> Any:
        return (await client.get("/api/v1/servers")).json()

    (server,) = await until(lambda: _some(registered))
    assert {"cpu_used", "mem_used_b", "disk_used_b"} <= server["last_metrics"].keys()
    taken = datetime.fromisoformat(server["last_metrics"]["cpu_used"]["timestamp"])
    assert abs(datetime.now(UTC) - taken) < timedelta(minutes=1)


async def _some(look: Callable[[], Any]) -> Any:
    return await look() or None
