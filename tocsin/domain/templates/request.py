"""A request made of templates: its settings checked and compiled once, and rendered for each notification.

What is rendered is well-formed by construction, whatever is in a message: JSON is encoded after the strings in it were
rendered, values in a URL are percent-encoded, and values in a header are one line.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import isfinite
from typing import Any, Literal, get_args
from urllib.parse import quote, quote_plus

import msgspec

from tocsin.domain import names as text_names
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.templates import language
from tocsin.domain.templates.language import SECRETS
from tocsin.domain.templates.names import NAMES
from tocsin.domain.templates.parts import OMIT, Budget, Faulty, Run, Values, checked
from tocsin.domain.urls import MAX_LENGTH as MAX_URL_LENGTH

Method = Literal["POST", "PUT", "PATCH", "GET"]
METHODS: tuple[Method, ...] = get_args(Method)

SHAPING = ("method", "headers", "secrets", "body", "text", "content_type")
"""The settings that shape a request, besides its URL. Without any, and without a template in the URL, there is nothing
to compile.
"""
_SHAPING = frozenset(SHAPING)
JSON, PLAIN = "application/json", "text/plain; charset=utf-8"
FORM = "application/x-www-form-urlencoded"

MAX_HEADERS, MAX_HEADER_NAME_LENGTH, MAX_HEADER_LENGTH = 20, 100, 8_192
MAX_SECRETS, MAX_SECRET_LENGTH = 10, 500
MAX_VALUES, MAX_DEPTH, MAX_KEY_LENGTH = 1_000, 20, 200
MAX_CONTENT_TYPE_LENGTH = 100
REMEMBERED = 256
"""Compiled requests that are remembered."""
URL_GROWTH, MARKUP_GROWTH = 12, 6
"""Characters that one becomes at most: `%F0%9F%94%94`, `&quot;`."""

_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2  # noqa: S105
_HEADER_NAME = re.compile(_TOKEN)
_CONTENT_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*')
_SECRET_NAME = re.compile("[a-z][a-z0-9_]{0,39}")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_NOT_IN_A_URL = re.compile(r"[^!-~]+")

OURS = frozenset({
    "host", "content-length", "content-type", "content-encoding", "user-agent", "accept-encoding", "expect",
})  # fmt: skip
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
})  # fmt: skip
"""Headers of one connection (RFC 9110, 7.6.1; RFC 9113, 3.2.1), besides all that begin with `proxy-`."""
OUR_BEGINNINGS = ("webhook-", "tocsin-", "proxy-")


@dataclass(frozen=True, slots=True)
class Request:
    """A rendered request. `body` is None where the settings have none: then it is the type's own."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    content_type: str


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled request. `url`, the values of `headers` and `body` compute text, text and bytes."""

    method: str
    url: Run
    headers: tuple[tuple[str, Run], ...]
    body: Run | None
    content_type: str

    def render(self, values: Values) -> Request:
        """Never fails. A header whose value is empty is left out."""
        rendered = {name: run(values) for name, run in self.headers}
        return Request(
            self.method, self.url(values), {name: value for name, value in rendered.items() if value},
            self.body(values) if self.body is not None else None, self.content_type,
        )  # fmt: skip


def is_shaped(settings: Mapping[str, Any]) -> bool:
    """Whether settings have anything to compile."""
    return not _SHAPING.isdisjoint(settings) or has_templates(settings["webhook_url"])


def template(settings: Mapping[str, Any]) -> Template:
    """The request that settings describe. Raises `Refused` (422) naming the place, as `settings.body.text`."""
    given = {name: settings[name] for name in ("webhook_url", *SHAPING) if name in settings}
    given[SECRETS] = sorted(given.get(SECRETS, ()))
    return _compiled(msgspec.json.encode(given))


@lru_cache(REMEMBERED)
def _compiled(encoded: bytes) -> Template:
    given = msgspec.json.decode(encoded)
    secrets = {f"{SECRETS}.{name}": MAX_SECRET_LENGTH for name in given[SECRETS]}
    budget = Budget({**{name: each.longest for name, each in NAMES.items()}, **secrets})
    method = given.get("method", "POST")
    url = _url(given["webhook_url"], budget)
    headers = tuple(
        (name, _header(f"settings.headers.{name}", value, budget)) for name, value in given.get("headers", {}).items()
    )
    content_type = given.get("content_type")
    if "body" in given:
        return Template(method, url, headers, _body(given["body"], budget), content_type or JSON)
    if "text" in given:
        kind = content_type or PLAIN
        return Template(method, url, headers, _text(given["text"], kind, budget), kind)
    return Template(method, url, headers, None, content_type or JSON)


# ------------------------------------------------------------------------------------------------------------- checking


def checked_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `given` that shape a request, without what is null, each of its type. What is in their templates is seen
    by `template`. Raises `Refused`.
    """
    found = {name: given[name] for name in SHAPING if given.get(name) is not None}
    if "method" in found and found["method"] not in METHODS:
        raise invalid_field("settings.method", f"must be one of {', '.join(METHODS)}")
    for name in ("text", "content_type"):
        if name in found and not isinstance(found[name], str):
            raise invalid_field(f"settings.{name}", "must be a string")
    if "headers" in found:
        found["headers"] = _checked_headers(found["headers"])
    if SECRETS in found:
        found[SECRETS] = _checked_secrets(found[SECRETS])
    if "body" in found:
        _check_extent(found["body"])
    if "body" in found and "text" in found:
        raise invalid_field("settings.text", "cannot be sent beside a body: use one of the two")
    if found.get("method") == "GET":
        for name in ("body", "text", "content_type"):
            if name in found:
                raise invalid_field(f"settings.{name}", "cannot be sent with GET: put templates into the address")
    if "content_type" in found:
        _check_content_type(found["content_type"], is_text="text" in found)
    if found.get("method") == METHODS[0]:
        del found["method"]
    return {name: value for name, value in found.items() if value not in ({}, "") or name == "body"}


def _check_content_type(value: str, *, is_text: bool) -> None:
    field = "settings.content_type"
    if len(value) > MAX_CONTENT_TYPE_LENGTH or not _CONTENT_TYPE.fullmatch(value):
        raise invalid_field(field, "must be a media type such as text/plain; charset=utf-8")
    is_json = "json" in value.partition(";")[0].lower()
    if is_text and is_json:
        raise invalid_field(field, "is JSON: set a body instead of a text, so that no message can break it")
    if not is_text and not is_json:
        raise invalid_field(field, "is no JSON: set a text instead of a body")


def _checked_headers(given: object) -> dict[str, str]:
    field = "settings.headers"
    if not isinstance(given, dict) or len(given) > MAX_HEADERS:
        raise invalid_field(field, f"must be an object of up to {MAX_HEADERS} names and values")
    seen = set[str]()
    for name, value in given.items():
        lower = name.lower()
        if len(name) > MAX_HEADER_NAME_LENGTH or not _HEADER_NAME.fullmatch(name):
            raise invalid_field(field, f"has a name that no header can have: {_short(name)}")
        if lower in OURS | HOP_BY_HOP or lower.startswith(OUR_BEGINNINGS):
            hint = "; set content_type instead" if lower == "content-type" else ""
            raise invalid_field(f"{field}.{name}", f"is a header that Tocsin sets itself, or that is for one hop{hint}")
        if lower in seen:
            raise invalid_field(f"{field}.{name}", "is there twice")
        seen.add(lower)
        if not isinstance(value, str):
            raise invalid_field(f"{field}.{name}", "must be a string")
        if not value.isprintable():
            raise invalid_field(f"{field}.{name}", "must be one line, without control characters")
    return given


def _checked_secrets(given: object) -> dict[str, str]:
    field = f"settings.{SECRETS}"
    if not isinstance(given, dict) or len(given) > MAX_SECRETS:
        raise invalid_field(field, f"must be an object of up to {MAX_SECRETS} names and values")
    for name, value in given.items():
        if not _SECRET_NAME.fullmatch(name):
            raise invalid_field(field, "may have names of up to 40 small letters, digits and _, a letter first")
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_SECRET_LENGTH or not value.isprintable():
            raise invalid_field(f"{field}.{name}", f"must be one line of 1 to {MAX_SECRET_LENGTH:,} characters")
    return given


def _check_extent(body: object) -> None:
    """Refuse what is too deep, has too many values, or a number that JSON elsewhere could not hold."""
    field, level, count = "settings.body", [body], 0
    for _ in range(MAX_DEPTH):
        count += len(level)
        if count > MAX_VALUES:
            raise invalid_field(field, f"has more than {MAX_VALUES:,} values")
        for each in level:
            too_large = isinstance(each, int) and not -(2**63) <= each < 2**63
            if too_large or (isinstance(each, float) and not isfinite(each)):
                raise invalid_field(field, "has a number beyond 64 bits")
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [*chain.from_iterable(inner)]
        if not level:
            return
    raise invalid_field(field, f"is nested too deeply: at most {MAX_DEPTH} levels are allowed")


def _short(name: str) -> str:
    return text_names.cut(text_names.line(ascii(name)), 60)


# ------------------------------------------------------------------------------------------------------------ compiling


def _refused(place: str, faulty: Faulty) -> Refused:
    return invalid_field(place, str(faulty))


def origin(url: str) -> str:
    """The constant beginning of a URL with templates: scheme, host and port. Raises `Refused`."""
    found = _ORIGIN.match(url)
    if found is None or "{" in found[0]:
        raise invalid_field(
            "settings.webhook_url", "may have templates in its path and query, after a scheme, a host and a slash"
        )
    return found[0]


def has_templates(url: str) -> bool:
    """Whether a URL has templates in it; single braces are nothing but braces."""
    return "{{" in url or "{%" in url


def _url(url: str, budget: Budget) -> Run:
    if not has_templates(url):
        return lambda values: url
    beginning = origin(url)
    try:
        part = language.compiled(url[len(beginning) :], budget, escape=in_url, growth=URL_GROWTH)
    except Faulty as faulty:
        raise _refused("settings.webhook_url", faulty) from None
    if len(beginning) + part.longest > MAX_URL_LENGTH:
        raise invalid_field(
            "settings.webhook_url",
            f"can become {len(beginning) + part.longest:,} characters long when values are percent-encoded, and "
            f"{MAX_URL_LENGTH:,} are allowed: cut values, as in {{{{ message|truncate(200) }}}}",
        )
    run = part.run
    return lambda values: beginning + _NOT_IN_A_URL.sub(lambda found: quote(found[0], safe=""), run(values))


def in_url(value: str) -> str:
    """A value in a URL, percent-encoded (RFC 3986, 2.1). One that is only dots is no way to another folder."""
    return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")


def _header(place: str, value: str, budget: Budget) -> Run:
    try:
        part = language.compiled(value, budget, escape=text_names.line)
    except Faulty as faulty:
        raise _refused(place, faulty) from None
    if part.longest > MAX_HEADER_LENGTH:
        raise invalid_field(
            place, f"can become longer than {MAX_HEADER_LENGTH:,} characters: cut values with truncate(200)"
        )
    run = part.run
    # Text outside ASCII is sent as UTF-8 (RFC 9110, 5.5, lets it pass as it is).
    return lambda values: run(values).strip().encode().decode("latin-1")


def _text(value: str, content_type: str, budget: Budget) -> Run:
    escape, growth = _escape(content_type)
    try:
        run = language.compiled(value, budget, escape=escape, growth=growth).run
    except Faulty as faulty:
        raise _refused("settings.text", faulty) from None
    return lambda values: run(values).encode()


def _escape(content_type: str) -> tuple[Callable[[str], str] | None, int]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == FORM:
        return quote_plus, URL_GROWTH
    if kind.endswith(("/xml", "+xml", "/html")):
        return html.escape, MARKUP_GROWTH
    return None, 1


def _body(value: Any, budget: Budget) -> Run:
    run = _json(value, "settings.body", budget)
    return lambda values: msgspec.json.encode(None if (found := run(values)) is OMIT else found)


def _json(value: Any, place: str, budget: Budget) -> Run:
    """The value with its strings rendered. Recursive, because nothing here is deeper than `MAX_DEPTH`."""
    if isinstance(value, dict):
        for name in value:
            _check_key(name, place, budget)
        return _object([(name, _json(inner, f"{place}.{name}", budget)) for name, inner in value.items()])
    if isinstance(value, list):
        return _list([_json(inner, f"{place}[{index}]", budget) for index, inner in enumerate(value)])
    if isinstance(value, str):
        try:
            return language.typed(value, budget).run
        except Faulty as faulty:
            raise _refused(place, faulty) from None
    return lambda values: value


def _check_key(name: str, place: str, budget: Budget) -> None:
    if len(name) > MAX_KEY_LENGTH or "{{" in name or "{%" in name:
        raise invalid_field(
            place, f"has a field with templates or over {MAX_KEY_LENGTH} characters in its name: {_short(name)}"
        )
    try:
        budget.read(len(checked(name).encode()))
        budget.write(len(name))
    except Faulty as faulty:
        raise _refused(place, faulty) from None


def _object(fields: list[tuple[str, Run]]) -> Run:
    return lambda values: {name: found for name, run in fields if (found := run(values)) is not OMIT}


def _list(items: list[Run]) -> Run:
    return lambda values: [found for run in items if (found := run(values)) is not OMIT]
