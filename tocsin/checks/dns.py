"""`dns`: a name server answers a question, and, if set, with exactly the expected records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Literal, get_args

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.reversename
import msgspec
from dns.rdtypes.ANY.TXT import TXT

from tocsin.checks.base import CheckContext, CheckType, own_time
from tocsin.checks.common_options import DomainDays
from tocsin.domain import hosts, names, urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Problem, Result, Target
from tocsin.transports import name_server
from tocsin.transports.name_server import PORT, Answer, Unasked

Type = Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"]
MAX_EXPECTED, MAX_VALUE = 50, 2_000
SHOWN = 300
"""Characters of an answer in a message."""
SHAPE = "must have the form dns://resolver/name?type=A, or dns:name?type=A to ask the system's resolver"
_URL = re.compile(r"dns:(?://([^/?#]*)/)?([^/?#]*)(?:\?type=([A-Za-z]*))?", re.IGNORECASE)
_WORDS = {
    "NXDOMAIN": "there is no such name", "SERVFAIL": "the server could not find out", "REFUSED": "the server refuses",
    "FORMERR": "the server does not understand the question", "NOTIMP": "the server does not do this",
}  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """`expected` are all records that the answer must have, in any order, as zone files write them: `192.0.2.1`,
    `10 mail.example.com`. Null: any, but at least one.
    """

    expected: list[str] | None = None
    domain_days: DomainDays = None


@dataclass(frozen=True, slots=True)
class Question:
    """What an address asks for. `resolver` is empty for the system's."""

    resolver: str
    port: int
    name: str
    type: Type

    asked: dns.name.Name
    """The name that is asked for; of an address that is asked for by PTR, its name in reverse, as `dig -x` does."""


@lru_cache(maxsize=4_096)  # at every check
def read(url: str) -> Question:
    """Raises `ValueError`, which says what is wrong."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("the type is all that may follow the name")
    authority, name, given = parts.groups()
    resolver = urls.read(f"dns://{authority}/") if authority is not None else None
    if resolver is not None and resolver.has_login:
        raise ValueError("it contains a user name or password")
    type_ = next((each for each in get_args(Type) if each == (given or "A").upper()), None)
    if type_ is None:
        raise ValueError(f"its type is none of {', '.join(get_args(Type))}")
    host = hosts.read(name)
    if _is_address(host) and type_ != "PTR":
        raise ValueError(f"{host} is an address, of which only PTR can be asked")
    asked = dns.reversename.from_address(host) if type_ == "PTR" and _is_address(host) else dns.name.from_text(host)
    return Question(resolver.host if resolver else "", resolver.port or PORT if resolver else PORT, host, type_, asked)


def _is_address(host: str) -> bool:
    return ":" in host or host[-1:].isdecimal()


class Dns(CheckType):
    check_type = "dns"
    schemes = frozenset(("dns",))
    options = Options

    def validate(self, target: Target) -> Target:
        try:
            question = read(target.url)
        except ValueError as error:
            raise invalid_field("url", f"{SHAPE}: {error}") from None
        options = msgspec.convert(target.options, Options)
        if options.expected is not None:
            if not 1 <= len(options.expected) <= MAX_EXPECTED:
                raise invalid_field("expected", f"must have from 1 to {MAX_EXPECTED} values, or be null")
            for place, each in enumerate(options.expected):
                _checked(question.type, each, f"expected[{place}]")
        return replace(target, options=msgspec.to_builtins(options))

    def host(self, target: Target) -> str | None:
        return read(target.url).resolver or None

    def named(self, target: Target) -> str:
        return read(target.url).name

    async def check(self, target: Target, context: CheckContext) -> Result:
        began = perf_counter()
        deadline = monotonic() + own_time(target.timeout)
        options, question = msgspec.convert(target.options, Options), read(target.url)
        addresses: Sequence[str]
        if question.resolver:
            found = await context.dialer.addresses(question.resolver, question.port)
            addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        else:  # the operator's own: every look-up of this machine asks it
            addresses = name_server.system()
        result = Result("dns_error", "This machine has no resolver: /etc/resolv.conf names none")
        for place, address in enumerate(addresses):
            share = max(0.05, deadline - monotonic()) / (len(addresses) - place)
            try:
                answer = await name_server.ask(address, question.port, question.asked, question.type, share)
            except Unasked as error:
                problem: Problem = "timeout" if error.silent else "dns_error"
                result = Result(problem, str(error), evidence=self.evidence(target, context))
                continue
            server = address if question.port == PORT else f"{address} port {question.port}"
            said = f"{answer.rcode} from {server}, flags {answer.flags}"
            wrong = _wrong(question, answer, options.expected)
            took = (perf_counter() - began) * 1000
            if wrong is None:
                return Result(response_ms=took)
            shown = f"{said}: {_listed(_texts(answer.found)) or 'no records'}"
            evidence = Evidence(request=_asked(question), response=shown)
            return Result(wrong[0], f"{wrong[1]} ({said})", took, evidence=evidence)
        return result

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        return Evidence(request=_asked(read(target.url)))


def _asked(question: Question) -> str:
    return f"{question.type} {question.asked.to_text(omit_final_dot=True)}"


def _wrong(question: Question, answer: Answer, expected: Sequence[str] | None) -> tuple[Problem, str] | None:
    """What is wrong with an answer."""
    name = names.cut(question.name, SHOWN)
    if answer.rcode != "NOERROR":
        return "dns_error", f"No answer for {name}: {_WORDS.get(answer.rcode, 'the server says so')}"
    chain = names.cut(" → ".join((name, *answer.aliases)), SHOWN)
    if answer.circular:
        return "dns_error", f"The aliases of {name} lead in a circle: {chain}"
    if not answer.found:
        return "content", f"{chain} has no {question.type} records"
    if expected is None:
        return None
    found, wanted = {_key(each) for each in answer.found}, {_parsed(question.type, each) for each in expected}
    if found == wanted:
        return None
    return "content", f"{question.type} of {chain} is {_listed(_texts(answer.found))}; expected {_listed(expected)}"


def _listed(values: Sequence[str]) -> str:
    return names.cut(", ".join(sorted(values)), SHOWN)


def _texts(found: Sequence[dns.rdata.Rdata]) -> list[str]:
    """As zone files write them, without the dots that end names."""
    return [each.to_text().removesuffix(".") for each in found[:MAX_EXPECTED]]


def _key(record: dns.rdata.Rdata) -> bytes:
    """The same for records that say the same: names in lower case, texts in one piece."""
    if isinstance(record, TXT):
        return b"".join(record.strings)
    return record.to_digestable()


@lru_cache(maxsize=4_096)
def _parsed(type_: Type, text: str) -> bytes:
    """Raises `dns.exception.DNSException` or `ValueError`."""
    if type_ == "TXT" and not text.startswith('"'):
        return text.encode()
    read_ = dns.rdata.from_text(dns.rdataclass.IN, type_, text.strip(), origin=dns.name.root, relativize=False)
    return _key(read_)


def _checked(type_: Type, text: str, field: str) -> None:
    try:
        if not 1 <= len(text) <= MAX_VALUE:
            raise ValueError(f"it must have from 1 to {MAX_VALUE:,} characters")
        _parsed(type_, text)
    except (dns.exception.DNSException, ValueError) as error:
        why = str(error).rstrip(".")[:200]
        raise invalid_field(field, f"must be a record of type {type_} as zone files write it: {why}") from None
