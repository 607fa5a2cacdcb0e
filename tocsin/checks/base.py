"""What a check type is: the smallest contract that the API and the engine need. Each file next to this one is one type.

A type never sees the database, and the engine never sees what it checks.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, get_type_hints
from urllib.parse import quote

import msgspec

from tocsin.domain import discovery, names, registrations, urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.hosts import Unreadable
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Problem, Result, Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Blocked
from tocsin.transports.resolver import Unresolved

OUR_OWN_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Errors of this machine, not of the site."""

MASK = "********"
"""What responses show of secret options, and callers may send back for "as it is"."""

MIN_SECRET_LENGTH = 4
"""Characters from which a secret is masked in what a site says: shorter ones are in everything."""
MAX_PLACE_LENGTH = 200
"""Characters of an address in a message."""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """How a check connects, and its user agent. `redirects` are the addresses that it was redirected to so far.

    `thorough`: somebody wants to see all of it, evidence and the start of the answer, even if it is good.
    """

    dialer: Dialer
    user_agent: str
    thorough: bool = False
    redirects: list[str] = field(default_factory=list)


class NoOptions(msgspec.Struct, frozen=True):
    """Of a type that has none."""


class CheckType(ABC):
    """One type of check."""

    check_type: ClassVar[str]
    """Its name in the API, such as `http`."""
    schemes: ClassVar[frozenset[str]]
    """The schemes of the addresses that it can check."""
    options: ClassVar[type[msgspec.Struct]] = NoOptions
    """Its options, with their defaults: fields of a monitor in the API that other types may not know."""
    secret_options: ClassVar[frozenset[str]] = frozenset()
    """Those that are encrypted at rest and masked in responses."""

    @property
    def option_names(self) -> tuple[str, ...]:
        return self.options.__struct_fields__

    @abstractmethod
    def validate(self, target: Target) -> Target:
        """The target as it is to be stored. Raises `Refused` (422), naming the field."""

    @abstractmethod
    async def check(self, target: Target, context: CheckContext) -> Result:
        """Check once. `OSError` and `Unresolved` may propagate: they mean the same for every type."""

    def host(self, target: Target) -> str | None:
        """The host that it connects to, as `hosts.read` writes it; None where the operator chose it."""
        return host_of(target.url)

    def named(self, target: Target) -> str:
        """The host that it is about."""
        return host_of(target.url)

    def secrets(self, target: Target) -> Sequence[str]:
        """What nobody may read of it, however a site repeats it."""
        given = [target.options.get(name) for name in self.secret_options]
        return [
            text for each in given for text in (each.values() if isinstance(each, Mapping) else (each,))
            if isinstance(text, str)
        ]  # fmt: skip

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        """The request, for when there was no response."""
        return Evidence(request=target.url)


async def run_check(target: Target, context: CheckContext) -> Result:
    """One check, whatever its type. Ends within the target's timeout.

    What is secret of the target is in nothing that it says, even if the site repeats it.
    Raises `OSError` if this machine lacks resources (open files, memory), and unexpected errors.
    """
    kind = types()[target.check_type]
    result = await _checked(kind, target, CheckContext(context.dialer, context.user_agent, context.thorough))
    if result.evidence is not None and not kind.secret_options.isdisjoint(target.options):
        return _without(kind.secrets(target), result)
    return result


async def _checked(kind: CheckType, target: Target, context: CheckContext) -> Result:
    if target.unreadable is not None:
        return Result("connection_error", target.unreadable, evidence=kind.evidence(target, context))
    limit = asyncio.timeout(target.timeout)
    try:
        async with limit:
            return await kind.check(target, context)
    except TimeoutError:
        problem_text = (
            f"Request timeout after {_seconds(target.timeout)}" if limit.expired() else "Connection timed out"
        )
        problem: Problem = "timeout"
    except Unresolved as error:
        problem, problem_text = "dns_error", str(error)
    except Unreadable as error:  # it was stored by an older version
        problem, problem_text = "connection_error", f"The address cannot be used: {error}"
    except Blocked as error:
        problem, problem_text = "connection_error", str(error)
    except ssl.SSLError as error:
        problem, problem_text = "tls_error", f"TLS error: {_tls_reason(error)}"
    except OSError as error:
        if error.errno in OUR_OWN_LIMITS:
            raise
        problem, problem_text = "connection_error", _reason(error)
    asked = replace(target, url=context.redirects[-1]) if context.redirects else target
    return Result(problem, after_redirects(context.redirects, problem_text), evidence=kind.evidence(asked, context))


def own_time(timeout: float) -> float:
    """Seconds of a check's timeout after which a type may say itself what did not come: the rest is for saying so."""
    return timeout - min(max(timeout / 20, 0.25), timeout / 2)


def after_redirects(redirects: Sequence[str], problem_text: str) -> str:
    """The problem, and after redirects where it occurred. Without the query, which may contain secrets."""
    if not redirects:
        return problem_text
    rest = problem_text if problem_text[:2].isupper() else problem_text[:1].lower() + problem_text[1:]
    return f"Redirected to {names.cut(redirects[-1].partition('?')[0], MAX_PLACE_LENGTH)}: {rest}"


def _without(secrets: Sequence[str], result: Result) -> Result:
    """The result with secrets masked, as they are and as addresses have them."""
    spellings = {form for each in secrets if len(each) >= MIN_SECRET_LENGTH for form in (each, quote(each, safe=""))}
    if not spellings:
        return result
    pattern = re.compile("|".join(re.escape(each) for each in sorted(spellings, key=len, reverse=True)))

    def masked(text: str | None) -> str | None:
        return None if text is None else pattern.sub(MASK, text)

    def masked_all(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        return headers and {name: pattern.sub(MASK, value) for name, value in headers.items()}

    seen = result.evidence or Evidence()
    return replace(
        result, message=masked(result.message), body=masked(result.body),
        evidence=Evidence(
            masked(seen.request), masked_all(seen.request_headers), masked(seen.response),
            masked_all(seen.response_headers),
        ),
    )  # fmt: skip


def _seconds(value: float) -> str:
    return f"{value:g} second{'' if value == 1 else 's'}"


def _reason(error: OSError) -> str:
    match error:
        case ConnectionRefusedError():
            return "Connection refused"
        case ConnectionResetError():
            return "Connection reset by the other side"
        case ConnectionAbortedError() | BrokenPipeError():
            return "Connection closed by the other side"
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return f"Connection failed: {error}"


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return (error.reason or str(error)).replace("_", " ").lower()


@cache
def types() -> Mapping[str, CheckType]:
    """Every type next to this file, by its name: a new file is a new type, nothing else to edit."""
    found = discovery.kinds(__name__.rpartition(".")[0], CheckType)  # type: ignore[type-abstract]
    return {each.check_type: each for each in sorted(found, key=lambda each: each.check_type)}


@cache
def options() -> Mapping[str, Any]:
    """The options of all types: by name, what its values may be. Types that share a name mean the same by it."""
    found: dict[str, Any] = {}
    for kind in types().values():
        for name, annotation in get_type_hints(kind.options, include_extras=True).items():
            assert found.setdefault(name, annotation) == annotation, f"{name} has two meanings"
    return found


def shown_options(target: Target) -> dict[str, Any]:
    """The options of a target as responses show them: all that its type knows, secret ones masked.

    `expected_status` and `keyword` are always there, null where the type does not know them.
    """
    kind = types()[target.check_type]
    known = msgspec.convert(target.options, kind.options)
    shown: dict[str, Any] = dict.fromkeys(("expected_status", "keyword"))
    shown |= {name: msgspec.to_builtins(getattr(known, name)) for name in kind.option_names}
    return shown | {name: _masked(shown[name]) for name in kind.secret_options if shown.get(name) is not None}


def _masked(secret: Any) -> Any:
    return dict.fromkeys(secret, MASK) if isinstance(secret, Mapping) else MASK


def of(check_type: str | None, url: str) -> CheckType:
    """The type of that name; if none is named, the one for the URL's scheme, else `http`. 422 for unknown names."""
    known = types()
    if check_type is None:
        scheme = url.partition(":")[0].lower()
        return next((each for each in known.values() if scheme in each.schemes), known["http"])
    if check_type not in known:
        raise invalid_field("check_type", f"{check_type!r} is not known; use one of: {', '.join(known)}")
    return known[check_type]


def domain_of(target: Target) -> str | None:
    """The domain whose registration its monitor watches; None if it does not. Raises `Refused` (422)."""
    return registrations.watched(types()[target.check_type].named(target), target.options.get(registrations.OPTION))


def authority_of(address: str, form: str, *, port: bool) -> str:
    """What follows the scheme in an address of this form, which has nothing else. Raises `Refused` (422)."""
    shape = f"must have the form {form}"
    try:
        url = urls.read(address)
    except ValueError as error:
        raise invalid_field("url", f"{shape}: {error}") from None
    authority = address.partition("://")[2].removesuffix("/")
    other = url.scheme != form.partition(":")[0] or bool(url.port) is not port or url.has_login
    if other or any(mark in authority for mark in "/?#"):
        raise invalid_field("url", shape)
    return authority


def host_of(url: str) -> str:
    """The host that a validated URL names, as `hosts.read` writes it."""
    return urls.read(url).host
