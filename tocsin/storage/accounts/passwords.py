"""Passwords: stored as argon2id hashes, computed in threads, few at a time, with fair queueing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from tocsin.domain.errors import Refused

AT_ONCE = 2
"""Concurrent hashes. Each takes 64 MiB and most of a core."""
MAX_WAITING = 16
MAX_OF_NETWORK = 4
RETRY_AFTER = 2
"""Seconds in which even a slow machine works off a full queue."""

GONE = "http.disconnect"

Result = TypeVar("Result")

_hasher = PasswordHasher()


@dataclass(frozen=True, slots=True)
class Requester:
    """Who requests a hash: from which network, and whether the account is known there, or it is
    otherwise proven that they are no stranger (a session, a link from a mail).

    `receive` is the request's (ASGI), whose body has been read: its next message means that the client is gone.
    """

    network: str
    known: bool
    receive: Callable[[], Awaitable[Mapping[str, Any]]]

    async def leave(self) -> None:
        while (await self.receive())["type"] != GONE:
            pass


Turn = asyncio.Future[None]


class PasswordQueue:
    """The queue for a thread. Networks take turns, however many requests each has, and known ones take turns with
    all others, however many these are. Requests of disconnected clients are skipped.

    When it is full, a request from a network with fewer entries than another evicts the last one of that other;
    and a known requester evicts a stranger.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._known: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._strangers: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._next, self._after = self._known, self._strangers

    def __len__(self) -> int:
        return sum(map(len, (*self._known.values(), *self._strangers.values())))

    async def run(self, requester: Requester, work: Callable[..., Result], *args: object) -> Result:
        """Run the work in its turn. Raises `Refused` as `expect_room`, and if the client left before it began."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(requester)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._release()

    def expect_room(self, requester: Requester) -> None:
        """Raises `Refused` (503; 429 if the requester's network has too many entries)."""
        if not self._free:
            self._to_displace(requester)

    def _to_displace(self, requester: Requester) -> Turn | None:
        """The entry to evict to make room for the requester, if any."""
        own = len(self._known.get(requester.network, ())) + len(self._strangers.get(requester.network, ()))
        if own >= MAX_OF_NETWORK:
            raise _too_busy(429)
        if len(self) < MAX_WAITING:
            return None
        longest = max((self._strangers or self._known).values(), key=len)
        if len(longest) > own + 1 or (requester.known and self._strangers):
            return longest[-1]
        raise _too_busy(503)

    async def _wait(self, requester: Requester) -> None:
        if displaced := self._to_displace(requester):
            self._forget(displaced)
            displaced.set_exception(_too_busy(503))
        turn: Turn = asyncio.get_running_loop().create_future()
        (self._known if requester.known else self._strangers).setdefault(requester.network, deque()).append(turn)
        gone = asyncio.ensure_future(requester.leave())
        try:
            await asyncio.wait({turn, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise Refused(400, "invalid_request", "The caller left before its turn")
            turn.result()
        except BaseException:
            self._forget(turn)
            if turn.done() and turn.exception() is None:
                self._release()
            raise
        finally:
            gone.cancel()

    def _forget(self, turn: Turn) -> None:
        for lane in (self._known, self._strangers):
            for network, turns in lane.items():
                if turn in turns:
                    turns.remove(turn)
                    if not turns:
                        del lane[network]
                    return

    def _release(self) -> None:
        """A thread is free: give it to the next network, of the kind whose turn it is."""
        self._free += 1
        lane = self._next or self._after
        if lane:
            network, turns = lane.popitem(last=False)
            self._free -= 1
            turns.popleft().set_result(None)
            if turns:
                lane[network] = turns
            if lane is self._next:
                self._next, self._after = self._after, self._next


def _too_busy(status: int) -> Refused:
    code = "too_many_requests" if status == 429 else "unavailable"
    message = f"We are too busy checking passwords; try again in {RETRY_AFTER} s"
    return Refused(status, code, message, headers={"Retry-After": str(RETRY_AFTER)})


queue = PasswordQueue()
"""The queue of this process."""


def hash_now(password: str) -> str:
    """The hash, which takes this thread about 50 ms."""
    return _hasher.hash(password.encode("utf-8", "surrogatepass"))


def expect_room(requester: Requester) -> None:
    """Raises `Refused` if the queue has no room for them: call it before the attempt is counted."""
    queue.expect_room(requester)


async def hash_of(password: str, requester: Requester) -> str:
    """Raises `Refused` as `PasswordQueue.run`."""
    return await queue.run(requester, hash_now, password)


async def matches(password_hash: str | None, password: str, requester: Requester) -> bool:
    """Whether it is that password. Without a hash it is False, after the same time. Raises as `hash_of`."""
    return await queue.run(requester, _matches, password_hash, password)


def _matches(password_hash: str | None, password: str) -> bool:
    if password_hash is None:
        hash_now(password)
        return False
    try:
        return _hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerificationError, InvalidHashError):
        return False
