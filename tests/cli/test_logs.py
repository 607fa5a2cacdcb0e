"""One event is one line: text on a terminal, JSON elsewhere, from the level on that was asked for."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import tocsin

EVENTS = r"""
import gc, logging, threading, warnings
import structlog
from tocsin.cli import logs
from tocsin.domain import requests

logs.set_up("test", "LEVEL")
log = structlog.get_logger()
requests.ORIGIN.set("a-name 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
log.debug("all of it")
log.info("two\nlines", value="in\na\x1b[31mvalue")
log.warning("told", by="\x1b[31mwithout\x07a_blank\x9b1m")
try:
    raise ValueError("of\ntwo lines")
except ValueError:
    log.exception("it failed")
    logging.getLogger("library").error("so did %s\nit", "this", exc_info=True)
logging.getLogger("library").info("https://example.com/?token=secret")
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()

class Held:
    def __del__(self):
        raise KeyError("ignored")

Held()
gc.collect()
"""


def on_a_pipe(level: str) -> list[dict[str, Any]]:
    program = EVENTS.replace("LEVEL", level)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def on_a_terminal(level: str) -> list[str]:
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", EVENTS.replace("LEVEL", level)], stderr=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        said += part
    os.close(master)
    assert process.wait(60) == 0
    return said.decode().splitlines()


def test_every_event_is_one_line_of_json_its_traceback_included() -> None:
    said = on_a_pipe("info")
    assert [each["event"] for each in said][:4] == ["two\nlines", "told", "it failed", "so did this\nit"]
    assert [each["level"] for each in said] == ["info", "warning", "error", "error", "warning", "error", "error"]
    for each in (said[2], said[3]):
        assert each["exception"].startswith("Traceback")
        assert each["exception"].endswith("ValueError: of\ntwo lines")
    assert "a warning" in said[4]["event"]
    assert "ZeroDivisionError" in said[5]["exception"]
    assert "KeyError" in said[6]["exception"]
    assert {each["process"] for each in said} == {"test"}
    assert {each.get("request_id") for each in said} == {"a-name", None}  # None: of the thread
    assert {each.get("trace_id") for each in said} == {"0af7651916cd43dd8448eb211c80319c", None}


def test_on_a_terminal_it_is_one_line_of_text_without_control_characters_of_others() -> None:
    said = on_a_terminal("info")
    assert len(said) == len(on_a_pipe("info"))
    assert not [each for each in said if "\x1b[31mwithout" in each or "\x07" in each or "\x9b" in each]
    assert "[31mwithout" in said[1]
    assert "two lines" in said[0]
    assert "[31mvalue" in said[0]
    assert "ValueError: of" in said[2]
    assert "<module>" in said[2]
    assert all("a-name" in each for each in said[:5])


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", {"debug", "info", "warning", "error"}), ("warning", {"warning", "error"}), ("error", {"error"}),
    ],
)  # fmt: skip
def test_what_is_below_the_level_is_not_said_and_libraries_say_no_more_than_warnings(
    level: str, levels: set[str]
) -> None:
    said = on_a_pipe(level)
    assert {each["level"] for each in said} == levels
    assert not [each for each in said if "secret" in str(each)]


async def test_a_level_that_there_is_not_is_refused_in_one_line(tmp_path: Path) -> None:
    for command in ("up", "serve", "engine"):
        done = await tocsin(command, "--data-dir", str(tmp_path), environ={"TOCSIN_LOG_LEVEL": "loud"})
        assert (done.code, done.out) == (2, "")
        assert done.err.splitlines() == [
            "tocsin: TOCSIN_LOG_LEVEL: is 'loud', but must be one of: debug, info, warning, error"
        ]
