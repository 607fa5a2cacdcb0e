"""`http`: a GET is answered with a good status and, where asked for, a keyword. Plain or over TLS.

Each check opens a connection of its own: one that is kept would not notice that new ones are refused. The client is as
small as a check needs, because checks are the largest part of what an engine does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter

import httptools
from yarl import URL

from tocsin.checks.base import CheckType, Wires
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import (
    DEFAULT_EXPECTED,
    Problem,
    Result,
    Target,
    is_expected,
    parse_expected,
    worded,
)

MOST_REDIRECTS = 5
REDIRECTS = frozenset((301, 302, 303, 307, 308))
BODY_LIMIT = 1 << 20
"""Bytes of the body in which the keyword is looked for."""
HEADERS_LIMIT = 64 << 10
LONGEST_URL, LONGEST_KEYWORD = 2_000, 500
KEPT_HEADERS, KEPT_VALUE = 50, 500


class Http(CheckType):
    check_type = "http"
    schemes = frozenset(("http", "https"))

    def validate(self, target: Target) -> Target:
        expected = DEFAULT_EXPECTED if target.expected_status is None else parse_expected(target.expected_status)
        if target.keyword is not None and not 1 <= len(target.keyword) <= LONGEST_KEYWORD:
            raise invalid_field("keyword", f"must have from 1 to {LONGEST_KEYWORD} characters, or be null")
        shape = "must be a full address such as https://example.com/health"
        if len(target.url) > LONGEST_URL:
            raise invalid_field("url", f"must have at most {LONGEST_URL} characters")
        if any(c.isspace() or not c.isprintable() for c in target.url):
            raise invalid_field("url", f"{shape}, without spaces or control characters")
        try:
            url = URL(target.url)
            good = url.scheme in self.schemes and url.raw_host and (url.port or 0) > 0
        except ValueError:
            good = False
        if not good:
            raise invalid_field("url", shape)
        if url.raw_user is not None or url.raw_password is not None:
            raise invalid_field("url", "must not contain a user name or password: it is shown in every notification")
        return replace(target, expected_status=expected)

    async def check(self, target: Target, wires: Wires) -> Result:
        began = perf_counter()
        expected = DEFAULT_EXPECTED if target.expected_status is None else target.expected_status
        ask = _ask(target.url, wires.user_agent)
        for redirects in range(MOST_REDIRECTS + 1):
            answer = await _exchange(ask, target.keyword, wires)
            location = answer.location
            if location is None or answer.status not in REDIRECTS or is_expected(answer.status, expected):
                break
            if redirects < MOST_REDIRECTS:
                try:
                    ask = _ask(str(URL(ask.url).join(URL(location))), wires.user_agent)
                except ValueError:
                    answer.problem = "connection_error", f"Redirected to {location[:200]}, which cannot be followed"
                    break
        else:
            answer.problem = "http_status", f"HTTP status {answer.status}, redirected more than {MOST_REDIRECTS} times"
        if answer.problem is None and not is_expected(answer.status, expected):
            answer.problem = "http_status", f"HTTP status {answer.status}, expected {worded(expected)}"
        if answer.problem is None and target.keyword is not None and not answer.has_keyword:
            answer.problem = "keyword", f"Keyword {target.keyword!r} not found"
        took = (perf_counter() - began) * 1000
        if answer.problem is None:
            return Result(response_ms=took, status_code=answer.status)
        problem, message = answer.problem
        evidence = Evidence(f"GET {ask.url}", _headers_sent(wires), answer.status_line, answer.headers_kept)
        return Result(problem, message, took if answer.status else None, answer.status or None, evidence)

    def evidence(self, target: Target, wires: Wires) -> Evidence:
        return Evidence(f"GET {target.url}", _headers_sent(wires))


@dataclass(frozen=True, slots=True)
class _Ask:
    """A GET, ready to be sent. `url` is as its owner wrote it."""

    url: str
    host: str
    port: int
    tls: bool
    head: bytes


@lru_cache(maxsize=4096)
def _ask(address: str, user_agent: str) -> _Ask:
    """Raises `ValueError` for what is no http or https address."""
    url = URL(address)
    if url.scheme not in Http.schemes or not url.raw_host or not url.port:
        raise ValueError(address)
    host = f"[{url.raw_host}]" if ":" in url.raw_host else url.raw_host
    name = host if url.is_default_port() else f"{host}:{url.port}"
    head = (
        f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: {user_agent}\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    return _Ask(address, url.raw_host, url.port, url.scheme == "https", head.encode("ascii"))


def _headers_sent(wires: Wires) -> dict[str, str]:
    return {"User-Agent": wires.user_agent, "Accept": "*/*"}


async def _exchange(ask: _Ask, keyword: str | None, wires: Wires) -> _Answer:
    """Ask once. The answer is read no further than the check needs."""
    ended = asyncio.get_running_loop().create_future()
    transport, answer = await wires.dialer.connect(
        lambda: _Answer(ask.head, keyword, ended), ask.host, ask.port, tls=ask.tls
    )
    try:
        await ended
    finally:
        if ask.tls:
            transport.abort()
        else:
            transport.close()
    return answer


class _Answer(asyncio.Protocol):
    """What came back. `ended` is done when enough of it has come, or no more will.

    `problem` is what kept it from being read; status and headers are what came before that.
    """

    def __init__(self, head: bytes, keyword: str | None, ended: asyncio.Future[None]) -> None:
        self.problem: tuple[Problem, str] | None = None
        self.status = 0
        self.has_keyword = False
        self._head = head
        self._keyword = keyword
        self._wanted = b""
        self._body = bytearray()
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._bounded = False
        self._received = 0
        self._ended = ended
        self._parser = httptools.HttpResponseParser(self)

    @property
    def location(self) -> str | None:
        found = self._header(b"location")
        return None if found is None else found.decode("utf-8", "replace")

    @property
    def status_line(self) -> str | None:
        return f"{self.status} {_text(self._reason)}".rstrip() if self.status else None

    @property
    def headers_kept(self) -> dict[str, str] | None:
        if not self.status:
            return None
        return {_text(name): _text(value)[:KEPT_VALUE] for name, value in self._headers[:KEPT_HEADERS]}

    # What the connection says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._head)  # type: ignore[attr-defined]  # uvloop's is no asyncio.WriteTransport

    def data_received(self, data: bytes) -> None:
        if self._ended.done():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end()
        except httptools.HttpParserError:
            self._end("connection_error", "The answer is not HTTP")
        self._received += len(data)
        if not self.status and self._received > HEADERS_LIMIT:
            self._end("connection_error", f"The headers are longer than {HEADERS_LIMIT >> 10} KiB")

    def connection_lost(self, error: Exception | None) -> None:
        if self.status and not self._bounded and error is None:
            self._end()
        elif error is not None and not self._ended.done():
            self._ended.set_exception(error)
        else:
            self._end("connection_error", "Connection closed before the answer was complete")

    # What the parser says.

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:  # only a foreword; the answer comes after it
            self._headers.clear()
            self._reason = b""
            return
        self.status = status
        if self._keyword is None or status in REDIRECTS:
            self._end()
            return
        self._wanted = self._encoded(self._keyword)
        self._bounded = self._header(b"content-length") is not None or self._header(b"transfer-encoding") is not None

    def on_body(self, part: bytes) -> None:
        if self._ended.done():
            return
        seen = max(0, len(self._body) - len(self._wanted) + 1)
        self._body += part[: BODY_LIMIT - len(self._body)]
        self.has_keyword = self._body.find(self._wanted, seen) >= 0
        if self.has_keyword or len(self._body) >= BODY_LIMIT:
            self._end()

    def on_message_complete(self) -> None:
        if self.status:
            self._end()

    def _end(self, problem: Problem | None = None, message: str = "") -> None:
        if not self._ended.done():
            if problem is not None:
                self.problem = problem, message
            self._ended.set_result(None)

    def _header(self, wanted: bytes) -> bytes | None:
        return next((value for name, value in self._headers if name.lower() == wanted), None)

    def _encoded(self, keyword: str) -> bytes:
        """The keyword as the body's charset writes it."""
        _, named, rest = (self._header(b"content-type") or b"").lower().partition(b"charset=")
        try:
            return keyword.encode(_text(rest.split(b";")[0]).strip(" \"'") if named else "utf-8")
        except (LookupError, UnicodeError):
            return keyword.encode()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("\x00", "�")
