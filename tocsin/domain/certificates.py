"""When certificates end, and when that is too soon. Pure.

Lifetimes fall (to 47 days for public ones by 2029: CA/Browser Forum, ballot SC-081v3), so a fixed number of days would
be wrong: what is too soon depends on the lifetime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from tocsin.domain import names
from tocsin.domain.monitors import Finding

EXPIRY = "tls_expiry"
DEFAULT_DAYS, MAX_DAYS = 30, 365
MAX_CHAIN = 10
"""Certificates of a chain that are judged."""
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of one. `name` is the first that it is for, `issuer` who signed it."""

    name: str
    issuer: str
    begins: datetime
    ends: datetime

    def warned_at(self, tls_days: int) -> timedelta:
        """How long before its end there is a warning: `tls_days`, or a third of its lifetime if that is less."""
        return min(timedelta(days=tls_days), (self.ends - self.begins) / 3)

    def critical_at(self, tls_days: int) -> timedelta:
        """A sixth of its lifetime; where that is long, half of the time after the warning."""
        return min((self.ends - self.begins) / 6, self.warned_at(tls_days) / 2)


def judge(chain: Sequence[bytes], now: datetime, tls_days: int) -> Finding | None:
    """What is to be said of a chain as it is served (DER, the site's own certificate first): it ends soon, or nothing.

    The earliest end in it counts. It is one finding for one certificate of the site, whichever of the chain ends.
    """
    read = [found for each in chain[:MAX_CHAIN] if (found := certificate(each)) is not None]
    if not read or not tls_days:
        return None
    first = min(read, key=lambda each: each.ends)
    left = first.ends - now
    if left >= first.warned_at(tls_days):
        return None
    return Finding(
        type=EXPIRY,
        severity="critical" if left < first.critical_at(tls_days) else "warning",
        message=_message(first, read[0], left),
        fingerprint=hashlib.sha256(chain[0]).hexdigest(),
        details={"not_after": f"{first.ends:%Y-%m-%dT%H:%M:%SZ}", "name": first.name, "issuer": first.issuer},
    )


@lru_cache(maxsize=2048)
def certificate(der: bytes) -> Certificate | None:
    """What a certificate says; None where it cannot be read."""
    try:
        read = x509.load_der_x509_certificate(der)
        return Certificate(_name(read), _common_name(read.issuer), read.not_valid_before_utc, read.not_valid_after_utc)
    except ValueError:
        return None


def _message(ends: Certificate, site: Certificate, left: timedelta) -> str:
    when = f"on {ends.ends:%Y-%m-%d at %H:%M} UTC"
    soon = f"ends {_in(left)}, {when}" if left > timedelta() else f"ended {when}"
    if ends is site:
        by = f" (issued by {ends.issuer})" if ends.issuer else ""
        return f"The certificate for {ends.name}{by} {soon}: renew it, or find out why its renewal has not come"
    return (
        f"The certificate of the authority {ends.name}, which is served with that for {site.name}, {soon}: "
        "serve the chain that belongs to a renewed certificate"
    )


def _in(left: timedelta) -> str:
    days, hours = left.days, int(left.total_seconds() // 3600)
    if days >= 2:
        return f"in {days} days"
    return f"in {hours} hours" if hours >= 2 else f"in {int(left.total_seconds() // 60)} minutes"


def _name(read: x509.Certificate) -> str:
    try:
        of = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = [str(each.value) for each in of if isinstance(each, x509.DNSName | x509.IPAddress)]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        named = []
    return _shown(named[0]) if named else _common_name(read.subject) or "this site"


def _common_name(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for each in name.get_attributes_for_oid(kind):
            return _shown(str(each.value))
    return ""


def _shown(text: str) -> str:
    return names.cut("".join(each if each.isprintable() else "�" for each in text), MAX_NAME)
