"""The hosts that a database's address names."""

from __future__ import annotations

import pytest

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
        ("postgresql://u@a:x,b/db", "names the port 'x'"),
        ("postgresql://u@a:70000,b/db", "names the port '70000'"),
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
