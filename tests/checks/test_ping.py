"""Pings of real and of odd hosts, in a network namespace of their own, beside what Debian's `ping` says of the same."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import uvloop

from tests import needed
from tests.namespaces import NETWORK, Namespace, echo_answer, hosts, namespace, unreachable
from tests.sites import AGENT, look
from tocsin.checks import base
from tocsin.checks.base import CheckContext
from tocsin.cli import doctor
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Result, Target
from tocsin.transports import icmp
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

ALLOWED = tuple(map(ip_network, ("127.0.0.0/8", "::1/128", f"{NETWORK}.0/24", "203.0.113.0/24", "198.51.100.0/24")))
SLOW_MS = 120
WELL, SILENT, LOSSY, SLOW, FORGED, ELSEWHERE, CUT_OFF, TWICE, LATE, FIREWALLED = (
    f"{NETWORK}.{last}" for last in range(10, 20)
)
ROUTER = f"{NETWORK}.254"


def _answers(to: str, had: int, packet: bytes) -> list[tuple[str, bytes]]:
    right = echo_answer(packet)
    if to == SLOW:
        time.sleep(SLOW_MS / 1000)
    if to == LOSSY and had % 2:
        return []
    return {
        WELL: [(to, right)], SLOW: [(to, right)], LOSSY: [(to, right)], SILENT: [],
        FORGED: [(to, echo_answer(packet, data=os.urandom(56)))],
        ELSEWHERE: [(WELL, right)],
        CUT_OFF: [(ROUTER, unreachable(packet))], FIREWALLED: [(ROUTER, unreachable(packet, 13))],
        TWICE: [(to, right), (to, right)],
        LATE: [(to, echo_answer(packet, sequence=b"\x00\x00"))],
    }.get(to, [])  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    with namespace() as inside, hosts(inside, _answers):
        inside.command(needed.program("ip"), "route", "add", "blackhole", "203.0.113.0/24", check=True)
        inside.command(needed.program("ip"), "route", "add", "unreachable", "198.51.100.0/24", check=True)
        yield inside


@pytest.fixture(scope="module", params=["datagram", "raw"])
def sockets(network: Namespace, request: pytest.FixtureRequest) -> Namespace:
    """With the sockets of people who may ping, and those of root."""
    least = "0 2147483647" if request.param == "datagram" else "1 0"
    network.command("sysctl", "-w", f"net.ipv4.ping_group_range={least}", check=True)
    assert network.call(icmp.way) == request.param
    return network


def ping(inside: Namespace, host: str, *, timeout: float = 2.0, **fields: Any) -> Result:
    context = CheckContext(Dialer(Guard(ALLOWED)), AGENT)
    name = f"[{host}]" if ":" in host else host
    return inside.run(look(f"ping://{name}", context, timeout=timeout, **fields))


def theirs(inside: Namespace, host: str, packets: int = 3) -> tuple[int, float, float | None]:
    """What `ping` says: its exit status, the percentage lost, and the mean in milliseconds."""
    said = inside.command(needed.program("ping"), "-n", "-c", str(packets), "-i", "0.2", "-W", "1", host)
    loss = re.search(r"([0-9.]+)% packet loss", said.stdout)
    mean = re.search(r"= [0-9.]+/([0-9.]+)/", said.stdout)
    return said.returncode, float(loss[1]) if loss else 100.0, float(mean[1]) if mean else None


@pytest.mark.parametrize("host", [WELL, "127.0.0.1", "::1", TWICE, "2130706433"])
def test_a_host_that_answers_is_well_as_ping_says(sockets: Namespace, host: str) -> None:
    result = ping(sockets, host)
    assert result.ok, result
    assert result.response_ms is not None
    assert 0 < result.response_ms < 1000
    assert theirs(sockets, host)[:2] == (0, 0.0)


@pytest.mark.parametrize(
    ("host", "why"),
    [
        (SILENT, "within 1 s"),
        (CUT_OFF, f"host unreachable, says {ROUTER}"),
        (FIREWALLED, f"filtered by a firewall, says {ROUTER}"),
    ],
)
def test_a_host_that_answers_nothing_is_a_timeout_as_ping_says(sockets: Namespace, host: str, why: str) -> None:
    result = ping(sockets, host, timeout=1.0)
    assert (result.problem, result.message) == ("timeout", f"No answer from {host} to 3 packets: {why}")
    assert result.evidence is not None
    assert result.evidence.response == f"{host}: 3 sent, 0 answered, 100% lost"
    assert theirs(sockets, host, 2)[:2] == (1, 100.0)


@pytest.mark.parametrize("host", [FORGED, ELSEWHERE, LATE])
def test_what_answers_no_packet_of_ours_is_no_answer(sockets: Namespace, host: str) -> None:
    assert ping(sockets, host, timeout=0.4).problem == "timeout"  # `ping` prints a warning, and counts it


def test_packets_that_are_lost_are_a_warning_only_where_it_is_asked_for(network: Namespace) -> None:
    assert ping(network, LOSSY, packets=4, max_loss=50).ok
    result = ping(network, LOSSY, packets=4, max_loss=49.5)
    words = f"2 of 4 packets to {LOSSY} lost (50 %), more than 49.5 %"
    assert (result.problem, result.message) == ("packet_loss", words)
    assert result.response_ms is not None
    assert theirs(network, LOSSY, 4)[:2] == (0, 50.0)


def test_a_host_that_is_slow_is_told_with_the_mean_that_ping_says(network: Namespace) -> None:
    assert ping(network, SLOW, max_response_ms=5000).ok
    result = ping(network, SLOW, max_response_ms=100)
    assert result.problem == "slow"
    assert result.message is not None
    assert re.fullmatch(rf"{SLOW} answered in \S+ ms on average, slower than 100 ms", result.message)
    mean = theirs(network, SLOW)[2]
    assert result.response_ms is not None
    assert mean is not None
    assert min(result.response_ms, mean) >= SLOW_MS


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("203.0.113.1", "No packet can be sent there: the route discards it"),
        ("198.51.100.1", "No route to host"),
    ],
)
def test_an_address_without_a_way_to_it_says_so(network: Namespace, host: str, words: str) -> None:
    result = ping(network, host)
    assert (result.problem, result.message) == ("connection_error", words)
    assert theirs(network, host, 1)[0] != 0


def test_many_at_once_each_get_their_own_answers(sockets: Namespace) -> None:
    async def all_() -> list[Result]:
        context = CheckContext(Dialer(Guard(ALLOWED)), AGENT)
        mixed = [f"127.0.{number}.7" if number % 5 else (SILENT, CUT_OFF)[number % 2] for number in range(250)]
        return await asyncio.gather(*(look(f"ping://{host}", context, timeout=4.0) for host in mixed))

    found = sockets.run(all_())
    assert [each.ok for each in found] == [bool(number % 5) for number in range(250)]
    assert sockets.run(_left()) == 0


async def _left() -> int:
    return len(icmp._wires)


def test_the_address_is_guarded_and_the_name_resolved_first(network: Namespace) -> None:
    async def guarded(url: str) -> Result:
        return await look(url, CheckContext(Dialer(Guard(ALLOWED[2:])), AGENT))

    for host in ("127.0.0.1", "localhost", "0x7f.1", "[::1]"):
        result = network.run(guarded(f"ping://{host}"))
        assert result.problem == "connection_error"
        assert "TOCSIN_ALLOW_NETWORKS" in (result.message or "")
    result = ping(network, "no-such-name.invalid", timeout=20)
    assert result.problem == "dns_error"


def test_where_nobody_may_ping_a_monitor_is_refused_and_the_doctor_says_how_to_get_it(network: Namespace) -> None:
    network.command("sysctl", "-w", "net.ipv4.ping_group_range=1 0", check=True)
    with pytest.raises(Refused) as refused:
        network.unprivileged(lambda: base.types()["ping"].validate(Target("ping://127.0.0.1", "ping", 5.0)))
    assert refused.value.details[0].field == "url"
    words = refused.value.details[0].message
    assert "net.ipv4.ping_group_range" in words
    assert "CAP_NET_RAW" in words
    assert "\n" not in words
    found = network.unprivileged(doctor.ping)
    assert (found.verdict, "net.ipv4.ping_group_range" in found.words) == ("warn", True)
    result = network.unprivileged(lambda: uvloop.run(look_unvalidated("127.0.0.1")))
    assert (result.problem, "ping_group_range" in (result.message or "")) == ("connection_error", True)
    network.command("sysctl", "-w", "net.ipv4.ping_group_range=0 2147483647", check=True)
    assert network.unprivileged(doctor.ping).words == "checks can ping, by datagram sockets"
    assert network.unprivileged(lambda: uvloop.run(look_unvalidated("127.0.0.1"))).ok


async def look_unvalidated(host: str) -> Result:
    """Of a monitor that was made while this process might ping."""
    return await base.run_check(Target(f"ping://{host}", "ping", 5.0), CheckContext(Dialer(Guard(ALLOWED)), AGENT))


def test_only_addresses_of_the_version_that_is_asked_for_are_used(network: Namespace) -> None:
    def resolve(*_: object, **__: object) -> list[Any]:
        return [
            (socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, 1, 6, "", (SILENT, 0)),
        ]  # fmt: skip

    context = CheckContext(Dialer(Guard(ALLOWED), resolve=resolve), AGENT)
    assert network.run(look("ping://two.example", context)).ok
    assert network.run(look("ping://two.example", context, ip_version=6)).ok
    assert network.run(look("ping://two.example", context, ip_version=4, timeout=0.5)).problem == "timeout"
    result = network.run(look("ping://127.0.0.1", context, ip_version=6))
    assert (result.problem, result.message) == (
        "dns_error", "Could not resolve 127.0.0.1: it has no address of IPv6, only of IPv4",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "fields", "field"),
    [
        ("ping://127.0.0.1:80", {}, "url"),
        ("ping://127.0.0.1/path", {}, "url"),
        ("ping://user@127.0.0.1", {}, "url"),
        ("ping://", {}, "url"),
        ("ping://127.0.0.1", {"packets": 0}, "packets"),
        ("ping://127.0.0.1", {"packets": 21}, "packets"),
        ("ping://127.0.0.1", {"max_loss": 100}, "max_loss"),
        ("ping://127.0.0.1", {"max_response_ms": 0}, "max_response_ms"),
    ],
)
def test_what_cannot_be_pinged_is_refused_with_the_field(url: str, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        base.types()["ping"].validate(Target(url, "ping", 5.0, fields))
    assert [detail.field for detail in refused.value.details] == [field]
