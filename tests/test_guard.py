"""Which addresses may be called: judged at the socket, after DNS, in whatever way they are written."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from tests.receivers import Receiver, free_port
from tocsin.domain.errors import Refused
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http, Unreachable

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
PRIVATE = ipaddress.ip_network("10.0.0.0/8")


def given(address: str, port: int) -> list[Any]:
    """What `getaddrinfo` says of a literal."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert Guard().refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1",
        "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1",
        "2001:db8::1", "3fff::1", "4000::1",
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
     "ff02::1", "64:ff9b::7f00:1"],
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


async def test_a_warning_says_what_cannot_be_reached_at_present() -> None:
    assert "10.0.0.1" in (await Guard().warning("10.0.0.1") or "")
    assert await Guard([PRIVATE]).warning("10.0.0.1") is None
    assert "TOCSIN_ALLOW_NETWORKS" in (await Guard().warning("localhost") or "")
    assert await Guard([LOOPBACK]).warning("localhost") is None


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
