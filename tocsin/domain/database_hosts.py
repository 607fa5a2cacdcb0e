"""The hosts of a database's address, as libpq writes several: `postgresql://user@a:5432,b:5432/tocsin`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from tocsin.domain.settings import Unusable

NAME = "TOCSIN_DATABASE_URL"
MOST = 20
"""Hosts in one address: all of them are asked at once."""
PORT = 5432

WRITABLE = ("any", "primary", "read-write")
"""What `target_session_attrs` may ask for. All of them mean the one that is writable: Tocsin writes."""


@dataclass(frozen=True, slots=True)
class Host:
    """One of several. A name that begins with a slash is the folder of a socket."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def hosts_of(url: str) -> tuple[Host, ...]:
    """The hosts, each once, in their order; none if the address names none, as for a socket in its usual place.

    Raises `Unusable` for hosts that nobody can be asked at, and for sessions that could not write. It quotes nothing of
    what may be a part of the password: without the @, or with a sign in the password that ends it, all may be.
    """
    parts = urlsplit(url)
    if parts.netloc.count("@") > 1 or any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        raise Unusable(
            NAME,
            "has an @ besides the one before the hosts: in a password or name, @ / ? # and % are written %40 %2F %3F "
            "%23 and %25",
        )
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    wanted = query.get("target_session_attrs", "read-write")
    if wanted not in WRITABLE:
        raise Unusable(NAME, f"asks for target_session_attrs={wanted}, but Tocsin writes: leave it out, or read-write")
    given = parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc
    named = [_parsed(each) for each in given.split(",")] if given else _of_query(query.get("host", ""))
    ports = [_port(each) for each in query["port"].split(",")] if query.get("port") else [PORT]
    if len(ports) not in (1, len(named) or 1):
        raise Unusable(NAME, f"has {len(ports)} ports for {len(named)} hosts; give one for each, or one for all")
    ports = ports if len(ports) > 1 else ports * len(named)
    found = tuple(dict.fromkeys(Host(name, own or port) for (name, own), port in zip(named, ports, strict=False)))
    if len(found) > MOST:
        raise Unusable(NAME, f"names {len(found)} hosts, and at most {MOST} are asked; name those of one cluster")
    return found


def _of_query(hosts: str) -> list[tuple[str, int | None]]:
    return [_parsed(each) for each in hosts.split(",")] if hosts else []


def _parsed(given: str) -> tuple[str, int | None]:
    """A name or address, and its port if it has one."""
    spec = unquote(given)
    if spec.startswith("/"):
        return spec, None
    if spec.startswith("["):
        name, bracket, rest = spec[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Unusable(NAME, "names a host that cannot be read; the form of an IPv6 address is [2001:db8::1]:5432")
        return _named(name), _port(rest[1:]) if rest[1:] else None
    name, colon, port = spec.partition(":")
    if ":" in port:
        raise Unusable(NAME, "names a host with colons; an IPv6 address stands in brackets, as in [2001:db8::1]:5432")
    return _named(name), _port(port) if colon and port else None


def _named(name: str) -> str:
    if not name or any(sign.isspace() for sign in name):
        raise Unusable(NAME, f"names a host that {'has a space' if name else 'is empty'}; the form is a:5432,b:5432")
    return name


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise Unusable(NAME, "names a port that is no number from 1 to 65535")
    return int(text)


def checked(value: str) -> str | None:
    """The setting, if hosts can be read from it. Raises `Unusable`."""
    if not value:
        return None
    name = "TOCSIN_DATABASE_URL"
    try:
        url = urlsplit(value)
    except ValueError:
        raise Unusable(name, "cannot be read; the form is postgresql://user@host/tocsin") from None
    if url.scheme not in ("postgresql", "postgres") or value[len(url.scheme) :][:3] != "://":
        raise Unusable(name, "must start with postgresql://, such as postgresql://user@host/tocsin")
    if "%" in url.netloc.partition("[")[2]:  # elsewhere a host may be the escaped path of a socket
        raise Unusable(name, "names a zone (%…) of an address, which cannot be used")
    for host in hosts_of(value):
        try:
            host.name.startswith("/") or host.name.encode("idna")
        except UnicodeError:
            problem = "names a host that is no valid name: each part between dots has 1 to 63 characters"
            raise Unusable(name, problem) from None
    return value
