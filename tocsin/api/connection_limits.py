"""Who is connected: how many in all and from each address, and who has to go when one more comes.

A connection is idle (all that it asked is answered), waiting (for the client to send the rest of a request, or to
take what is answered) or busy (with a complete request). Where one more would be too many, the one that has been idle
longest is given up, else one that has waited long. Where all are busy, who comes is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from tocsin.domain import clients
from tocsin.settings import Limits

SPARE_FILES = 64
"""What a process needs beside connections: its database, its logs, calls of its own."""
MIN_CONNECTIONS = 16
PROXIES = "proxies"
"""The address of all of them."""
CHOICE = 8
"""As many of those that have waited longest are looked at: a slow caller among many of one address is spared."""


class Member(Protocol):
    """A connection, as it is seen from here."""

    group: Group

    def look(self, now: float) -> None:
        """Called now and then, with the loop's time: the moment to end what takes too long."""

    def give_up(self) -> None:
        """End it: its place is wanted."""


class Group:
    """Connections that share a limit, the idle and the waiting ones in the order of becoming so."""

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
    """All connections of a process, which may have so many `files` open. One timer looks after all of them.

    Each address has a limit, `proxies` have none but that of all: many come through them.
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
        """False where nobody can make room. Who joins is waiting."""
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
        """It is gone, or as good as gone. May be said twice."""
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
        """Who waits already keeps their place."""
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
