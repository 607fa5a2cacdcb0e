"""`http`: a GET is answered with a good status and, where asked for, a keyword. Plain or over TLS.

Each check opens a connection of its own: one that is kept would not notice that new ones are refused. The client is as
small as a check needs, because checks are the largest part of what an engine does.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter

import httptools

from tocsin.checks.base import CheckType, Wires
from tocsin.domain import urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import (
    DEFAULT_EXPECTED,
    Expected,
    Problem,
    Result,
    Target,
    is_expected,
    parse_expected,
    worded,
)
from tocsin.transports.http import HEADERS_LIMIT
from tocsin.transports.place import Place, place

MOST_REDIRECTS = 5
REDIRECTS = frozenset((301, 302, 303, 307, 308))
BODY_LIMIT = 1 << 20
"""Bytes of the body in which the keyword is looked for."""
HEADERS = b"Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
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
        try:
            place(target.url, "GET")
        except ValueError as error:
            raise invalid_field("url", f"{shape}: {error}") from None
        if urls.read(target.url).has_login:
            raise invalid_field("url", "must not contain a user name or password: it is shown in every notification")
        return replace(target, expected_status=expected)

    async def check(self, target: Target, wires: Wires) -> Result:
        began = perf_counter()
        expected = DEFAULT_EXPECTED if target.expected_status is None else target.expected_status
        url, answer = await _follow(target.url, expected, target.keyword, wires)
        took = (perf_counter() - began) * 1000
        found = answer.problem or _problem(answer, expected, target.keyword)
        if found is None:
            return Result(response_ms=took, status_code=answer.status)
        problem, message = found
        evidence = Evidence(f"GET {url}", _headers_sent(wires), answer.status_line, answer.headers_kept)
        return Result(problem, message, took if answer.status else None, answer.status or None, evidence)

    def evidence(self, target: Target, wires: Wires) -> Evidence:
        return Evidence(f"GET {target.url}", _headers_sent(wires))


def _headers_sent(wires: Wires) -> dict[str, str]:
    return {"User-Agent": wires.user_agent, "Accept": "*/*"}


async def _follow(url: str, expected: Expected, keyword: str | None, wires: Wires) -> tuple[str, _Answer]:
    """What is answered at the end of the redirects, and where that was. A redirect that is expected is an end."""
    for redirects_left in range(MOST_REDIRECTS, -1, -1):
        answer = await _exchange(place(url, "GET"), keyword, wires)
        location = answer.location
        if location is None or answer.status not in REDIRECTS or is_expected(answer.status, expected):
            break
        if not redirects_left:
            answer.problem = "http_status", f"HTTP status {answer.status}, redirected more than {MOST_REDIRECTS} times"
            break
        try:
            following = urls.follow(url, location)
            place(following, "GET")
        except ValueError:
            answer.problem = "connection_error", f"Redirected to {_text(location)[:200]}, which cannot be followed"
            break
        url = following
    return url, answer


def _problem(answer: _Answer, expected: Expected, keyword: str | None) -> tuple[Problem, str] | None:
    """What is wrong with an answer that could be read."""
    if not is_expected(answer.status, expected):
        return "http_status", f"HTTP status {answer.status}, expected {worded(expected)}"
    if keyword is not None and not answer.has_keyword:
        return "keyword", f"Keyword {keyword!r} not found"
    return None


async def _exchange(there: Place, keyword: str | None, wires: Wires) -> _Answer:
    """Ask once. The answer is read no further than the check needs."""
    ended = asyncio.get_running_loop().create_future()
    head = b"%bUser-Agent: %b\r\n%b" % (there.start, wires.user_agent.encode("ascii"), HEADERS)
    transport, answer = await wires.dialer.connect(
        lambda: _Answer(head, keyword, ended), there.host, there.port, tls=there.tls
    )
    try:
        await ended
    finally:
        if there.tls:
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
    def location(self) -> bytes | None:
        return self._header(b"location")

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
