"""Which addresses may be called: judged at the socket, after DNS, in whatever way they are written."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from typing import Any

import pytest

from tests.needed import program
from tests.receivers import Receiver
from tocsin.cli.sockets import free_port
from tocsin.domain.errors import Refused
from tocsin.transports import interfaces
from tocsin.transports.guard import EVERYWHERE, Guard
from tocsin.transports.http import Http, Unreachable

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
PRIVATE = ipaddress.ip_network("10.0.0.0/8")


def given(address: str, port: int) -> list[Any]:
    """What `getaddrinfo` says of a literal."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
     # the neighbours of what is refused
     "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
     "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
     "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
     "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "199.36.153.3",
     "199.36.153.12", "161.25.255.255", "161.27.0.0", "166.7.255.255", "166.12.0.0", "2001:200::1", "2001:db7::1",
     "2001:db9::1", "2003::1", "2620:4f:8001::1", "3fff:1000::1", "3ffe::1"],
)  # fmt: skip
def test_public_addresses_may_be_reached(address: str) -> None:
    assert Guard().refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.9",
        "192.0.0.10", "192.0.0.170", "192.0.0.171", "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.31.196.1",
        "192.52.193.1", "192.175.48.1", "198.19.255.255", "0.1.2.3", "168.63.129.16", "199.36.153.4", "199.36.153.11",
        "161.26.0.10", "166.8.0.1", "166.11.255.254", "198.51.100.1", "203.0.113.1", "198.18.0.1",
        "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1",
        "2001:db8::1", "3fff::1", "4000::1", "1fff::1", "100:0:0:1::1", "5f00::1", "2620:4f:8000::1",
        "2001::1", "2001:1::1", "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1",
        "2001:1ff:ffff::1", "3fff:fff::1", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fe80::a9fe:a9fe",
        "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b:1::8.8.8.8", "64:ff9b:1:a00:1:100:808:808",
        "::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "2002:a83f:8110::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "::127.0.0.1", "::10.0.0.1",
        "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1",
        "2002:7f00:1::1", "2002:a00:1::", "2002:c0a8:101::1",
        "2001:0:7f00:1::1", "2001:0:808:808:0:0:f5ff:fffe",
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_words_that_help(address: str) -> None:
    refusal = Guard().refusal(address)
    assert refusal is not None
    assert address.partition("%")[0] in refusal or str(ipaddress.ip_address(address)) in refusal
    assert "TOCSIN_ALLOW_NETWORKS=" in refusal


def test_a_refusal_names_the_network_that_would_allow_it() -> None:
    refusal = Guard().refusal("::ffff:10.1.2.3")
    assert refusal is not None
    network = ipaddress.ip_network(refusal.rpartition("=")[2])
    assert Guard([network]).refusal("::ffff:10.1.2.3") is None
    assert Guard([network]).refusal("10.1.2.3") is None
    assert Guard([network]).refusal("10.1.2.4") is not None


def test_what_is_no_address_is_refused() -> None:
    assert Guard().refusal("example.com") is not None


@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"])
def test_what_the_operator_allows_may_be_reached_in_every_form(address: str) -> None:
    assert Guard([PRIVATE]).refusal(address) is None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "127.0.0.1.", "[::1]",
     "::1", "::ffff:7f00:1", "0.0.0.0", "0", "::", "169.254.169.254", "fe80::1", "fe80::1%25eth0", "224.0.0.1",
     "ff02::1", "64:ff9b::7f00:1", "2606:4700::1111%eth0", "[2606:4700::1111%25eth0]", "a..b", "<b>"],
)  # fmt: skip
def test_literals_that_mean_this_machine_or_wire_are_refused_at_creation(host: str) -> None:
    assert Guard().refusal_at_creation(host) is not None
    with pytest.raises(Refused) as refused:
        Guard().check_given(host, "settings.webhook_url")
    assert refused.value.status == 422
    assert [detail.field for detail in refused.value.details] == ["settings.webhook_url"]


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.10", "fd00::1", "8.8.8.8", "example.com", "localhost", "0x7g"])
def test_other_hosts_are_accepted_at_creation(host: str) -> None:
    assert Guard().refusal_at_creation(host) is None


def test_loopback_is_accepted_at_creation_where_it_is_allowed() -> None:
    assert Guard([LOOPBACK]).refusal_at_creation("127.0.0.1") is None
    assert Guard([LOOPBACK]).refusal_at_creation("2130706433") is None


PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")


@pytest.mark.parametrize("address", [*PUBLIC, "::ffff:93.184.215.14", "64:ff9b::93.184.215.14", "2002:5db8:d70e::1"])
def test_this_machine_s_own_public_address_is_refused_unless_the_operator_names_it(address: str) -> None:
    own = frozenset(map(ipaddress.ip_address, PUBLIC))
    refusal = Guard(own=lambda: own).refusal(address)
    assert refusal is not None
    assert "is this machine's own" in refusal
    network = ipaddress.ip_network(refusal.rpartition("=")[2])
    assert Guard([network], own=lambda: own).refusal(address) is None
    assert Guard(own=lambda: own).refusal("8.8.8.8") is None


def test_the_addresses_of_all_interfaces_are_this_machine_s_own() -> None:
    listed = subprocess.run([program("ip"), "-json", "address"], capture_output=True, check=True).stdout
    theirs = {info["local"] for each in json.loads(listed) for info in each["addr_info"]}
    assert {str(each) for each in interfaces.addresses()} == theirs
    assert len(interfaces.addresses()) <= interfaces.MOST


def test_the_interfaces_are_looked_at_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces.addresses()
    monkeypatch.setattr(interfaces, "_known", frozenset())
    assert interfaces.addresses() == frozenset()
    monkeypatch.setattr(interfaces, "_looked_at", interfaces._looked_at - interfaces.LOOKED_AT_EVERY)
    assert ipaddress.ip_address("127.0.0.1") in interfaces.addresses()


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.169.254"])
def test_a_cloud_s_metadata_is_reached_only_where_the_operator_names_that_very_address(address: str) -> None:
    wide = [ipaddress.ip_network(each) for each in ("169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "::ffff:0:0/96")]
    refusal = Guard(wide).refusal(address)
    assert refusal is not None
    assert Guard(wide).refusal("100.100.100.201") is None
    assert Guard([ipaddress.ip_network(refusal.rpartition("=")[2])]).refusal(address) is None
    assert Guard(EVERYWHERE).refusal(address) is None


async def test_a_warning_says_what_cannot_be_reached_at_present() -> None:
    assert "10.0.0.1" in (await Guard().warning("10.0.0.1") or "")
    assert await Guard([PRIVATE]).warning("10.0.0.1") is None
    assert "TOCSIN_ALLOW_NETWORKS" in (await Guard().warning("localhost") or "")
    assert await Guard([LOOPBACK]).warning("localhost") is None


@pytest.mark.parametrize("host", ["例え.invalid", "１０.0.0.1", "a..b", "fe80::1%ü", "\ud800", "ü" * 300])
async def test_a_warning_can_be_said_in_a_header_whatever_the_host_was_written_in(host: str) -> None:
    assert (await Guard().warning(host) or "").isascii()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_no_way_of_writing_loopback_gets_through(host: str, receiver: Receiver) -> None:
    http = Http(Guard())
    with pytest.raises(Unreachable, match=r"TOCSIN_ALLOW_NETWORKS|usual address") as failed:
        await http.post(f"http://{host}:{receiver.port}/", b"", {})
    await http.close()
    assert failed.value.refused
    assert receiver.requests == []


async def test_a_name_that_changes_its_mind_gains_nothing(receiver: Receiver) -> None:
    """Rebinding: the first answer is harmless, the others are not; each is judged where it is about to be used."""
    answers = iter(["127.0.0.1", "127.0.0.2", "10.0.0.1"])
    guard = Guard([ipaddress.ip_network("127.0.0.1/32")])

    async def call() -> str:
        http = Http(guard, resolve=lambda host, port, **_: given(next(answers), port))
        try:
            return str((await http.post(f"http://rebinding.example:{receiver.port}/", b"", {})).status)
        except Unreachable as error:
            return f"{error} (refused: {error.refused})"
        finally:
            await http.close()

    assert await call() == "200"
    for address in ("127.0.0.2", "10.0.0.1"):
        outcome = await call()
        assert f"{address} is not public" in outcome
        assert "(refused: True)" in outcome
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("addresses", "refused"), [(["10.0.0.1", "10.0.0.2"], True), (["127.0.0.1", "10.0.0.1"], False)]
)
async def test_of_a_name_s_addresses_only_the_allowed_ones_count(addresses: list[str], refused: bool) -> None:
    """A destination that is down for a while must not look like one that may never be called."""
    port = free_port()
    http = Http(Guard([LOOPBACK]), resolve=lambda *_, **__: [each for one in addresses for each in given(one, port)])
    with pytest.raises(Unreachable) as failed:
        await http.post(f"http://several.example:{port}/", b"", {})
    await http.close()
    assert failed.value.refused is refused
    assert ("is not public" in str(failed.value)) is refused
