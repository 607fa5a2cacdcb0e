"""`tls`: a handshake with a certificate that can be trusted, for the right name, and not about to end."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import get_args

import msgspec
from cryptography import x509

from tocsin.checks.base import CheckContext, CheckType
from tocsin.checks.common_options import DomainDays, TlsDays
from tocsin.domain import certificates, hosts, names, urls
from tocsin.domain.certificates import Certificate
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Result, Target
from tocsin.transports.dial import no_authorities
from tocsin.transports.handshake import NotTls, StartTls, shake_hands
from tocsin.transports.served_chain import chain_of

SHAPE = "must have the form tls://host:port, or tls://host:port?starttls=smtp (or imap, pop3)"
SHOWN = 200
"""Characters of names in a message."""
MAX_NAMES = 100
_URL = re.compile(r"tls://([^/?#]+)/?(?:\?starttls=([a-z0-9]+))?", re.IGNORECASE)

# openssl-verification-options(1), "DIAGNOSTICS".
_NOT_YET, _EXPIRED, _SELF_SIGNED, _UNKNOWN_ROOT = 9, 10, 18, 19
_NO_ISSUER, _OTHER_NAME = (2, 20, 21), (62, 64)

_ALERTS = {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the other side accepts none of our parameters (or wants a client certificate)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side speaks no version of TLS that we do (1.2 and 1.3)",
    "UNSUPPORTED_PROTOCOL": "the other side speaks only versions before TLS 1.2",
    "TLSV1_UNRECOGNIZED_NAME": "the other side knows no such name",
    "EXCESSIVE_MESSAGE_SIZE": "its certificates are longer than 100 KiB",
    "DH_KEY_TOO_SMALL": "its Diffie-Hellman key is too short to be safe",
}


class Options(msgspec.Struct, frozen=True):
    """Certificates that end within `tls_days`, or a third of their lifetime if that is less, are an incident
    `tls_expiry` of their own (0: never). `server_name` is the name that is asked for and that the certificate must be
    for, if it is not the host's.
    """

    tls_days: TlsDays = certificates.DEFAULT_DAYS
    server_name: str | None = None
    domain_days: DomainDays = None


@dataclass(frozen=True, slots=True)
class Place:
    """What an address names."""

    host: str
    port: int
    starttls: StartTls | None


def read(url: str) -> Place:
    """Raises `ValueError`, which says what is wrong."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("nothing else may follow the port")
    where = urls.read(f"tls://{parts[1]}")
    if not where.port or where.has_login:
        raise ValueError("it must name a port and no user")
    starttls = next((each for each in get_args(StartTls) if each == (parts[2] or "").lower()), None)
    if parts[2] and starttls is None:
        raise ValueError(f"starttls is none of {', '.join(get_args(StartTls))}")
    return Place(where.host, where.port, starttls)


class Tls(CheckType):
    check_type = "tls"
    schemes = frozenset(("tls",))
    options = Options

    def validate(self, target: Target) -> Target:
        try:
            read(target.url)
        except ValueError as error:
            raise invalid_field("url", f"{SHAPE}: {error}") from None
        options = msgspec.convert(target.options, Options)
        if not 0 <= options.tls_days <= certificates.MAX_DAYS:
            raise invalid_field("tls_days", f"must be from 0 to {certificates.MAX_DAYS}")
        if options.server_name is not None:
            try:
                hosts.read(options.server_name)
            except ValueError as error:
                raise invalid_field("server_name", f"must be a name: {error}") from None
        return replace(target, options=msgspec.to_builtins(options))

    async def check(self, target: Target, context: CheckContext) -> Result:
        began = perf_counter()
        options, place = msgspec.convert(target.options, Options), read(target.url)
        name = hosts.read(options.server_name) if options.server_name else place.host
        name = name.removesuffix(".")  # neither SNI nor the name in a certificate has one (RFC 6066, 3)
        where = (context.dialer, place.host, place.port, name)
        evidence = self.evidence(target, context)
        try:
            tls = await shake_hands(*where, await context.dialer.authorities(), place.starttls)
        except NotTls as error:
            return Result("tls_error", str(error), evidence=evidence)
        except ConnectionAbortedError as error:
            return Result("tls_error", f"The connection was {error}: is TLS spoken there?", evidence=evidence)
        except ssl.SSLCertVerificationError as error:
            try:  # once more, only to see whom we do not trust
                chain = chain_of(await shake_hands(*where, no_authorities(), place.starttls))
            except (OSError, NotTls):
                chain = ()
            words = untrusted(error.verify_code, error.verify_message, chain, name, datetime.now(UTC))
            return Result("tls_error", words, evidence=Evidence(evidence.request, response=_served(chain)))
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            words = _ALERTS.get(reason) or reason.replace("_", " ").lower()
            return Result("tls_error", f"No TLS handshake: {words}", evidence=evidence)
        finding = certificates.judge(chain_of(tls), datetime.now(UTC), options.tls_days)
        return Result(response_ms=(perf_counter() - began) * 1000, findings=(finding,) if finding else ())

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        return Evidence(request=f"TLS {target.url}")


def untrusted(code: int, words: str, chain: Sequence[bytes], name: str, now: datetime) -> str:
    """Why a chain is not trusted, and what can be done. `code` and `words` are OpenSSL's."""
    read_ = [found for each in chain[: certificates.MAX_CHAIN] if (found := certificates.certificate(each))]
    own = read_[0] if read_ else None
    if own is None:
        return f"The certificate cannot be trusted: {words.rstrip('.')}"
    if code == _EXPIRED and (ended := next((each for each in read_ if each.ends <= now), None)):
        return f"{_called(ended, own)} expired on {ended.ends:%Y-%m-%d at %H:%M} UTC: renew it"
    if code == _NOT_YET and (early := next((each for each in read_ if each.begins > now), None)):
        return f"{_called(early, own)} is valid only from {early.begins:%Y-%m-%d at %H:%M} UTC: are the clocks right?"
    if code == _SELF_SIGNED:
        return f"{_called(own, own)} is self-signed: no authority vouches for it"
    if code == _UNKNOWN_ROOT:
        return f"{_called(own, own)} comes from an authority that this system does not trust: {read_[-1].issuer}"
    if code in _NO_ISSUER:
        return (
            f"An intermediate certificate is missing: the server does not send that of {read_[-1].issuer}, which "
            f"issued {'its own' if len(read_) == 1 else f'that of {read_[-1].name}'}. It must send the whole chain "
            "(or that authority is not trusted here)"
        )
    if code in _OTHER_NAME:
        return f"The certificate is for another name: for {_all_names(chain[0])}, not for {name}"
    return f"{_called(own, own)} cannot be trusted: {words.rstrip('.')}"


def _called(which: Certificate, own: Certificate) -> str:
    return f"The certificate for {which.name}" if which is own else f"The authority's certificate {which.name}"


def _served(chain: Sequence[bytes]) -> str | None:
    read_ = [found for each in chain[: certificates.MAX_CHAIN] if (found := certificates.certificate(each))]
    return "; ".join(f"{each.name}, by {each.issuer}, ends {each.ends:%Y-%m-%d}" for each in read_) or None


def _all_names(der: bytes) -> str:
    try:
        extensions = x509.load_der_x509_certificate(der).extensions
        of = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return "no name"
    found = [str(each.value) for each in of if isinstance(each, x509.DNSName | x509.IPAddress)][:MAX_NAMES]
    shown = ["".join(each if each.isprintable() else "�" for each in name) for name in found]
    return names.cut(", ".join(shown), SHOWN) or "no name"
