"""What a worker may do: compute, read the files of Python, and speak to us. Everything else raises, or ends it.

Limits of the operating system bound memory, processor time, files and processes. On top of them, an audit hook
(PEP 578), which nothing in Python can take away, refuses files, sockets and processes. It runs in workers only.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MEMORY = 128 * 1024 * 1024
"""Bytes that a worker may take on top of what its fork server has."""
CPU_SECONDS = 8
OPEN_FILES = 64
NO_SOCKETS = "A worker opens connections by asking for them"

_PARTS_OF_PYTHON = ("stdlib", "platstdlib", "purelib", "platlib")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_REFUSED = _names(
    """
    socket.bind socket.connect socket.getaddrinfo socket.gethostbyaddr socket.gethostbyname socket.getnameinfo
    socket.sendto socket.sethostname
    os.exec os.fork os.forkpty os.posix_spawn os.spawn os.system os.startfile os.kill os.killpg pty.spawn
    subprocess.Popen signal.pthread_kill _posixsubprocess.fork_exec
    os.chflags os.chmod os.chown os.link os.lockf os.mkdir os.putenv os.remove os.removexattr os.rename os.rmdir
    os.setxattr os.symlink os.truncate os.unsetenv os.utime os.chdir
    shutil.move shutil.rmtree shutil.copyfile shutil.copymode tempfile.mkdtemp tempfile.mkstemp
    ctypes.dlopen ctypes.dlsym sqlite3.connect mmap.__new__ resource.setrlimit resource.prlimit
    ftplib.connect imaplib.open poplib.connect smtplib.connect telnetlib.Telnet.open
    webbrowser.open sys.remote_exec
    """
)


class Refused(PermissionError):
    """Something that a worker may not do."""


def bound(memory: int, seconds: float) -> None:
    """Limit this process: `memory` in bytes of addresses, and `seconds` until it is killed, whatever it does then."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def addresses_in_use() -> int:
    """Bytes of addresses that this process has taken (proc(5))."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def confine(package: str, roots: str) -> None:
    """Refuse from now on what a worker may not do. It may read Python's files, `package` and the file `roots`."""
    folders = {os.path.realpath(sysconfig.get_path(each)) for each in _PARTS_OF_PYTHON} | {os.path.realpath(package)}
    readable = tuple(f"{folder}{os.sep}" for folder in folders)
    sys.addaudithook(_hook(readable, roots))


def _hook(readable: tuple[str, ...], roots: str) -> Callable[[str, tuple[Any, ...]], None]:
    realpath, unix = os.path.realpath, socket.AF_UNIX

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, int):
                return
            text = os.fsdecode(path)
            by_flags = isinstance(flags, int) and flags & _WRITING
            by_mode = isinstance(mode, str) and set(mode) & set("wax+")
            if by_flags or by_mode or not (realpath(text).startswith(readable) or text == roots):
                raise Refused("A worker may not open this file")
        elif event in _REFUSED:
            raise Refused(f"A worker may not do this: {event}")
        elif event == "socket.__new__":
            if arguments[1] not in (unix, -1):
                raise Refused(NO_SOCKETS)
        elif event == "socket.sendmsg" and arguments[1] is not None:
            raise Refused(NO_SOCKETS)

    return check
