"""Questions to a real name server on loopback, beside what Debian's `dig` says of the same, and to odd ones."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import dns.message
import pytest

from tests import needed
from tests.dns_server import ZONE, Answers, by_zone, name_server
from tests.sites import AGENT, look
from tocsin.checks import base
from tocsin.checks.base import CheckContext
from tocsin.cli.sockets import free_port
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Result, Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard


async def dig(port: int, name: str, type_: str) -> tuple[str, set[str], list[str]]:
    """What `dig` says: the rcode, the flags, and the records of that type in the answer."""
    reverse = ["-x", name] if type_ == "PTR" else [name, type_]
    ran = await asyncio.create_subprocess_exec(
        needed.program("dig"), "@127.0.0.1", "-p", str(port), "+tries=1", "+time=3", *reverse,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await ran.communicate())[0].decode()
    rcode, flags = re.search(r"status: (\w+)", said), re.search(r"flags: ([a-z ]*);", said)
    records = re.findall(rf"^[^;\s]\S*\s+\d+\s+IN\s+{type_}\s+(.+)$", said, re.MULTILINE)
    return rcode[1] if rcode else "", set(flags[1].split()) if flags else set(), records


async def question(port: int, name: str, type_: str = "A", *, timeout: float = 20.0, **fields: Any) -> Result:
    return await look(f"dns://127.0.0.1:{port}/{name}?type={type_}", timeout=timeout, **fields)


@pytest.mark.parametrize(
    ("name", "type_", "expected"),
    [
        ("www.example.com", "A", ["192.0.2.2", "192.0.2.1"]),
        ("WWW.example.com.", "AAAA", ["2001:DB8:0::1"]),
        ("example.com", "MX", ["20 backup.example.com", "10 mail.example.com."]),
        ("example.com", "NS", ["ns2.example.com", "NS1.example.com"]),
        ("example.com", "TXT", ["v=spf1 -all", "one piece; of two"]),
        ("example.com", "TXT", ['"v=spf1" " -all"', '"one piece; of two"']),
        ("example.com", "SOA", ["ns1.example.com hostmaster.example.com 2026010101 7200 3600 1209600 300"]),
        ("example.com", "CAA", ['0 issue "ca.example.net"']),
        ("_sip._tcp.example.com", "SRV", ["10 5 5060 sip.example.com"]),
        ("alias.example.com", "A", ["192.0.2.1", "192.0.2.2"]),
        ("alias.example.com", "CNAME", ["www.example.com"]),
        ("192.0.2.1", "PTR", ["www.example.com"]),
        ("huge.example.com", "A", None),
    ],
)
async def test_a_name_with_the_expected_records_is_well_as_dig_says(
    name: str, type_: str, expected: list[str] | None
) -> None:
    async with name_server() as port:
        result = await question(port, name, type_, expected=expected)
        assert result.ok, result
        rcode, _, records = await dig(port, name, type_)
        assert rcode == "NOERROR"
        assert (await question(port, name, type_, expected=records[:50])).ok == (len(records) <= 50)


@pytest.mark.parametrize(
    ("name", "problem", "words", "rcode"),
    [
        ("missing.example.com", "dns_error", "No answer for missing.example.com: there is no such name", "NXDOMAIN"),
        ("servfail.example.com", "dns_error", "No answer for servfail.example.com: the server could not find out",
         "SERVFAIL"),
        ("refused.example.com", "dns_error", "No answer for refused.example.com: the server refuses", "REFUSED"),
        ("example.com", "content", "example.com has no A records", "NOERROR"),
        ("dangling.example.com", "content", "dangling.example.com → nowhere.example.com has no A records", "NOERROR"),
        ("round.example.com", "dns_error", "The aliases of round.example.com lead in a circle: "
         "round.example.com → about.example.com → round.example.com", "NOERROR"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_says_why_with_the_rcode_and_flags_that_dig_says(
    name: str, problem: str, words: str, rcode: str
) -> None:
    async with name_server() as port:
        result = await question(port, name)
        theirs = await dig(port, name, "A")
    assert theirs[0] == rcode
    assert result.problem == problem
    assert result.message is not None
    said = re.fullmatch(re.escape(words) + rf" \({rcode} from 127.0.0.1 port {port}, flags ([a-z ]+)\)", result.message)
    assert said, result.message
    assert set(said[1].split()) == theirs[1]
    assert result.evidence is not None
    assert result.evidence.request == f"A {name}"


async def test_other_records_than_expected_are_told_beside_them() -> None:
    async with name_server() as port:
        result = await question(port, "www.example.com", expected=["192.0.2.1"])
        other = await question(port, "www.example.com", expected=["192.0.2.1", "192.0.2.2", "192.0.2.3"])
    assert (result.problem, other.problem) == ("content", "content")
    assert (result.message or "").startswith("A of www.example.com is 192.0.2.1, 192.0.2.2; expected 192.0.2.1 (")


async def test_nobody_there_and_nobody_answering_are_told_apart() -> None:
    result = await question(port := free_port(), "example.com")
    words = f"Nothing answers DNS at 127.0.0.1 port {port}: connection refused"
    assert (result.problem, result.message) == ("dns_error", words)
    async with name_server(lambda *_: []) as port:
        result = await question(port, "example.com", timeout=1.0)
    assert result.problem == "timeout"
    assert (result.message or "").startswith(f"No answer from 127.0.0.1 port {port} within 0.7")


def _other_id(data: bytes, stream: bool) -> list[bytes]:
    return [bytes((each[0] ^ 255, *each[1:])) for each in by_zone(data, stream)]


def _other_name(data: bytes, stream: bool) -> list[bytes]:
    answer = dns.message.make_response(dns.message.make_query("other.example.com", "A"))
    answer.id = dns.message.from_wire(data).id
    return [answer.to_wire()]


def _itself(data: bytes, stream: bool) -> list[bytes]:
    return [data]


@pytest.mark.parametrize("answers", [_other_id, _other_name, _itself, lambda *_: [b"", b"x" * 11]])
async def test_what_answers_another_question_is_waited_past_as_dig_does(answers: Answers) -> None:
    async with name_server(answers) as port:
        result = await question(port, "www.example.com", timeout=1.0)
        assert result.problem == "timeout"
        assert "that answer another question were ignored" in (result.message or "")
    async with name_server(lambda data, stream: [*answers(data, stream), *by_zone(data, stream)]) as port:
        assert (await question(port, "www.example.com")).ok
        assert (await dig(port, "www.example.com", "A"))[2] or answers is _itself  # at which `dig` gives up


async def test_an_answer_from_elsewhere_is_none() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.2", 0))
        sources: list[Any] = []

        class Asked(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, source: Any) -> None:
                sources.append(source)
                elsewhere.sendto(by_zone(data, False)[0], source)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Asked, local_addr=("127.0.0.1", 0))
        try:
            result = await question(transport.get_extra_info("sockname")[1], "www.example.com", timeout=1.0)
        finally:
            transport.close()
    assert sources
    assert result.problem == "timeout"


def _broken(data: bytes, stream: bool) -> list[bytes]:
    return [by_zone(data, stream)[0][:55]]


def _pointers(data: bytes, stream: bool) -> list[bytes]:
    """An answer whose names are pointers to pointers."""
    head, end = by_zone(data, stream)[0], data.index(b"\x00\x01\x00\x01") + 5
    pointers = b"".join((0xC000 | 12 + 2 * each).to_bytes(2, "big") for each in range(5000))
    return [head[:6] + b"\x07\xd0\x00\x00\x00\x00" + head[12:end] + pointers]


@pytest.mark.parametrize("answers", [_broken, _pointers, lambda data, stream: [by_zone(data, stream)[0][:14]]])
async def test_an_answer_that_cannot_be_read_is_a_dns_error(answers: Answers) -> None:
    async with name_server(answers) as port:
        result = await question(port, "www.example.com", timeout=1.0)
    assert result.problem in ("dns_error", "timeout")
    if result.problem == "dns_error":
        assert (result.message or "").startswith(f"The answer of 127.0.0.1 port {port} cannot be read: ")


async def test_an_answer_of_64_kb_is_refused_in_words() -> None:
    async with name_server() as port:
        result = await question(port, "bomb.example.com")
    assert result.problem == "dns_error"
    assert "it has 4,000 records, more than 2,000" in (result.message or "")
    assert len(by_zone(dns.message.make_query("bomb.example.com", "A").to_wire(), True)[0]) > 60_000


async def test_a_stream_that_stops_in_the_middle_is_told() -> None:
    def short(data: bytes, stream: bool) -> list[bytes]:
        return by_zone(data, stream) if not stream else []

    async with name_server(short) as port:
        result = await question(port, "huge.example.com", timeout=3.0)
    assert result.problem == "timeout"
    assert "over TCP, to which its answer over UDP referred" in (result.message or "")


async def test_the_resolver_is_guarded_and_the_systems_own_needs_no_permission() -> None:
    context = CheckContext(Dialer(Guard()), AGENT)
    for resolver in ("127.0.0.1", "localhost", "[::1]:53", "10.0.0.1"):
        result = await look(f"dns://{resolver}/example.com", context)
        assert result.problem == "connection_error"
        assert "TOCSIN_ALLOW_NETWORKS" in (result.message or "")
    result = await look("dns:no-such-name.invalid?type=A", context, timeout=1.0)
    assert result.problem in ("dns_error", "timeout")  # whatever this machine's resolver says of it
    assert base.types()["dns"].host(Target("dns:example.com", "dns", 5.0)) is None


@pytest.mark.parametrize(
    ("url", "fields", "field"),
    [
        ("dns://127.0.0.1", {}, "url"),
        ("dns://127.0.0.1/", {}, "url"),
        ("dns://user@127.0.0.1/example.com", {}, "url"),
        ("dns:example.com?type=ANY", {}, "url"),
        ("dns:example.com?class=IN", {}, "url"),
        ("dns:192.0.2.1?type=A", {}, "url"),
        ("dns:a..b", {}, "url"),
        ("dns:example.com", {"expected": []}, "expected"),
        ("dns:example.com", {"expected": ["example.com"]}, "expected[0]"),
        ("dns:example.com?type=MX", {"expected": ["10 mx.example.com", "mx.example.com"]}, "expected[1]"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_field(url: str, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        base.types()["dns"].validate(Target(url, "dns", 5.0, fields))
    assert [detail.field for detail in refused.value.details] == [field]


def test_every_type_of_the_contract_is_tried() -> None:
    tried = {type_ for _, type_ in ZONE}
    assert tried == {"A", "AAAA", "CNAME", "MX", "NS", "TXT", "SOA", "SRV", "PTR", "CAA"}
