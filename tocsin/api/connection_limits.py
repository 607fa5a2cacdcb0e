"""Connection limits: how many in all and per address, and which to evict when one more comes.

A connection is idle (all its requests are answered), waiting (for the client to send the rest of a request, or to
read a response) or busy (with a complete request). If one more would be too many, the one that has been idle
longest is evicted, else one that has waited long. If all are busy, the new one is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from tocsin.domain import clients
from tocsin.settings import Limits

SPARE_FILES = 64
"""Files that a process needs besides connections: its database, its logs, outgoing calls."""
MIN_CONNECTIONS = 16
PROXIES = "proxies"
"""The key of the group of all connections."""
CHOICE = 8
"""How many of the longest waiting are candidates: addresses with many connections are evicted first."""


class Member(Protocol):
    """A connection, as the limiter sees it."""

    group: Group

    def look(self, now: float) -> None:
        """Called periodically, with the loop's time: end what takes too long."""

    def give_up(self) -> None:
        """End it: its place is needed."""


class Group:
    """Connections that share a limit, the idle and the waiting ones in the order in which they became so."""

    def __init__(self, address: str, most: int) -> None:
        self.address = address
        self.most = most
        self.count = 0
        self.idle: dict[Member, None] = {}
        self.waiting: dict[Member, None] = {}

    def to_evict(self) -> Member | None:
        if self.idle:
            return next(iter(self.idle))
        longest = islice(self.waiting, CHOICE)
        return max(longest, key=lambda member: len(member.group.waiting), default=None)


class ConnectionLimiter:
    """All connections of a process, which may have so many `files` open. One timer serves all of them.

    Each address has a limit, `proxies` have only the total one: many clients come through them.
    """

    def __init__(self, limits: Limits, files: int, proxies: Sequence[clients.Network]) -> None:
        self.limits = limits
        self.proxies = proxies
        self.everyone = Group("", min(limits.connections, max(files - SPARE_FILES, MIN_CONNECTIONS)))
        self._groups: dict[str, Group] = {}
        self._members: set[Member] = set()
        self._pause = min(1.0, limits.head_timeout / 4, limits.idle_timeout / 4, limits.transfer_grace / 4)
        self._round: asyncio.TimerHandle | None = None

    def join(self, member: Member, peer: str) -> bool:
        """Add a connection, in the waiting state. False if no room can be made."""
        trusted = clients.is_trusted(peer, self.proxies)
        address = PROXIES if trusted else clients.network(peer, (), ())
        for full in (self._groups.get(address), self.everyone):
            if full is not None and full.count >= full.most:
                going = full.to_evict()
                if going is None:
                    return False
                self.leave(going)
                going.give_up()
        if address not in self._groups:
            most = self.everyone.most if trusted else self.limits.connections_per_address
            self._groups[address] = Group(address, most)
        member.group = self._groups[address]
        self._members.add(member)
        for each in (member.group, self.everyone):
            each.count += 1
            each.waiting[member] = None
        if self._round is None:
            self._look_later()
        return True

    def leave(self, member: Member) -> None:
        """It is closed, or closing. May be called twice."""
        if member not in self._members:
            return
        self._members.discard(member)
        self.busy(member)
        for each in (member.group, self.everyone):
            each.count -= 1
        if not member.group.count:
            del self._groups[member.group.address]

    def idle(self, member: Member) -> None:
        if member in self._members:
            if self.everyone.waiting:
                self.busy(member)
            member.group.idle[member] = self.everyone.idle[member] = None

    def waiting(self, member: Member) -> None:
        """One that is waiting already keeps its place."""
        if member in self._members and member not in self.everyone.waiting:
            self.busy(member)
            member.group.waiting[member] = self.everyone.waiting[member] = None

    def busy(self, member: Member) -> None:
        own, everyone = member.group, self.everyone
        if everyone.idle.pop(member, member) is None:
            del own.idle[member]
        elif everyone.waiting.pop(member, member) is None:
            del own.waiting[member]

    def _look_later(self) -> None:
        self._round = asyncio.get_running_loop().call_later(self._pause, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for member in list(self._members):
            member.look(now)
        self._round = None
        if self._members:
            self._look_later()
