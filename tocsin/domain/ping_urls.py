"""Addresses of pings: those of Healthchecks, and those to which clients of Uptime Kuma and Gatus push. Pure.

Sources: https://healthchecks.io/docs/http_api/, https://github.com/louislam/uptime-kuma/wiki (push monitors),
https://github.com/TwiN/gatus#external-endpoints
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

from tocsin.domain import heartbeats as rules
from tocsin.domain.pings import BODY_LIMIT, Kind, Ping

PINGS, PUSHES, ENDPOINTS = "/ping/", "/api/push/", "/api/v1/endpoints/"

_decoder = codecs.getincrementaldecoder("utf-8")
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{0,9})?(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"([\d.]+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
MAX_PARAMETERS = 100
LONGEST_MS = 366 * 86_400_000.0

KINDS: Mapping[str, Kind] = {"start": "start", "fail": "fail", "log": "log"}
SIGNALS: Mapping[str, int] = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
    "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "XCPU": 24, "XFSZ": 25, "SYS": 31,
}  # fmt: skip
"""What systemd puts in place of an exit status (`$EXIT_STATUS`, systemd.exec(5)) where a signal has ended a service."""


class Refusal(NamedTuple):
    """An address, or a parameter, that cannot be accepted: status and text."""

    status: int
    text: str


NOT_FOUND = Refusal(404, "not found")
BAD_URL = Refusal(400, "invalid url format")
BAD_RID = Refusal(400, "invalid uuid format")


def text_of(body: bytes) -> str:
    """The part of a body that is kept, as text: what is no UTF-8 is U+FFFD, and so is NUL, which cannot be stored."""
    whole = len(body) <= BODY_LIMIT  # else it may end in the middle of a character
    text = _decoder("replace").decode(body[:BODY_LIMIT], final=whole)
    return text.replace("\0", "\ufffd")


def key_of(text: str) -> str | None:
    """A heartbeat's key, a UUID with or without hyphens, as its 32 digits."""
    return text.replace("-", "").lower() if _UUID.fullmatch(text) else None


def ping(method: str, path: str, query: str, body: str) -> Ping | Refusal:
    """`/ping/UUID`, `/ping/KEY/SLUG`, each with `/start`, `/fail`, `/log` or `/EXIT-STATUS`, or nothing."""
    parts = path.removeprefix(PINGS).removesuffix("/").split("/")
    first, slug, action = key_of(parts[0]), None, ""
    if first is not None and (len(parts) == 1 or (len(parts) == 2 and _is_action(parts[1]))):
        action = parts[1] if len(parts) == 2 else ""
    elif 2 <= len(parts) <= 3 and all(map(_WORD.fullmatch, parts[:2])) and (len(parts) == 2 or _is_action(parts[2])):
        first, slug, action = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
        if slug != slug.lower():
            return BAD_URL
    else:
        return NOT_FOUND
    exit_status = int(action) if action.isdigit() else 128 + SIGNALS[action] if action in SIGNALS else None
    if exit_status is not None and exit_status > 255:
        return BAD_URL
    kind: Kind = KINDS.get(action, "fail" if exit_status else "success")
    if not query:
        return Ping(first, slug, kind, method, exit_status, "", body)
    given = _parameters(query)
    rid = given.get("rid", "")
    if "rid" in given and not _CANONICAL.fullmatch(rid):
        return BAD_RID
    create, duration = slug is not None and given.get("create") == "1", _milliseconds(given.get("duration", ""))
    return Ping(first, slug, kind, method, exit_status, rid.lower(), body, duration, create)


def push(method: str, path: str, query: str) -> Ping | None:
    """`/api/push/KEY?status=up|down&msg=&ping=`, the last in milliseconds."""
    key, given = key_of(path.removeprefix(PUSHES)), _parameters(query)
    if key is None:
        return None
    kind: Kind = "success" if given.get("status", "up") == "up" else "fail"
    try:
        took = float(given.get("ping", ""))
    except ValueError:
        took = -1.0
    duration = took if 0 <= took <= LONGEST_MS else None
    return Ping(key, None, kind, method, None, "", _message(given.get("msg", "")), duration)


def external(method: str, path: str, query: str, token: str | None) -> Ping | Refusal:
    """`/api/v1/endpoints/KEY/external?success=true|false&error=&duration=`.

    KEY is a heartbeat's; or its slug, with its project's ping key as bearer token.
    """
    parts, given = path.removeprefix(ENDPOINTS).removesuffix("/").split("/"), _parameters(query)
    if len(parts) != 2 or parts[1] != "external":
        return NOT_FOUND
    if given.get("success") not in ("true", "false"):
        return Refusal(400, "missing or invalid success query parameter")
    duration = given.get("duration", "")
    if duration and not _DURATION.fullmatch(duration):
        return Refusal(400, "invalid duration")
    kind: Kind = "success" if given["success"] == "true" else "fail"
    rest = (method, None, "", _message(given.get("error", "")), _milliseconds(duration))
    if key := key_of(parts[0]):
        return Ping(key, None, kind, *rest)
    if token is None or not _WORD.fullmatch(token):
        return Refusal(401, "invalid Authorization header")
    slug = parts[0].lower()
    return Ping(token, slug, kind, *rest) if rules.SLUG.fullmatch(slug) and len(slug) <= 100 else NOT_FOUND


def _is_action(text: str) -> bool:
    return text in KINDS or text in SIGNALS or _DIGITS.fullmatch(text) is not None


def _parameters(query: str) -> dict[str, str]:
    """The first value of each."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return {}
    return dict(reversed(pairs))


def _message(text: str) -> str:
    return text_of(text.encode("utf-8", "replace"))


def _milliseconds(duration: str) -> float | None:
    """`12.3s`, `1m30s`, or a bare number of seconds."""
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", duration, re.ASCII):
        duration += "s"
    if not _DURATION.fullmatch(duration):
        return None
    try:
        total = sum(float(number) * _MS[unit] for number, unit in _PART.findall(duration))
    except ValueError:
        return None
    return total if total <= LONGEST_MS else None
