"""A wire to a server, which can fall silent as when its machine vanishes, lose answers, be slow, be cut, and be whole
again."""

from __future__ import annotations

import collections
import selectors
import socket
import threading
import time
from collections.abc import Callable

CHUNK = 65_536


class Wire:
    """Listens at `port` of 127.0.0.1, and leads to the port `to`. One thread moves all bytes of it."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.connected = 0
        """How many connections there have been."""
        self.delay = 0.0
        """Seconds that bytes are under way in each direction."""
        self._under_way: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
        self._silent = self._ended = False
        self._fateful: bytes | None = None
        self._deaf = False
        self._planned: tuple[int, Callable[[], None]] | None = None
        self._far: set[socket.socket] = set()
        self._others: dict[socket.socket, socket.socket] = {}
        self._on_the_way: dict[socket.socket, bytes] = {}
        """What a side has not taken yet; the other one is not read meanwhile."""
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listening.getsockname()[1])
        self._events = selectors.DefaultSelector()
        self._events.register(self._listening, selectors.EVENT_READ)
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def vanish(self) -> None:
        """From now on nothing passes, in either direction, and nothing is refused."""
        with self._lock:
            self._silent = True

    def lose_answers_after(self, said: bytes) -> None:
        """Once this has been said to the server, nothing that it says comes through any more."""
        with self._lock:
            self._fateful = said

    def come_back(self) -> None:
        with self._lock:
            self._silent = self._deaf = False
            self._fateful = None

    def cut(self) -> None:
        """End all connections that there are."""
        with self._lock:
            for each in list(self._others):
                self._drop(each)

    def mute(self) -> None:
        """Let nothing pass any more on the connections that there are. New ones are as good as ever."""
        with self._lock:
            for each in self._others:
                self._want(each, 0)

    def after(self, parts: int, what: Callable[[], None]) -> None:
        """Do that instead of passing on what comes after so many parts of what is said."""
        with self._lock:
            self._planned = (parts, what)

    def close(self) -> None:
        self._ended = True
        self._thread.join(5)
        self.cut()
        self._listening.close()
        self._events.close()

    def _run(self) -> None:
        while not self._ended:
            ready = self._events.select(0.005 if self.delay else 0.1)
            with self._lock:
                self._arrive()
                for key, events in () if self._silent else ready:
                    if key.fileobj is self._listening:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._others:
                        self._move(key.fileobj, events)
            if self._silent:
                time.sleep(0.01)

    def _accept(self) -> None:
        near, _ = self._listening.accept()
        self.connected += 1
        try:
            far = socket.create_connection(("127.0.0.1", self.to), timeout=2)
        except OSError:
            near.close()
            return
        self._far.add(far)
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
            self._others[one] = other
            self._events.register(one, selectors.EVENT_READ)

    def _move(self, one: socket.socket, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._hand_on(one, self._on_the_way.pop(one, b""))
            if events & selectors.EVENT_READ and self._others[one] not in self._on_the_way:
                self._take(one)
        except BlockingIOError:
            return
        except OSError:
            self._drop(one)

    def _take(self, one: socket.socket) -> None:
        if self._planned is not None:
            parts, what = self._planned
            self._planned = (parts - 1, what) if parts else None
            if not parts:
                what()
                return
        part = one.recv(CHUNK)
        if not part:
            raise ConnectionResetError
        answer = one in self._far
        self._deaf = self._deaf or (not answer and self._fateful is not None and self._fateful in part)
        if answer and self._deaf:
            return
        if self.delay:
            self._under_way.append((time.monotonic() + self.delay, self._others[one], part))
        else:
            self._hand_on(self._others[one], part)

    def _arrive(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic() and not self._silent:
            _, to, part = self._under_way.popleft()
            if to in self._others:
                try:
                    self._hand_on(to, self._on_the_way.pop(to, b"") + part)
                except OSError:
                    self._drop(to)

    def _hand_on(self, to: socket.socket, part: bytes) -> None:
        try:
            left = part[to.send(part) :]
        except BlockingIOError:
            left = part
        if left:
            self._on_the_way[to] = left
        for each in (to, self._others[to]):
            wanted = selectors.EVENT_WRITE if each in self._on_the_way else 0
            wanted |= 0 if self._others[each] in self._on_the_way else selectors.EVENT_READ
            self._want(each, wanted)

    def _want(self, one: socket.socket, events: int) -> None:
        """Be told of these events, or of none."""
        known = self._events.get_map().get(one)
        if known is None:
            if events:
                self._events.register(one, events)
        elif not events:
            self._events.unregister(one)
        elif known.events != events:
            self._events.modify(one, events)

    def _drop(self, one: socket.socket) -> None:
        other = self._others.pop(one, None)
        if other is None:
            return
        self._others.pop(other, None)
        for each in (one, other):
            self._on_the_way.pop(each, None)
            self._far.discard(each)
            self._want(each, 0)
            each.close()
