"""Registrations of domains: which domain a host belongs to, and whether its registration ends soon. Pure.

The domain is found by the Public Suffix List (https://publicsuffix.org), of which a copy comes with the library. The
alternative, asking a registry for a host and then for one label less until it knows one, would tell registries the
names of hosts, and take several requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from publicsuffixlist import PublicSuffixList

from tocsin.domain.errors import invalid_field
from tocsin.domain.monitors import DOMAIN_EXPIRY, Finding

MAX_DAYS = 365
OPTION = "domain_days"

@dataclass(frozen=True, slots=True)
class Registration:
    """What is known of a domain's registration. `problem` is why nothing newer is.

    `checked_at` is when its registry was last asked, in vain or not; `registrar` is a name for people.
    """

    name: str
    expires_at: datetime | None = None
    checked_at: datetime | None = None
    registrar: str | None = None
    problem: str | None = None


def registrable(host: str) -> str | None:
    """The domain that somebody has registered for this host (as `hosts.read` writes it) to be.

    None for addresses, names of one label, and suffixes under which others register, such as `co.uk`.
    """
    if ":" in host or host[-1:].isdecimal():
        return None
    return _suffixes().privatesuffix(host.removesuffix("."))


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    """Read at the first use: it takes longer than most commands."""
    return PublicSuffixList(only_icann=True)  # with private ones, owners of example.github.io would be its registrants


def watched(host: str | None, days: int | None) -> str | None:
    """The domain to watch for a monitor of `host` with its option. Raises `Refused` (422)."""
    if days is None:
        return None
    if not 1 <= days <= MAX_DAYS:
        raise invalid_field(OPTION, f"must be from 1 to {MAX_DAYS} days, or null for no warning")
    found = registrable(host) if host else None
    if found is None:
        raise invalid_field(OPTION, "needs a host whose name is in a registered domain, such as www.example.com")
    return found


def judge(known: Registration, now: datetime, days: int) -> Finding | None:
    """What is to be said of a registration: it ends within so many `days`, or has ended; critical below a sixth.

    It is one finding for one domain and day of its end.
    """
    if known.expires_at is None or not days:
        return None
    left = known.expires_at - now
    if left >= timedelta(days=days):
        return None
    ends = known.expires_at.astimezone(UTC)
    when = f"on {ends:%Y-%m-%d at %H:%M} UTC"
    soon = f"ends {_in(left)}, {when}" if left > timedelta() else f"ended {when}"
    by = f" (with {known.registrar})" if known.registrar else ""
    return Finding(
        type=DOMAIN_EXPIRY,
        severity="critical" if left < timedelta(days=days) / 6 else "warning",
        message=f"The registration of {known.name}{by} {soon}: renew it, or find out why its renewal has not come",
        fingerprint=f"{known.name} {ends:%Y-%m-%d}",
        details={"domain": known.name, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "registrar": known.registrar or ""},
    )


def _in(left: timedelta) -> str:
    hours = int(left.total_seconds() // 3600)
    return f"in {left.days} days" if left.days >= 2 else f"in {hours} hours" if hours >= 2 else "within two hours"
