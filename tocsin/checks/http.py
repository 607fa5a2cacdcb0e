"""`http`: a request is answered with an expected status, completely, in time, and with the content that is wanted.

Each check opens a new connection: a keep-alive one would not notice that new ones are refused. The client is as
small as a check needs, because checks are the largest part of what an engine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from time import perf_counter

import msgspec

from tocsin.checks import http_answers, http_options
from tocsin.checks.base import MASK, CheckContext, CheckType, after_redirects
from tocsin.checks.http_options import SAFE, Options
from tocsin.domain import certificates, urls
from tocsin.domain.errors import invalid_field
from tocsin.domain.incidents import Evidence
from tocsin.domain.monitors import Finding, Result, Target, is_expected
from tocsin.transports.cookies import Cookies
from tocsin.transports.endpoint import Endpoint, endpoint
from tocsin.transports.http import REDIRECTS
from tocsin.transports.served_chain import served_chain
from tocsin.transports.visit import Reading, Visit

MAX_REDIRECTS = 5
HEADERS = b"Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
MAX_URL_LENGTH = 2_000
DEFAULTS = Options()


@dataclass(slots=True)
class Course:
    """One check under way: the request as redirects change it, and what was found so far.

    `home` is where the first request went: nobody else is sent what its owner said is secret. `withheld` says that
    somebody was not.
    """

    options: Options
    context: CheckContext
    reading: Reading
    method: str
    body: str | None
    home: tuple[bool, str, int] | None = None
    withheld: bool = False
    findings: list[Finding] = field(default_factory=list)


class Http(CheckType):
    check_type = "http"
    schemes = frozenset(("http", "https"))
    options = Options
    secret_options = http_options.SECRET

    def validate(self, target: Target) -> Target:
        options = http_options.checked(msgspec.convert(target.options, Options))
        shape = "must be a full address such as https://example.com/health"
        if len(target.url) > MAX_URL_LENGTH:
            raise invalid_field("url", f"must have at most {MAX_URL_LENGTH} characters")
        try:
            there = endpoint(target.url, "GET")
        except ValueError as error:
            raise invalid_field("url", f"{shape}: {error}") from None
        if urls.read(target.url).has_login:
            raise invalid_field(
                "url", "must not contain a user name or password: it is shown in every notification. "
                "Give them as username and password"
            )  # fmt: skip
        check_ip_version(there.host, options.ip_version)
        return replace(target, options=msgspec.to_builtins(options))

    def secrets(self, target: Target) -> Sequence[str]:
        own = http_options.own_headers(msgspec.convert(target.options, Options))
        login = own.get("Authorization", "").partition(" ")[2]
        return [*super().secrets(target), *([login] if login else [])]

    async def check(self, target: Target, context: CheckContext) -> Result:
        began = perf_counter()
        options = msgspec.convert(target.options, Options)
        course = _course(options, context)
        visit = await _follow(target.url, course)
        took = ((visit.answered_at if not options.reads_body else 0.0) or perf_counter()) - began
        response = visit.response
        found = visit.problem
        if found is None:
            found = await http_answers.problem(response, options) or http_answers.slow(took, options)
            if found is not None:
                found = found[0], after_redirects(context.redirects, found[1] + _hint(course, response.status))
        status = response.status
        if found is None and not context.thorough:
            return Result(response_ms=took * 1000, status_code=status, findings=course.findings)
        url = context.redirects[-1] if context.redirects else target.url
        evidence = Evidence(
            f"{course.method} {url}", _headers_sent(context, Options() if course.withheld else options),
            visit.status_line, visit.headers_kept,
        )
        problem, message = found or (None, None)
        return Result(
            problem, message, took * 1000 if status else None, status or None, evidence, course.findings,
            await http_answers.excerpt(response) if context.thorough and status else None,
        )  # fmt: skip

    def evidence(self, target: Target, context: CheckContext) -> Evidence:
        options = msgspec.convert(target.options, Options)
        return Evidence(f"{options.method} {target.url}", _headers_sent(context, options))


def check_ip_version(host: str, version: int | None) -> None:
    """Refuse an address of the other kind."""
    try:
        given = ip_address(host).version
    except ValueError:
        return
    if version is not None and given != version:
        raise invalid_field("ip_version", f"must be {given} or null: the address is of IPv{given}")


def _course(options: Options, context: CheckContext) -> Course:
    thorough = context.thorough
    reading = Reading(
        lambda status: thorough or is_expected(status, options.expected_status),
        lambda response: http_answers.is_enough(response, options),
        bodiless=options.method == "HEAD",
    )
    return Course(options, context, reading, options.method, options.body)


def _headers_sent(context: CheckContext, options: Options) -> dict[str, str]:
    """Without the values that are secret."""
    return {"User-Agent": context.user_agent, "Accept": "*/*"} | dict.fromkeys(http_options.own_headers(options), MASK)


def _hint(course: Course, status: int) -> str:
    if course.withheld and status in (401, 403):
        return " (headers and credentials are sent to the monitored host only: give the address that it redirects to)"
    return ""


async def _follow(url: str, course: Course) -> Visit:
    """Follow redirects (`context.redirects`) to the final response. An expected redirect is final.

    Cookies that are set on the way are sent on the way, and dropped afterwards.
    """
    options, context = course.options, course.context
    cookies: Cookies | None = None
    for redirects_left in range(MAX_REDIRECTS, -1, -1):
        there = endpoint(url, course.method)
        kept = b"" if cookies is None else cookies.header(there.host, _path(there), tls=there.tls)
        visit = await _exchange(there, kept, course)
        if visit.problem:
            visit.problem = visit.problem[0], after_redirects(context.redirects, visit.problem[1])
        response = visit.response
        location = response.header(b"location") if response.status in REDIRECTS else None
        if (
            visit.problem or location is None or not options.follow_redirects
            or is_expected(response.status, options.expected_status)
        ):  # fmt: skip
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
        _change_method(course, response.status)
        url = following
        context.redirects.append(url)
    return visit


def _change_method(course: Course, status: int) -> None:
    """What follows a redirect, as browsers and `curl --location --data` have it (RFC 9110, 15.4)."""
    if course.method not in SAFE and (status == 303 or (course.method == "POST" and status in (301, 302))):
        course.method, course.body = "GET", None


def _path(there: Endpoint) -> str:
    """The path as it is requested."""
    return there.start.split(b" ", 2)[1].partition(b"?")[0].decode("ascii")


async def _exchange(there: Endpoint, cookies: bytes, course: Course) -> Visit:
    """Make one request. The response is read no further than the check needs."""
    context, options = course.context, course.options
    if options is DEFAULTS or options == DEFAULTS:
        request = b"%b%bUser-Agent: %b\r\n%b" % (there.start, cookies, context.user_agent.encode("ascii"), HEADERS)
    else:
        request = _request(there, cookies, course)
    visit = Visit(request, course.reading, asyncio.get_running_loop())
    transport, _ = await context.dialer.connect(
        lambda: visit, there.host, there.port, tls=there.tls, verify=options.verify_tls, ip_version=options.ip_version
    )
    try:
        if there.tls and options.tls_days:
            finding = certificates.judge(served_chain(transport), datetime.now(UTC), options.tls_days)
            if finding is not None:
                course.findings.append(finding)
        await visit.ended
    finally:
        visit.stop()
        if there.tls:
            transport.abort()
        else:
            transport.close()
    return visit


def _request(there: Endpoint, cookies: bytes, course: Course) -> bytes:
    """Head and body. The owner's own headers go to the first host only, in place of ours."""
    own: Mapping[str, str] = http_options.own_headers(course.options)
    where = there.tls, there.host, there.port
    if course.home is None:
        course.home = where
    elif own and where != course.home:
        own, course.withheld = {}, True
    start = there.start
    lines = {
        "user-agent": b"User-Agent: %b\r\n" % course.context.user_agent.encode("ascii"),
        "accept": b"Accept: */*\r\n",
        "accept-encoding": b"Accept-Encoding: identity\r\n",
    }
    if course.body is not None:
        lines["content-type"] = b"Content-Type: %b\r\n" % http_options.media_type(course.body).encode("ascii")
    if cookies:
        lines["cookie"] = cookies
    for name, value in own.items():
        line = b"%b: %b\r\n" % (name.encode("ascii"), value.encode())
        match name.lower():
            case "host":
                start = start[: start.index(b"\r\n") + 2] + line
            case "cookie" if cookies:
                lines["cookie"] = b"%b; %b" % (line[:-2], cookies.removeprefix(b"Cookie: "))
            case "content-type" if course.body is None and course.options.body is not None:
                pass
            case lowered:
                lines[lowered] = line
    body = b"" if course.body is None else course.body.encode()
    if body or course.method in ("POST", "PUT", "PATCH"):
        lines["content-length"] = b"Content-Length: %d\r\n" % len(body)
    return b"%b%bConnection: close\r\n\r\n%b" % (start, b"".join(lines.values()), body)
