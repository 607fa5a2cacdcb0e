"""`http`: a GET is answered with an expected status, completely, and, if set, with a keyword. Plain or over TLS.

Each check opens a new connection: a keep-alive one would not notice that new ones are refused. The client is as
small as a check needs, because checks are the largest part of what an engine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import msgspec

from tocsin.checks.base import CheckContext, CheckType, after_redirects
from tocsin.domain import page_text, urls
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
from tocsin.transports.content_encoding import Undecodable, codings, decoded
from tocsin.transports.cookies import Cookies
from tocsin.transports.endpoint import Endpoint, endpoint
from tocsin.transports.response import Response, Unreadable

MAX_REDIRECTS = 5
REDIRECTS = frozenset((301, 302, 303, 307, 308))
BODY_LIMIT = 1 << 20
"""Bytes of the body that are read and searched for the keyword."""
QUICKLY_SEARCHED = 32 << 10
"""Bytes of a body that are searched on the event loop; a longer or compressed one is searched in a thread."""
STREAM_PATIENCE = 1.0
"""Seconds after which a body of undeclared length counts as a stream, which never ends and is fine."""
HEADERS = b"Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
MAX_URL_LENGTH, MAX_KEYWORD_LENGTH = 2_000, 500
KEPT_HEADERS, KEPT_VALUE = 50, 500


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a response must be like."""

    expected_status: Expected = DEFAULT_EXPECTED
    keyword: str | None = None


class Http(CheckType):
    check_type = "http"
    schemes = frozenset(("http", "https"))
    options = Options

    def validate(self, target: Target) -> Target:
        options = msgspec.convert(target.options, Options)
        expected = parse_expected(options.expected_status)
        if options.keyword is not None and not 1 <= len(options.keyword) <= MAX_KEYWORD_LENGTH:
            raise invalid_field("keyword", f"must have from 1 to {MAX_KEYWORD_LENGTH} characters, or be null")
        shape = "must be a full address such as https://example.com/health"
        if len(target.url) > MAX_URL_LENGTH:
            raise invalid_field("url", f"must have at most {MAX_URL_LENGTH} characters")
        try:
            endpoint(target.url, "GET")
        except ValueError as error:
            raise invalid_field("url", f"{shape}: {error}") from None
        if urls.read(target.url).has_login:
            raise invalid_field("url", "must not contain a user name or password: it is shown in every notification")
        return replace(target, options=msgspec.to_builtins(msgspec.structs.replace(options, expected_status=expected)))

    async def check(self, target: Target, context: CheckContext) -> Result:
        began = perf_counter()
        options = msgspec.convert(target.options, Options)
        expected, keyword = options.expected_status, options.keyword
        visit = await _follow(target.url, expected, keyword, context)
        took = ((visit.answered_at if keyword is None else 0.0) or perf_counter()) - began
        found = visit.problem or await _problem(visit, expected, keyword, context.redirects)
        status = visit.response.status
        if found is None:
            return Result(response_ms=took * 1000, status_code=status)
        problem, message = found
        url = context.redirects[-1] if context.redirects else target.url
        evidence = Evidence(f"GET {url}", _headers_sent(context), visit.status_line, visit.headers_kept)
        return Result(problem, message, took * 1000 if status else None, status or None, evidence)

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        return Evidence(f"GET {target.url}", _headers_sent(context))


def _headers_sent(context: CheckContext) -> dict[str, str]:
    return {"User-Agent": context.user_agent, "Accept": "*/*"}


async def _follow(url: str, expected: Expected, keyword: str | None, context: CheckContext) -> _Visit:
    """Follow redirects (`context.redirects`) to the final response. An expected redirect is final.

    Cookies that are set on the way are sent on the way, and dropped afterwards.
    """
    cookies: Cookies | None = None
    for redirects_left in range(MAX_REDIRECTS, -1, -1):
        there = endpoint(url, "GET")
        sent = b"" if cookies is None else cookies.header(there.host, _path(there), tls=there.tls)
        visit = await _exchange(there, sent, expected, keyword, context)
        if visit.problem:
            visit.problem = visit.problem[0], after_redirects(context.redirects, visit.problem[1])
        response = visit.response
        location = response.header(b"location") if response.status in REDIRECTS else None
        if visit.problem or location is None or is_expected(response.status, expected):
            break
        if not redirects_left:
            visit.problem = (
                "http_status", f"HTTP status {response.status}, redirected more than {MAX_REDIRECTS} times",
            )  # fmt: skip
            break
        try:
            following = urls.follow(url, location)
            endpoint(following, "GET")
        except ValueError:
            shown = location.decode("utf-8", "replace")[:200]
            visit.problem = "connection_error", f"Redirected to {shown}, which cannot be followed"
            break
        if set_now := list(response.all_of(b"set-cookie")):
            cookies = cookies or Cookies()
            cookies.take(set_now, there.host, _path(there))
        url = following
        context.redirects.append(url)
    return visit


def _path(there: Endpoint) -> str:
    """The path as it is requested."""
    return there.start.split(b" ", 2)[1].partition(b"?")[0].decode("ascii")


async def _problem(
    visit: _Visit, expected: Expected, keyword: str | None, redirects: Sequence[str]
) -> tuple[Problem, str] | None:
    """What is wrong with a response that could be read."""
    response = visit.response
    if not is_expected(response.status, expected):
        return "http_status", after_redirects(redirects, f"HTTP status {response.status}, expected {worded(expected)}")
    packed = response.codings
    if keyword is not None:
        packed += codings(*response.all_of(b"content-encoding"))
    if keyword is None and not packed:
        return None
    if packed or len(response.body) > QUICKLY_SEARCHED:
        found = await asyncio.to_thread(_missing, response, packed, keyword)
    else:
        found = _missing(response, packed, keyword)
    return found and (found[0], after_redirects(redirects, found[1]))


def _missing(response: Response, packed: tuple[bytes, ...], keyword: str | None) -> tuple[Problem, str] | None:
    """What is wrong with a page's keyword."""
    try:
        page, whole = decoded(bytes(response.body), packed, BODY_LIMIT)
    except Undecodable as error:
        if keyword is None:
            return "connection_error", f"The answer cannot be read: {error}"
        return "keyword", f"Keyword {keyword!r} not found: {error}"
    if keyword is None or page_text.contains(page, response.header(b"content-type") or b"", keyword):
        return None
    where = ""
    if response.full or len(page) >= BODY_LIMIT:
        where = f" in the first {BODY_LIMIT >> 20} MiB"
    elif not whole:
        where = " in what could be unpacked: the body breaks off"
    return "keyword", f"Keyword {keyword!r} not found{where}"


async def _exchange(
    there: Endpoint, cookies: bytes, expected: Expected, keyword: str | None, context: CheckContext
) -> _Visit:
    """Make one request. The response is read no further than the check needs."""
    head = b"%b%bUser-Agent: %b\r\n%b" % (there.start, cookies, context.user_agent.encode("ascii"), HEADERS)
    visit = _Visit(head, expected, keyword, asyncio.get_running_loop())
    transport, _ = await context.dialer.connect(lambda: visit, there.host, there.port, tls=there.tls)
    try:
        await visit.ended
    finally:
        visit.stop()
        if there.tls:
            transport.abort()
        else:
            transport.close()
    return visit


class _Visit(asyncio.Protocol):
    """One request and its response. `ended` is done when enough of it has arrived, or no more will.

    `problem` is why it could not be read; `answered_at` is when its status was known, by `perf_counter`.
    """

    def __init__(
        self, head: bytes, expected: Expected, keyword: str | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.problem: tuple[Problem, str] | None = None
        self.response = Response(BODY_LIMIT)
        self.answered_at = 0.0
        self.ended: asyncio.Future[None] = loop.create_future()
        self._head = head
        self._expected = expected
        self._keyword = keyword
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    @property
    def status_line(self) -> str | None:
        response = self.response
        return f"{response.status} {_text(response.reason)}".rstrip() if response.status else None

    @property
    def headers_kept(self) -> dict[str, str] | None:
        if not self.response.status:
            return None
        return {_text(name): _text(value)[:KEPT_VALUE] for name, value in self.response.headers[:KEPT_HEADERS]}

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._head)  # type: ignore[attr-defined]  # uvloop's is no asyncio.WriteTransport

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        response = self.response
        unreadable = None
        try:
            response.feed(data)
        except Unreadable as error:
            unreadable = str(error)
        if response.status and not self.answered_at:
            self.answered_at = perf_counter()
            if not is_expected(response.status, self._expected):  # the rest cannot improve it
                self._end()
                return
        if unreadable is not None:
            self._end("connection_error", unreadable)
        elif response.complete or response.full:
            self._end()
        elif response.status and not response.measured and self._timer is None:
            self._timer = self._loop.call_later(STREAM_PATIENCE, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is not None:
            self.ended.set_exception(error)
        elif self.response.end():
            self._end()
        else:
            self._end("connection_error", "Connection closed before the answer was complete")

    def _look(self) -> None:
        """A stream is fine as it is, or as soon as it has sent the keyword."""
        response = self.response
        content_type = response.header(b"content-type") or b""
        body = bytes(response.body)
        if self._keyword is None or page_text.spelled(self._keyword, body, content_type) in body:
            self._end()
        else:
            self._timer = self._loop.call_later(STREAM_PATIENCE, self._look)

    def _end(self, problem: Problem | None = None, message: str = "") -> None:
        if not self.ended.done():
            if problem is not None:
                self.problem = problem, message
            self.ended.set_result(None)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("\x00", "�")
