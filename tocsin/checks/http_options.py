"""What a monitor of type `http` may say about its request and about the answer that it wants."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tocsin.checks.common_options import DomainDays, IpVersion, MaxResponseMs, TlsDays
from tocsin.domain import certificates, json_paths
from tocsin.domain.errors import invalid_field
from tocsin.domain.monitors import DEFAULT_EXPECTED, Expected, parse_expected

MAX_KEYWORD_LENGTH = 500
MAX_HEADERS, MAX_NAME_LENGTH, MAX_VALUE_LENGTH, MAX_HEADERS_LENGTH = 20, 100, 2_000, 8_000
MAX_BODY_LENGTH = 20_000
MAX_CREDENTIAL_LENGTH = 2_000
MAX_RESPONSE_MS = 120_000
SAFE = frozenset(("GET", "HEAD"))

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_FRAMING = frozenset((
    "connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
))  # fmt: skip
"""Headers that say how the message itself is sent."""

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request, and what its response must be like."""

    expected_status: Annotated[
        Expected, Meta(description="A status, a class such as `2xx` (the default), or a list of these.")
    ] = DEFAULT_EXPECTED
    keyword: Annotated[
        str | None,
        Meta(description="Text that the first MiB of the page must contain, as it is or as it looks to people. "
             "It is no pattern."),
    ] = None  # fmt: skip
    method: Annotated[Method, Meta(description="Default: GET.")] = "GET"
    headers: Annotated[
        dict[str, str] | None,
        Meta(description="Headers of the request, up to 20. Their values are secret: encrypted, masked as `********` "
             "in responses, and not sent to another host after a redirect."),
    ] = None  # fmt: skip
    body: Annotated[
        str | None,
        Meta(description="What is sent, as `application/json` if it is JSON, else as a form, unless `headers` say so."),
    ] = None  # fmt: skip
    username: Annotated[str | None, Meta(description="With `password`: HTTP Basic authentication.")] = None
    password: Annotated[str | None, Meta(description="Secret: masked, and sent to the monitored host only.")] = None
    token: Annotated[
        str | None, Meta(description="Bearer token. Secret: masked, and sent to the monitored host only.")
    ] = None
    keyword_absent: Annotated[
        str | None, Meta(description="Text that the page must not contain (incident type `content`).")
    ] = None
    json_path: Annotated[
        str | None,
        Meta(description="A JSON path (RFC 9535, without `match` and `search`) that must select something in the "
             "answer: JSON of up to 128 KiB, nested up to 64 deep (incident type `content`)."),
    ] = None  # fmt: skip
    json_value: Annotated[
        str | int | float | bool | None,
        Meta(description="What every value that `json_path` selects must be. A text also means the number, `true`, "
             "`false` or `null` that it spells."),
    ] = None  # fmt: skip
    max_response_ms: MaxResponseMs = None
    follow_redirects: Annotated[
        bool, Meta(description="Whether up to 5 redirects are followed that `expected_status` does not name.")
    ] = True
    verify_tls: Annotated[bool, Meta(description="false: any certificate is accepted, as curl --insecure does.")] = True
    ip_version: IpVersion = None
    tls_days: TlsDays = certificates.DEFAULT_DAYS
    domain_days: DomainDays = None

    @property
    def reads_body(self) -> bool:
        return not (self.keyword is None and self.keyword_absent is None and self.json_path is None)


SECRET = frozenset(("headers", "password", "token"))


def checked(options: Options) -> Options:
    """As they are stored. Raises `Refused` (422), naming the field."""
    expected = parse_expected(options.expected_status)
    for name, text in (("keyword", options.keyword), ("keyword_absent", options.keyword_absent)):
        if text is not None and not 1 <= len(text) <= MAX_KEYWORD_LENGTH:
            raise invalid_field(name, f"must have from 1 to {MAX_KEYWORD_LENGTH} characters, or be null")
    if options.keyword is not None and options.keyword == options.keyword_absent:
        raise invalid_field("keyword_absent", "must not be the same as keyword")
    _check_request(options)
    _check_login(options)
    if options.json_path is not None:
        try:
            json_paths.check(options.json_path)
        except json_paths.Faulty as error:
            raise invalid_field("json_path", str(error)) from None
    elif options.json_value is not None:
        raise invalid_field("json_value", "needs json_path, which says where it is looked for")
    if isinstance(options.json_value, str) and len(options.json_value) > MAX_KEYWORD_LENGTH:
        raise invalid_field("json_value", f"must have at most {MAX_KEYWORD_LENGTH} characters")
    if options.max_response_ms is not None and not 1 <= options.max_response_ms <= MAX_RESPONSE_MS:
        raise invalid_field("max_response_ms", f"must be from 1 to {MAX_RESPONSE_MS} milliseconds, or be null")
    if not 0 <= options.tls_days <= certificates.MAX_DAYS:
        raise invalid_field("tls_days", f"must be from 0 to {certificates.MAX_DAYS} days; 0 for no warning")
    return msgspec.structs.replace(options, expected_status=expected, headers=options.headers or None)


def own_headers(options: Options) -> Mapping[str, str]:
    """What the owner said is sent to the monitored host, and to no other: headers and credentials."""
    return _own_headers(
        tuple((options.headers or {}).items()), options.username, options.password or "", options.token
    )


@lru_cache(maxsize=1024)
def _own_headers(
    given: tuple[tuple[str, str], ...], username: str | None, password: str, token: str | None
) -> Mapping[str, str]:
    found = dict(given)
    if username is not None:
        found["Authorization"] = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    elif token is not None:
        found["Authorization"] = f"Bearer {token}"
    return found


@lru_cache(maxsize=1024)
def media_type(body: str) -> str:
    """What a body is sent as."""
    try:
        if body.lstrip()[:1] in ("{", "["):
            msgspec.json.decode(body)
            return "application/json"
    except (msgspec.DecodeError, RecursionError):
        pass
    return "application/x-www-form-urlencoded"


def _check_request(options: Options) -> None:
    if options.body is not None:
        if len(options.body) > MAX_BODY_LENGTH or _CONTROL.search(options.body.replace("\r", "").replace("\n", "")):
            raise invalid_field("body", f"must be text of at most {MAX_BODY_LENGTH} characters")
        if options.method == "HEAD":
            raise invalid_field("body", "cannot be sent with the method HEAD")
    if options.method == "HEAD" and options.reads_body:
        name = next(n for n in ("keyword", "keyword_absent", "json_path") if getattr(options, n) is not None)
        raise invalid_field(name, "cannot be found in the answer to a HEAD, which has no body; use the method GET")
    headers = options.headers or {}
    if len(headers) > MAX_HEADERS or sum(map(len, (*headers, *headers.values()))) > MAX_HEADERS_LENGTH:
        most = f"{MAX_HEADERS} headers of {MAX_HEADERS_LENGTH} characters in all"
        raise invalid_field("headers", f"may have at most {most}")
    seen: set[str] = set()
    for name, value in headers.items():
        if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
            raise invalid_field("headers", "have names of letters, digits and hyphens, such as X-Api-Key")
        if name.lower() in _FRAMING:
            raise invalid_field("headers", f"must not have {name}, which says how the request itself is sent")
        if name.lower() in seen:
            raise invalid_field("headers", f"have {name} twice")
        seen.add(name.lower())
        if len(value) > MAX_VALUE_LENGTH or _CONTROL.search(value) or value != value.strip():
            raise invalid_field(
                "headers", f"have values of at most {MAX_VALUE_LENGTH} characters, without line breaks ({name})"
            )
    if "authorization" in seen and (options.username is not None or options.token is not None):
        raise invalid_field("headers", "must not have Authorization beside a username or a token")


def _check_login(options: Options) -> None:
    if options.token is not None and options.username is not None:
        raise invalid_field("token", "must not be given beside a username: a request has one Authorization")
    if options.password is not None and options.username is None:
        raise invalid_field("password", "needs a username")
    for name in ("username", "password", "token"):
        value = getattr(options, name)
        if value is not None and (len(value) > MAX_CREDENTIAL_LENGTH or _CONTROL.search(value) or "\t" in value):
            raise invalid_field(name, f"must have at most {MAX_CREDENTIAL_LENGTH} characters, without line breaks")
    if options.username is not None and ":" in options.username:
        raise invalid_field("username", "must not contain a colon (RFC 7617)")
    if options.token is not None and not re.fullmatch(r"[!-~]+", options.token):
        raise invalid_field("token", "must be letters, digits and punctuation, without spaces")
