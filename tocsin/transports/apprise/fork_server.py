"""The process that has Apprise loaded, and forks a worker for each request: a fork takes milliseconds, a start seconds.

Started with an empty environment in an empty folder, which it removes. Over its control socket it gets a number and a
socket, for which it forks a worker, or `-` and a number, whose worker it kills: only it knows which process that still
is. It tells how each ended: the number and the status. It ends, and its workers with it, when its control socket does.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

from tocsin.transports.apprise import messages

PR_SET_PDEATHSIG = 1


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    _die_with_parent(int(sys.argv[2]))
    try:
        from tocsin.transports.apprise import worker

        worker.load()
    except Exception as error:
        control.send(f"{type(error).__name__}: {error}"[:500].encode())
        os._exit(1)
    os.rmdir(os.getcwd())  # in a folder that is gone, nothing can be made, and nothing remains of it
    gc.collect()
    gc.freeze()
    control.send(messages.READY.encode())
    _serve(control, worker.run)


def _serve(control: socket.socket, run: Callable[[socket.socket], None]) -> None:
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    workers: dict[int, str] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), wake], [], [])
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 1000)
            _report(control, workers)
        if control.fileno() not in ready:
            continue
        said, descriptors, _, _ = socket.recv_fds(control, 100, 1)
        if not said:
            os._exit(0)
        number = said.decode()
        if number.startswith("-"):
            for process in [process for process, known in workers.items() if known == number[1:]]:
                os.kill(process, signal.SIGKILL)
            continue
        process = os.fork()
        if process:
            os.close(descriptors[0])
            workers[process] = number
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with_parent(os.getppid())
        control.close()
        os.close(wake)
        os.close(woken)
        run(socket.socket(fileno=descriptors[0]))
        os._exit(0)


def _report(control: socket.socket, workers: dict[int, str]) -> None:
    while workers:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return
        with contextlib.suppress(OSError):
            control.send(f"{workers.pop(process)} {os.waitstatus_to_exitcode(status)}".encode())


def _die_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends (prctl(2)), however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
