"""The hosts that a database's address names."""

from __future__ import annotations

import pytest

from tocsin import settings
from tocsin.domain.database_hosts import Host, hosts_of
from tocsin.domain.settings import Unusable


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@a:5432,b:5433/db?target_session_attrs=read-write", [Host("a", 5432), Host("b", 5433)]),
        ("postgresql://u@a,b/db", [Host("a", 5432), Host("b", 5432)]),
        ("postgresql://a,b,a/db?target_session_attrs=any", [Host("a", 5432), Host("b", 5432)]),
        ("postgresql://u@/db?host=a,b&port=1,2", [Host("a", 1), Host("b", 2)]),
        ("postgresql://u@/db?host=/run/postgresql", [Host("/run/postgresql", 5432)]),
        ("postgresql://u@%2Frun%2Fpostgresql/db", [Host("/run/postgresql", 5432)]),
        ("postgresql://u@[2001:db8::1]:5433/db", [Host("2001:db8::1", 5433)]),
        ("postgresql:///db", []),
        ("postgresql://u@/db", []),
    ],
)
def test_hosts_are_found_where_libpq_finds_them(url: str, hosts: list[Host]) -> None:
    assert [*hosts_of(url)] == hosts


def test_a_host_is_written_as_in_an_address() -> None:
    assert [str(host) for host in hosts_of("postgresql://u@a:1/db")] == ["a:1"]
    assert str(Host("2001:db8::1", 5432)) == "[2001:db8::1]:5432"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u@,,/db", "names a host that is empty"),
        ("postgresql://u@a,,b/db", "names a host that is empty"),
        ("postgresql://u@:5432/db", "names a host that is empty"),
        ("postgresql://u@a:x,b/db", "names a port that is no number"),
        ("postgresql://u@a:70000,b/db", "names a port that is no number"),
        ("postgresql://u@a,b/db?port=1,2,3", "has 3 ports for 2 hosts"),
        ("postgresql://u@/db?host=2001:db8::1,b", "an IPv6 address stands in brackets"),
        ("postgresql://u@" + ",".join(f"h{n}" for n in range(21)) + "/db", "names 21 hosts, and at most 20"),
        ("postgresql://u@a,b/db?target_session_attrs=standby", "but Tocsin writes"),
        ("postgresql://u@a,b/db?target_session_attrs=nonsense", "but Tocsin writes"),
    ],
)
def test_hosts_that_nobody_can_be_asked_at_are_refused_in_one_line(url: str, problem: str) -> None:
    with pytest.raises(Unusable, match="TOCSIN_DATABASE_URL") as refused:
        hosts_of(url)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *(f"postgresql://u:Sec{sign}ret@host/db" for sign in "/?#@"),
        "postgresql://u:Sec@a/ret@host/db",
        "postgresql://u:Sec?ret@b/db?x=@",
        "postgresql://u:Sec@ret@a,b/db",
        "postgresql://u:Sec[ret@a]",
        "postgresql://u:Sec ret,b@c/db?host=Sec",
        "postgresql://u:Secret",
        "postgresql://u:Sec:ret/db",
        "postgresql://[u:Secret/db",
        "postgresql://[u]:Secret/db",
        "postgresql://[u]Secret/db",
        "postgresql://Sec ret/db",
    ],
)
def test_nothing_of_a_password_is_said_whatever_is_in_it(url: str) -> None:
    said = ""
    try:
        settings.load("/nowhere", {"TOCSIN_DATABASE_URL": url})
    except Unusable as refused:
        said = str(refused)
    assert "Sec" not in said
    assert "ret" not in said
    if "@" in url.partition("@")[2]:
        assert "%40" in said


def test_a_password_that_is_percent_encoded_may_have_any_sign() -> None:
    assert hosts_of("postgresql://u%40x:p%40%2F%3F%23@a:1/db?application_name=a%40b") == (Host("a", 1),)
