"""Names to addresses, by the machine's resolver: few threads, shared so that slow servers delay only their names.

The resolver of the operating system cannot be interrupted, and waits 5 to 30 seconds for a name server that is silent.
So a name is looked up once at a time for all callers. Each zone has a few threads, the fewer the worse the name's
record, and the last threads are for names that were answered before: new names of a zone with silent servers can
delay each other, but neither other zones nor names that have worked. A call that would wait in vain fails at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

AddrInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

Resolve = Callable[..., Sequence[tuple[int, int, int, str, Any]]]
"""How a name becomes addresses: `socket.getaddrinfo`, or a replacement."""

PATIENCE = 8.0
"""Seconds to wait for a name: the second name server is asked after 5 of silence (resolv.conf(5))."""
THREADS = 128
"""Concurrent look-ups."""
OF_ALL = {"answered": THREADS, "new": 96, "silent": 64}
"""Up to how many busy threads another look-up starts, by the name's last result."""
OF_A_ZONE = {"answered": 16, "new": 8, "silent": 1}
"""Concurrent look-ups in one zone, likewise."""
MAX_WAITING = 4096
"""Maximum names that wait for their turn."""
MAX_REMEMBERED = 4096
"""Maximum names whose last result is cached: about 1 MiB."""

Standing = Literal["answered", "new", "silent"]
Lane = tuple[str, Standing]
"""The key for sharing threads: a zone and a name's last result."""


class Unresolved(Exception):
    """A name has no address; the text says why."""


@dataclass(slots=True, eq=False)
class _LookUp:
    name: str
    lane: Lane
    answer: asyncio.Future[list[AddrInfo]]
    began: bool = False
    overdue: bool = False
    askers: int = 0
    timer: asyncio.TimerHandle | None = None


class Resolver:
    """For one event loop. It holds at most `THREADS` threads, which shutdown does not wait for."""

    def __init__(self, resolve: Resolve = socket.getaddrinfo, patience: float = PATIENCE) -> None:
        self._resolve = resolve
        self._patience = patience
        self._under_way: dict[str, _LookUp] = {}
        self._waiting: dict[Lane, dict[str, _LookUp]] = {}  # by lane, in the order of the calls
        self._waiting_count = 0
        self._threads = self._hanging = 0
        self._running: Counter[Lane] = Counter()
        self._stuck: Counter[Lane] = Counter()  # running look-ups that are overdue
        self._last: OrderedDict[str, Standing] = OrderedDict()

    async def look_up(self, name: str) -> list[AddrInfo]:
        """The addresses of a name, with port 0. Concurrent calls for it share one look-up.

        Ends within `PATIENCE` after its turn has come, for which it waits as long at most. Raises `Unresolved`, or
        `OSError` if this machine has no thread left.
        """
        look = self._under_way.get(name) or self._begin(name)
        if look.overdue:
            raise Unresolved(f"Could not resolve {name}: its name servers do not answer")
        look.askers += 1
        try:
            return await asyncio.shield(look.answer)
        finally:
            look.askers -= 1
            if not look.askers and not look.began:
                self._drop(look)

    def _begin(self, name: str) -> _LookUp:
        loop = asyncio.get_running_loop()
        look = _LookUp(name, (_zone(name), self._last.get(name, "new")), loop.create_future())
        if self._may_start(look):
            self._start(look)
        elif self._stuck[look.lane] >= OF_A_ZONE[look.lane[1]]:
            raise Unresolved(f"Could not resolve {name}: the name servers of {look.lane[0]} do not answer")
        elif self._hanging >= OF_ALL[look.lane[1]] or self._waiting_count >= MAX_WAITING:
            raise Unresolved(f"Could not resolve {name}: too many names cannot be resolved at present")
        else:
            self._waiting.setdefault(look.lane, {})[name] = look
            self._waiting_count += 1
        look.answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits
        self._watch(look)
        return look

    def _watch(self, look: _LookUp) -> None:
        look.timer = asyncio.get_running_loop().call_later(self._patience, self._give_up, look)
        self._under_way[look.name] = look

    def _may_start(self, look: _LookUp) -> bool:
        standing = look.lane[1]
        return self._threads < OF_ALL[standing] and self._running[look.lane] < OF_A_ZONE[standing]

    def _start(self, look: _LookUp) -> None:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._work, args=(look, loop), name="look-up", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            raise OSError(errno.ENOMEM, "No thread can be started to look a name up") from error
        look.began = True
        self._threads += 1
        self._running[look.lane] += 1

    def _work(self, look: _LookUp, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own."""
        outcome: list[AddrInfo] | Exception
        try:
            outcome = list(self._resolve(look.name, 0, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))
        except Exception as error:  # whatever it is, the waiting callers must get it
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(self._end, look, outcome)

    def _end(self, look: _LookUp, outcome: list[AddrInfo] | Exception) -> None:
        self._threads -= 1
        self._hanging -= look.overdue
        self._running.subtract((look.lane,))
        self._stuck.subtract((look.lane,) * look.overdue)
        if not self._running[look.lane]:
            del self._running[look.lane], self._stuck[look.lane]
        self._remember(look.name, "silent" if look.overdue else "answered")
        self._drop(look)
        if not look.answer.done():
            if isinstance(outcome, Exception):
                look.answer.set_exception(Unresolved(f"Could not resolve {look.name}: {_reason(outcome)}"))
            elif outcome:
                look.answer.set_result(outcome)
            else:
                look.answer.set_exception(Unresolved(f"Could not resolve {look.name}: it has no address"))
        self._go_on()

    def _go_on(self) -> None:
        """Start waiting look-ups that may start now, round-robin over the lanes."""
        for lane in list(self._waiting):
            if self._threads >= THREADS:
                return
            look = next(iter(self._waiting[lane].values()))
            if self._may_start(look):
                self._drop(look)
                if lane in self._waiting:
                    self._waiting[lane] = self._waiting.pop(lane)
                try:
                    self._start(look)
                except OSError as error:
                    look.answer.set_exception(error)
                else:
                    self._watch(look)

    def _give_up(self, look: _LookUp) -> None:
        """Time out. Its thread goes on, and counts, until the system's resolver returns."""
        if look.began:
            look.overdue = True
            self._hanging += 1
            self._stuck[look.lane] += 1
            self._remember(look.name, "silent")
            why = f"no name server answered for {self._patience:g} seconds"
        else:
            self._drop(look)
            why = "too many names cannot be resolved at present"
        if not look.answer.done():
            look.answer.set_exception(Unresolved(f"Could not resolve {look.name}: {why}"))

    def _drop(self, look: _LookUp) -> None:
        if look.timer is not None:
            look.timer.cancel()
        self._under_way.pop(look.name, None)
        if (waiting := self._waiting.get(look.lane)) is not None and waiting.pop(look.name, None) is not None:
            self._waiting_count -= 1
            if not waiting:
                del self._waiting[look.lane]

    def _remember(self, name: str, standing: Standing) -> None:
        self._last[name] = standing
        self._last.move_to_end(name)
        if len(self._last) > MAX_REMEMBERED:
            self._last.popitem(last=False)


_shared: tuple[asyncio.AbstractEventLoop, Resolver] | None = None


def shared() -> Resolver:
    """The resolver of the running event loop, so of this process."""
    global _shared
    loop = asyncio.get_running_loop()
    if _shared is None or _shared[0] is not loop:
        _shared = loop, Resolver()
    return _shared[1]


def _zone(name: str) -> str:
    """Roughly the registrable domain: two labels, or three under a country's second level such as `co.uk`."""
    labels = name.removesuffix(".").rsplit(".", 3)
    if len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3:
        return ".".join(labels[-3:])
    return ".".join(labels[-2:])


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not a valid name" if isinstance(error, UnicodeError) else type(error).__name__
