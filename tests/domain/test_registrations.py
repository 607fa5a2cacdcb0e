"""Registrations of domains: whose a host is, what registries' answers say, and from when there is a warning."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.rdap_server import domain
from tocsin.domain import rdap, registrations
from tocsin.domain.errors import Refused
from tocsin.domain.rdap import Unreadable
from tocsin.domain.registrations import Registration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("www.example.com", "example.com"), ("example.com.", "example.com"), ("a.b.example.co.uk", "example.co.uk"),
        ("me.github.io", "github.io"), ("xn--bcher-kva.example.de", "example.de"), ("www.city.kobe.jp", "city.kobe.jp"),
        ("a.b.c.kobe.jp", "b.c.kobe.jp"), ("db.corp.internal", "corp.internal"),
        ("co.uk", None), ("com", None), ("localhost", None), ("192.0.2.1", None), ("2001:db8::1", None),
    ],
)  # fmt: skip
def test_a_host_belongs_to_the_domain_that_the_public_suffix_list_says(host: str, name: str | None) -> None:
    assert registrations.registrable(host) == name


@pytest.mark.parametrize(("host", "days"), [("192.0.2.1", 30), ("localhost", 30), ("example.com", 0), ("a.com", 366)])
def test_what_has_no_registration_cannot_be_watched(host: str, days: int) -> None:
    with pytest.raises(Refused) as refused:
        registrations.watched(host, days)
    assert [each.field for each in refused.value.details] == ["domain_days"]
    assert registrations.watched(host, None) is None


@pytest.mark.parametrize(
    ("left", "severity"),
    [(30, None), (29.9, "warning"), (5.1, "warning"), (4.9, "critical"), (0.01, "critical"), (-400, "critical")],
)
def test_a_registration_that_ends_within_30_days_is_a_warning_and_critical_within_5(
    left: float, severity: str | None
) -> None:
    known = Registration("example.com", NOW + timedelta(days=left), NOW, "Example Registrar")
    found = registrations.judge(known, NOW, 30)
    assert (found and found.severity) == severity
    if found:
        assert found.type == "domain_expiry"
        assert found.message.startswith("The registration of example.com (with Example Registrar) end")
        assert found.fingerprint == f"example.com {known.expires_at:%Y-%m-%d}"


def test_what_is_not_known_is_no_finding() -> None:
    assert registrations.judge(Registration("example.com", problem="Nobody answers"), NOW, 30) is None


def read(name: str = "example.com", **changed: Any) -> rdap.Answer:
    return rdap.read(json.dumps({**domain("example.com", "2026-08-13T04:00:00Z"), **changed}).encode(), name)


def test_an_answer_says_when_the_registration_ends_and_with_whom_it_is() -> None:
    assert read() == rdap.Answer(datetime(2026, 8, 13, 4, tzinfo=UTC), "Example Registrar, Inc.")


@pytest.mark.parametrize(
    ("dates", "end"),
    [
        ([], None),
        (["2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2026-01-01T00:00:00Z"], "2027-01-01T00:00:00+00:00"),
        (["2026-08-13T06:00:00.123+02:00"], "2026-08-13T04:00:00.123000+00:00"),
        (["2026-08-13T04:00:00"], "2026-08-13T04:00:00+00:00"), (["2026-08-13"], "2026-08-13T00:00:00+00:00"),
        (["soon", "", "2026-13-41T00:00:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"], None),
        (["soon", "2026-08-13T04:00:00Z"], "2026-08-13T04:00:00+00:00"), (["2" * 100_000], None),
    ],
)  # fmt: skip
def test_of_several_ends_the_last_that_can_be_read_counts(dates: list[str], end: str | None) -> None:
    answer = rdap.read(json.dumps(domain("example.com", *dates)).encode(), "example.com")
    assert (answer.expires_at and answer.expires_at.isoformat()) == end


@pytest.mark.parametrize(
    "card",
    [None, [], ["vcard"], ["vcard", {}], ["vcard", [["fn", {}, "text"]]], ["vcard", [["fn", {}, "text", 7]]],
     ["vcard", [["fn", {}, "text", "x" * 9000]]], ["vcard", [[["fn"]]]], ["vcard", [["org", {}, "text", "No"]]]],
)  # fmt: skip
def test_a_registrar_whose_card_cannot_be_read_has_no_name(card: Any) -> None:
    assert read(entities=[{"objectClassName": "entity", "roles": ["registrar"], "vcardArray": card}]).registrar is None


def test_a_registrar_s_name_is_one_line() -> None:
    card = ["vcard", [["fn", {}, "text", "A\nB\u202e" + "c" * 500]]]
    name = read(entities=[{"roles": ["registrar"], "vcardArray": card}]).registrar
    assert name
    assert name.startswith("A B c")
    assert len(name) == 100


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "RFC 9083"), (b"<html>", "RFC 9083"), (b"[]", "RFC 9083"), (b"{}", "not about a domain"),
        (b'{"events": 1}', "RFC 9083"), (b'{"objectClassName": "domain", "events": [{"eventAction": 7}]}', "RFC 9083"),
        (b'{"objectClassName": "entity"}', "not about a domain"),
        (b'{"objectClassName": "domain", "ldhName": "other.com"}', "another domain: other.com"),
        (b'{"objectClassName": "domain", "x": ' + b"[" * 100_000, "RFC 9083"),
        (b'{"objectClassName": "domain", "entities": ' + b'[{"entities":' * 10_000, "RFC 9083"),
    ],
)  # fmt: skip
def test_what_is_no_answer_about_the_domain_says_why(document: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        rdap.read(document, "example.com")


def test_the_service_of_the_longest_suffix_is_asked_by_https_where_it_can_be() -> None:
    listed = {"version": "1.0", "services": [
        [["uk", "COM"], ["http://one.example/rdap/", "https://one.example/rdap/"]],
        [["co.uk"], ["http://two.example"]], [["odd"], ["gopher://three.example/", "nonsense"]], [[]],
    ]}  # fmt: skip
    known = rdap.services(json.dumps(listed).encode())
    assert known == {
        "uk": "https://one.example/rdap/", "com": "https://one.example/rdap/", "co.uk": "http://two.example"
    }
    assert rdap.service_of("example.co.uk", known) == "http://two.example"
    assert rdap.service_of("example.uk", known) == "https://one.example/rdap/"
    assert rdap.service_of("exampleco.uk", known) == "https://one.example/rdap/"
    assert rdap.service_of("example.de", known) is None
    assert rdap.address("http://two.example", "example.co.uk") == "http://two.example/domain/example.co.uk"


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b'{"services": []}', b'{"services": [[[1], []]]}'])
def test_what_is_no_list_of_services_is_refused(document: bytes) -> None:
    with pytest.raises(Unreadable, match="RFC 9224"):
        rdap.services(document)
