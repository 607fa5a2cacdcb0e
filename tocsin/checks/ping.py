"""`ping`: a host answers echo requests; if set, few of them are lost, and its answers are quick.

Each packet is sent as soon as the one before it is answered, or a moment later: a host that is well costs little
time, and one that loses packets is given as many chances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

import msgspec

from tocsin.checks.base import CheckContext, CheckType, authority_of, own_time
from tocsin.checks.common_options import DomainDays, IpVersion, MaxResponseMs
from tocsin.domain import urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Result, Target
from tocsin.transports import icmp
from tocsin.transports.resolver import AddrInfo

MAX_PACKETS, MAX_MS = 20, 120_000
GAP = 0.2
"""Seconds after which the next packet is sent, answered or not; as `ping` allows everybody (`-i`)."""
LINGER = 1.0
"""Seconds that the last packets have where others were answered; twice the longest answer if that is more."""


class Options(msgspec.Struct, frozen=True):
    """`packets` are sent at each check; `max_loss` is how many percent of them may get lost (null: all but one), and
    `max_response_ms` how long their answers may take on average; `ip_version` 4 or 6 uses no other addresses.
    """

    packets: int = 3
    max_loss: int | float | None = None
    max_response_ms: MaxResponseMs = None
    ip_version: IpVersion = None
    domain_days: DomainDays = None


@dataclass(frozen=True, slots=True)
class Pinged:
    """What became of the packets: seconds that answers took, and why others were not delivered."""

    sent: int
    took: Sequence[float]
    undelivered: Sequence[str] = ()

    @property
    def lost(self) -> int:
        return self.sent - len(self.took)

    @property
    def loss(self) -> float:
        return 100 * self.lost / self.sent

    @property
    def mean_ms(self) -> float:
        return 1000 * sum(self.took) / len(self.took)

    def __str__(self) -> str:
        """As the summary of `ping`."""
        counted = f"{self.sent} sent, {len(self.took)} answered, {self.loss:.3g}% lost"
        if not self.took:
            return counted
        return f"{counted}; min/avg/max {1000 * min(self.took):.3f}/{self.mean_ms:.3f}/{1000 * max(self.took):.3f} ms"


class Ping(CheckType):
    check_type = "ping"
    schemes = frozenset(("ping",))
    options = Options

    def validate(self, target: Target) -> Target:
        """`ping://host`, nothing more."""
        authority = authority_of(target.url, "ping://host", port=False)
        options = msgspec.convert(target.options, Options)
        if not 1 <= options.packets <= MAX_PACKETS:
            raise invalid_field("packets", f"must be from 1 to {MAX_PACKETS}")
        if options.max_loss is not None and not 0 <= options.max_loss < 100:
            raise invalid_field("max_loss", "must be percent from 0 to under 100, or null")
        if options.max_response_ms is not None and not 0 < options.max_response_ms <= MAX_MS:
            raise invalid_field("max_response_ms", f"must be over 0 and at most {MAX_MS}, or null")
        if (refusal := icmp.refusal()) is not None:
            raise invalid_field("url", f"cannot be checked: {refusal}")
        return replace(target, url=f"ping://{authority}", options=msgspec.to_builtins(options))

    async def check(self, target: Target, context: CheckContext) -> Result:
        deadline = monotonic() + own_time(target.timeout)
        options, host = msgspec.convert(target.options, Options), urls.read(target.url).host
        addresses = await context.dialer.addresses(host, 0, options.ip_version)
        for place, address in enumerate(addresses):  # as `ping` does: the first that there is a way to
            try:
                found = await _ping(address, options.packets, deadline)
            except icmp.CannotSend as error:
                if place + 1 == len(addresses):
                    return Result("connection_error", str(error), evidence=self.evidence(target, context))
            except OSError:
                if place + 1 == len(addresses):
                    raise
            else:
                return _judged(target, options, str(address[4][0]), found)
        raise AssertionError("a host without addresses is not resolved")

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        return Evidence(request=f"PING {target.url}")


def _judged(target: Target, options: Options, address: str, found: Pinged) -> Result:
    evidence = Evidence(request=f"PING {target.url}", response=f"{address}: {found}")
    if not found.took:
        packets = "1 packet" if found.sent == 1 else f"{found.sent} packets"
        why = found.undelivered[-1] if found.undelivered else f"within {target.timeout:g} s"
        return Result("timeout", f"No answer from {address} to {packets}: {why}", evidence=evidence)
    mean = found.mean_ms
    if options.max_loss is not None and found.loss > options.max_loss:
        lost = f"{found.lost} of {found.sent} packets to {address} lost ({found.loss:.3g} %)"
        return Result("packet_loss", f"{lost}, more than {options.max_loss:g} %", mean, evidence=evidence)
    if options.max_response_ms is not None and mean > options.max_response_ms:
        words = f"{address} answered in {mean:.4g} ms on average, slower than {options.max_response_ms:g} ms"
        return Result("slow", words, mean, evidence=evidence)
    return Result(response_ms=mean)


async def _ping(address: AddrInfo, packets: int, deadline: float) -> Pinged:
    """Raises `OSError` if this machine cannot send the first packet."""
    gap = min(GAP, max(0.0, deadline - monotonic()) / (2 * packets))
    sent: list[icmp.Echo] = []
    unsent: list[str] = []
    with icmp.opened(address[0]) as wire:
        try:
            for _ in range(packets):
                try:
                    sent.append(wire.send(address))
                except OSError as error:
                    if not sent:
                        raise
                    unsent.append(str(error.strerror or error))
                    continue
                await asyncio.wait((sent[-1].answer,), timeout=gap)
            if waiting := [each.answer for each in sent if not each.answer.done()]:
                took = _answers(sent)
                linger = max(LINGER, 2 * max(took)) if took else float("inf")
                await asyncio.wait(waiting, timeout=max(0.0, min(linger, deadline - monotonic())))
                wire.read()  # what came while this process was busy came in time
            undelivered = [each.answer.result() for each in sent if each.answer.done()]
            return Pinged(packets, _answers(sent), [each for each in undelivered if isinstance(each, str)] + unsent)
        finally:
            for each in sent:
                wire.forget(each)


def _answers(sent: Sequence[icmp.Echo]) -> list[float]:
    done = [each.answer.result() for each in sent if each.answer.done()]
    return [each for each in done if isinstance(each, float)]
