"""What a worker cannot do, tried by a process that is confined as workers are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFINED = """
import os, socket, sys, threading
from pathlib import Path
from tocsin.transports.apprise import confinement
confinement.bound(confinement.addresses_in_use() + confinement.MEMORY, float(sys.argv[1]))
confinement.confine(str(Path(confinement.__file__).parents[2]), "")
try:
    exec(sys.argv[2])
except (PermissionError, MemoryError, OSError) as error:
    print(type(error).__name__)
else:
    print("done")
"""


def confined(code: str, folder: Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", CONFINED, str(seconds), code], env=environ, cwd=folder, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd')",
        "Path('/etc/hostname').read_text()",
        "os.open('/etc/passwd', os.O_RDONLY)",
        "open('/proc/self/environ', 'rb')",
        "open('/proc/%d/environ' % os.getppid(), 'rb')",
        "open('written', 'w')",
        "open(os.__file__, 'a')",
        "os.symlink('/etc/passwd', 'link')",
        "os.remove(os.__file__)",
        "socket.create_connection(('127.0.0.1', 1))",
        "socket.socket()",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX).connect('/run/any.sock')",
        "socket.getaddrinfo('example.com', 443)",
        "os.system('true')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "__import__('subprocess').run(['true'])",
        "os.kill(os.getppid(), 0)",
        "__import__('ctypes').CDLL(None)",
        "__import__('resource').setrlimit(__import__('resource').RLIMIT_CPU, (99, 99))",
    ],
)
def test_a_worker_may_not(code: str, tmp_path: Path) -> None:
    done = confined(code, tmp_path)
    assert done.stdout.strip() == "Refused", done.stderr
    assert not os.listdir(tmp_path)


def test_a_worker_reads_the_files_of_python(tmp_path: Path) -> None:
    assert confined("open(os.__file__).read()", tmp_path).stdout.strip() == "done"


def test_a_worker_has_no_more_memory_than_it_is_given(tmp_path: Path) -> None:
    assert confined("bytearray(2**30)", tmp_path).stdout.strip() == "MemoryError"
    assert confined("x = []\nwhile True: x.append(' ' * 10**6 + str(len(x)))", tmp_path).stdout.strip() == "MemoryError"


def test_a_worker_is_ended_in_time_by_the_system_whatever_it_does(tmp_path: Path) -> None:
    assert confined("while True: pass", tmp_path, seconds=0.3).returncode == -14
    assert confined("__import__('time').sleep(60)", tmp_path, seconds=0.3).returncode == -14
