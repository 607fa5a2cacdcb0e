"""Network namespaces of a test's own, and in them a network of hosts that answer pings as they are told to."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import uvloop

from tests import needed

T = TypeVar("T")
Answers = Callable[[str, int, bytes], list[tuple[str, bytes]]]
"""Of a destination, how many packets it has had, and an ICMP message: who answers what."""

CLONE_NEWNET, CAP_NET_RAW = 0x40000000, 13
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
NETWORK = "10.99.0"
_made = count()


class Namespace:
    """A network namespace. `run` runs a coroutine in it, `command` a program."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self._thread.submit(uvloop.run, work).result(60)

    def call(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result(60)

    def command(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        inside = [needed.program("ip"), "netns", "exec", self.name, *words]
        return subprocess.run(inside, capture_output=True, text=True, check=check, timeout=60)

    def unprivileged(self, work: Callable[[], T]) -> T:
        """By a thread without CAP_NET_RAW."""

        def drop_and_work() -> T:
            self._enter()
            few = self._held & ~(1 << CAP_NET_RAW)
            libc = ctypes.CDLL(None, use_errno=True)
            header = struct.pack("=Ii", 0x20080522, 0)  # capset(2), version 3, this thread
            if libc.capset(header, struct.pack("=6I", few, few, 0, 0, 0, 0)):
                raise OSError(ctypes.get_errno(), "capset")
            return work()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(drop_and_work).result(60)

    @property
    def _held(self) -> int:
        """The lower half of what this process may do."""
        status = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm")), 16) & 0xFFFF_FFFF

    def close(self) -> None:
        self._thread.shutdown()

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(f"/var/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(handle)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """One with nothing but loopback in it."""
    ip, name = needed.program("ip"), f"tocsin-{os.getpid()}-{next(_made)}"
    made = subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        needed.missing(f"no network namespace can be made: {made.stderr.strip()}")
    inside = Namespace(name)
    try:
        inside.command(ip, "link", "set", "lo", "up", check=True)
        yield inside
    finally:
        inside.close()
        subprocess.run([ip, "netns", "del", name], check=True)


@contextmanager
def hosts(inside: Namespace, answers: Answers) -> Iterator[None]:
    """A network (`NETWORK`, we are .1) on which every packet is answered as `answers` says."""

    def open_tunnel() -> int:
        handle = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", b"hosts", IFF_TUN | IFF_NO_PI))
        return handle

    handle = inside.call(open_tunnel)
    ip = needed.program("ip")
    inside.command(ip, "address", "add", f"{NETWORK}.1/24", "dev", "hosts", check=True)
    inside.command(ip, "link", "set", "hosts", "up", check=True)
    ended_by, end = os.pipe()
    thread = threading.Thread(target=_serve, args=(handle, ended_by, answers))
    thread.start()
    try:
        yield
    finally:
        os.close(end)
        thread.join(10)
        os.close(ended_by)
        os.close(handle)


def _serve(handle: int, ended_by: int, answers: Answers) -> None:
    had: dict[str, int] = {}
    while True:
        ready, _, _ = select.select([handle, ended_by], [], [])
        if ended_by in ready:
            return
        packet = os.read(handle, 4096)
        if packet[0] >> 4 != 4 or packet[9] != 1:
            continue
        to = ".".join(map(str, packet[16:20]))
        had[to] = had.get(to, 0) + 1
        for source, message in answers(to, had[to], packet):
            with suppress(OSError):
                os.write(handle, _ip(source, packet[12:16], message))


def echo_answer(packet: bytes, **differently: bytes) -> bytes:
    """The right answer to an echo request (an IP packet); `data` or `sequence` differently."""
    message = packet[20:]
    sequence, data = differently.get("sequence", message[6:8]), differently.get("data", message[8:])
    return _summed(b"\x00\x00\x00\x00" + message[4:6] + sequence + data)


def unreachable(packet: bytes, code: int = 1) -> bytes:
    """A router's word that a packet could not be delivered (RFC 792)."""
    return _summed(struct.pack("!BBHI", 3, code, 0, 0) + packet[:28])


def _summed(message: bytes) -> bytes:
    return message[:2] + struct.pack("!H", _sum(message)) + message[4:]


def _ip(source: str, to: bytes, message: bytes) -> bytes:
    from_ = bytes(map(int, source.split(".")))
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, from_, to)
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + message


def _sum(data: bytes) -> int:
    data += b"\x00" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
