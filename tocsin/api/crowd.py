"""Who is connected: how many in all and from each address, and who has to go when one more comes.

A connection is idle (nothing half received, nothing to be answered), waiting (a head has begun to come) or busy. Where
one more would be too many, the one that has been idle longest is given up, else the one that has waited longest. Where
all are busy, who comes is refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Protocol

from tocsin.settings import Limits

SPARE_FILES = 64
"""What a process needs beside connections: its database, its logs, calls of its own."""
FEWEST = 16
OWN_BITS = 64
"""Of an IPv6 address: what one customer has to themselves may differ in the others (RFC 6177)."""


class Member(Protocol):
    """A connection, as it is seen from here."""

    party: Party

    def look(self, now: float) -> None:
        """Called now and then, with the loop's time: the moment to end what takes too long."""

    def give_up(self) -> None:
        """End it: its place is wanted."""


class Party:
    """Connections that share a limit, the idle and the waiting ones in the order of becoming so."""

    def __init__(self, address: str, most: int) -> None:
        self.address = address
        self.most = most
        self.count = 0
        self.idle: dict[Member, None] = {}
        self.waiting: dict[Member, None] = {}

    def first_to_go(self) -> Member | None:
        return next(iter(self.idle), None) or next(iter(self.waiting), None)


class Crowd:
    """All connections of a process, which may have so many `files` open. One timer looks after all of them."""

    def __init__(self, limits: Limits, files: int) -> None:
        self.limits = limits
        self.everyone = Party("", min(limits.connections, max(files - SPARE_FILES, FEWEST)))
        self._parties: dict[str, Party] = {}
        self._members: set[Member] = set()
        self._pause = min(1.0, limits.head_timeout / 4, limits.idle_timeout / 4, limits.transfer_grace / 4)
        self._round: asyncio.TimerHandle | None = None

    def join(self, member: Member, address: str) -> bool:
        """False where nobody can make room. Who joins is idle."""
        address = of_one_customer(address)
        for full in (self._parties.get(address), self.everyone):
            if full is not None and full.count >= full.most:
                going = full.first_to_go()
                if going is None:
                    return False
                self.leave(going)
                going.give_up()
        if address not in self._parties:
            self._parties[address] = Party(address, self.limits.connections_per_address)
        member.party = self._parties[address]
        self._members.add(member)
        for each in (member.party, self.everyone):
            each.count += 1
            each.idle[member] = None
        if self._round is None:
            self._look_later()
        return True

    def leave(self, member: Member) -> None:
        """It is gone, or as good as gone. May be said twice."""
        if member not in self._members:
            return
        self._members.discard(member)
        self.busy(member)
        for each in (member.party, self.everyone):
            each.count -= 1
        if not member.party.count:
            del self._parties[member.party.address]

    def idle(self, member: Member) -> None:
        if member in self._members:
            if self.everyone.waiting:
                self.busy(member)
            member.party.idle[member] = self.everyone.idle[member] = None

    def waiting(self, member: Member) -> None:
        if member in self._members:
            self.busy(member)
            member.party.waiting[member] = self.everyone.waiting[member] = None

    def busy(self, member: Member) -> None:
        own, everyone = member.party, self.everyone
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


def of_one_customer(address: str) -> str:
    """What counts as one address: an IPv4 address, also one inside of IPv6, or the /64 around an IPv6 address."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), OWN_BITS), strict=False))
