"""Somebody who only wants to be answered: how long `/health/live` takes, on a connection that is kept.

    python -m tests.probe PORT PID SOURCE

SOURCE is the address to come from. A connection that was kept and is given up is no fault: whoever asked on it asks
once more on a new one, as clients do (RFC 9110, 9.2.2), and all of it is the time that they waited.

Runs until its standard input ends and then prints what it measured, as JSON: seconds, and how many of them were the
machine's and not the service's: the time in which the process that answers (its main thread), or this one, could have
run and had to wait for a processor, as Linux counts it (`/proc/PID/schedstat`, the second number, nanoseconds). Without
that, a test on a busy machine would tell how busy the machine is.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from pathlib import Path

ASK = b"GET /health/live HTTP/1.1\r\nHost: tocsin.example.com\r\n\r\n"
LENGTH = re.compile(rb"content-length: (\d+)")
EVERY = 0.05


def main() -> None:
    port, pid, source = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    wire = dial(port, source)
    took: list[tuple[float, float]] = []
    wrong: list[str] = []
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        waited, began = waiting(pid), time.monotonic()
        said = answer(wire)
        if not said:
            wire.close()
            wire = dial(port, source)
            said = answer(wire)
        took.append((time.monotonic() - began, waiting(pid) - waited))
        if not said.startswith(b"HTTP/1.1 200"):
            wrong.append(said.decode(errors="replace"))
            wire = dial(port, source)
    print(json.dumps({"took": took, "wrong": wrong}))


def dial(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))


def answer(wire: socket.socket) -> bytes:
    """One answer with a length, or nothing where the connection ended."""
    try:
        wire.sendall(ASK)
        return read(wire)
    except ConnectionError:
        return b""


def read(wire: socket.socket) -> bytes:
    said = b""
    while True:
        head, complete, body = said.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if complete and (length is None or len(body) >= int(length[1])):
            return said
        part = wire.recv(10_000)
        if not part:
            return b""
        said += part


def waiting(pid: int) -> float:
    """Seconds that the process and this one have waited for a processor."""
    return sum(int(Path(f"/proc/{each}/schedstat").read_text().split()[1]) for each in (pid, "self")) / 1e9


if __name__ == "__main__":
    main()
