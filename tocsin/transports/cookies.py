"""Cookies for the duration of one check (RFC 6265): what a redirect sets is sent with the next request."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

MAX_COOKIES = 50
MAX_COOKIE_LENGTH = 4096
"""Characters of name and value (RFC 6265, 6.1)."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Cookie:
    """`domain` is only the host if `exact`, else also its subdomains."""

    name: bytes
    value: bytes
    domain: str
    exact: bool
    path: str
    secure: bool

    @property
    def key(self) -> tuple[bytes, str, str]:
        return self.name, self.domain, self.path

    def fits(self, host: str, path: str, tls: bool) -> bool:
        """Whether it is sent with a request (RFC 6265, 5.4)."""
        here = host == self.domain or (not self.exact and _is_below(host, self.domain))
        return here and (tls or not self.secure) and _is_within(path, self.path)


class Cookies:
    """The cookies of one check."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, str, str], Cookie] = {}

    def take(self, values: Iterable[bytes], host: str, path: str) -> None:
        """Store the `Set-Cookie` headers of a response to a request for `path` at `host`."""
        now = time.time()
        for each in values:
            found = _parsed(each, host.lower(), path, now)
            if found is None:
                continue
            cookie, lives = found
            self._kept.pop(cookie.key, None)
            if lives and len(self._kept) < MAX_COOKIES:
                self._kept[cookie.key] = cookie

    def header(self, host: str, path: str, *, tls: bool) -> bytes:
        """The `Cookie` header of a request, with its line's end; empty if there is none."""
        fitting = [cookie for cookie in self._kept.values() if cookie.fits(host.lower(), path, tls)]
        if not fitting:
            return b""
        fitting.sort(key=lambda cookie: -len(cookie.path))
        pairs = [cookie.name + b"=" + cookie.value if cookie.name else cookie.value for cookie in fitting]
        return b"Cookie: " + b"; ".join(pairs) + b"\r\n"


def _parsed(value: bytes, host: str, path: str, now: float) -> tuple[Cookie, bool] | None:
    """The cookie, and whether to keep it rather than delete it (RFC 6265, 5.2 and 5.3). None: invalid."""
    pair, *rest = value.split(b";")
    if len(pair) > MAX_COOKIE_LENGTH or _CONTROL.search(pair):
        return None
    name, equals, value = pair.partition(b"=")
    if not equals:
        name, value = b"", pair
    name, value = name.strip(), value.strip()
    if not name and not value:
        return None
    attributes: dict[str, str] = {}
    for part in rest:
        attribute, _, given = part.decode("latin-1").partition("=")
        attributes[attribute.strip().lower()] = given.strip()
    domain = attributes.get("domain", "").lower().removeprefix(".")
    exact = not domain
    if domain and domain != host and ("." not in domain or not _is_below(host, domain)):
        return None
    where = attributes.get("path", "")
    if not where.startswith("/"):
        where = path[: path.rfind("/")] or "/"
    cookie = Cookie(name, value, domain or host, exact, where, "secure" in attributes)
    return cookie, not _is_over(attributes, now)


def _is_over(attributes: dict[str, str], now: float) -> bool:
    age = attributes.get("max-age", "")
    if age.removeprefix("-").isdecimal():
        return age.startswith("-") or not age.strip("0")
    try:
        return parsedate_to_datetime(attributes["expires"]).timestamp() <= now
    except (KeyError, ValueError, OverflowError):
        return False


def _is_below(host: str, domain: str) -> bool:
    """RFC 6265, 5.1.3: addresses have nothing below them."""
    return host.endswith("." + domain) and not host[-1:].isdecimal() and ":" not in host


def _is_within(path: str, folder: str) -> bool:
    """RFC 6265, 5.1.4."""
    return path.startswith(folder) and (folder.endswith("/") or path[len(folder) : len(folder) + 1] in ("", "/"))
