"""Alerts of other systems: what one says, which of them are the same, and what follows from one. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Literal

import msgspec

from tocsin.domain import names, urls
from tocsin.domain.incidents import DRILL, Severity, truncated_message

Status = Literal["firing", "resolved", "acknowledged"]

MAX_DETAILS = 16 * 1024
"""Bytes of an alert's details, as JSON."""
SHORTER = (1024, 256, 64)
"""Characters that texts of details that are too long are cut to, one after the other until they fit."""
MAX_MEMBERS = 100
"""Members of an object or a list that are left of such details."""
MAX_TYPE, MAX_URL, MAX_KEY = 64, 2048, 255
"""Characters."""
NAMELESS = "alert"
"""The type of an incident whose alert has no name."""

_UNFIT = re.compile(r"[^!-~]")
_SEVERITIES: Mapping[str, Severity] = {
    **dict.fromkeys(("warning", "warn", "medium", "minor", "average", "degraded", "p3", "sev3"), "warning"),
    **dict.fromkeys(("info", "information", "informational", "notice", "none", "low", "debug", "ok", "p4", "p5",
                     "sev4", "sev5"), "info"),
}  # fmt: skip

FNV_OFFSET, FNV_PRIME, _64_BITS = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1
_SEPARATOR = b"\xff"


class Alert(msgspec.Struct, frozen=True, gc=False):
    """One alert, as its source speaks of it.

    `ends_at` is when it ended; of one that is firing, when it ends unless it is mentioned again, or None if it does not
    end by itself. `starts_at` is None where its source does not say: then each mention after the incident was resolved
    here is a new one if `anew`, and the same one if not.
    """

    dedup_key: str
    status: Status
    type: str
    message: str
    severity: Severity = "critical"
    url: str | None = None
    details: Mapping[str, Any] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    anew: bool = False

    @property
    def digest(self) -> bytes:
        """Eight bytes that differ where anything that is told of it differs."""
        told = msgspec.json.encode([self.message, self.severity, self.url, self.details])
        return hashlib.blake2b(told, digest_size=8).digest()


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is stored of an alert that was firing when it was last mentioned.

    `closed_at` is set where its incident was resolved here meanwhile, not by its source.
    """

    type: str
    digest: bytes
    starts_at: datetime
    closed_at: datetime | None


class Step(Enum):
    """What follows from an alert."""

    OPEN = "open"
    CHANGE = "change"
    PUSH_ON = "push on"
    RESOLVE = "resolve"
    ACKNOWLEDGE = "acknowledge"
    NOTHING = "nothing"


def judge(alert: Alert, known: Known | None) -> Step:
    """What follows from an alert, given what is known of it.

    One whose incident somebody has resolved here is opened again only once it has begun anew. An end that lies before
    the beginning of what is known was of an earlier one, and has come late.
    """
    if known is None:
        return Step.OPEN if alert.status == "firing" else Step.NOTHING
    if alert.status == "resolved":
        late = alert.ends_at is not None and alert.ends_at < known.starts_at
        return Step.NOTHING if late else Step.RESOLVE
    if alert.status == "acknowledged":
        return Step.NOTHING if known.closed_at else Step.ACKNOWLEDGE
    if known.closed_at is not None:
        began_anew = alert.anew if alert.starts_at is None else alert.starts_at > known.closed_at
        return Step.OPEN if began_anew else Step.PUSH_ON
    return Step.PUSH_ON if alert.digest == known.digest else Step.CHANGE


def merged(first: Alert, second: Alert) -> Alert:
    """Two mentions of one alert, `second` being the later: the earliest start and the latest words count."""
    if second.status != "firing" or first.status != "firing":
        return second
    starts = min(filter(None, (first.starts_at, second.starts_at)), default=None)
    return msgspec.structs.replace(second, starts_at=starts, anew=first.anew or second.anew)


def fingerprint(labels: Mapping[str, str], ignored: Collection[str] = ()) -> str:
    """The identity of an alert with these labels, as Prometheus and Alertmanager compute it: FNV-1a, 64 bits
    (prometheus/common, model/signature.go), in hexadecimal. `ignored` are names of labels that do not count.
    """
    value = FNV_OFFSET
    for name in sorted(labels):
        if name not in ignored:
            low = value & 0xFF
            hashed, power = _hashed(low, name, labels[name])
            value = ((value - low) * power + hashed) & _64_BITS
    return f"{value:016x}"


# Each byte is mixed into the lowest one of the hash: what is above it is only multiplied. So what a label does to a
# hash is the same for all that end in the same byte, and need not be computed for each alert, of which most have most
# labels in common.
@lru_cache(maxsize=8192)
def _hashed(low: int, name: str, text: str) -> tuple[int, int]:
    """The hash of a label that begins with the lowest byte alone, and what the bytes above it are multiplied by."""
    prime, mask = FNV_PRIME, _64_BITS
    mixed = name.encode() + _SEPARATOR + text.encode() + _SEPARATOR
    value = low
    for each in mixed:
        value = (value ^ each) * prime & mask
    return value, pow(prime, len(mixed), mask + 1)


def incident_type(name: str) -> str:
    """The type of the incident of an alert with that name."""
    fit = _UNFIT.sub("_", names.line(name[: 4 * MAX_TYPE]))[:MAX_TYPE] or NAMELESS
    return f"{fit}_" if fit == DRILL else fit


def severity(word: object) -> Severity:
    """Ours for another system's; what is unknown or not said is critical."""
    return _SEVERITIES.get(word.strip().lower(), "critical") if isinstance(word, str) else "critical"


def message(*parts: object, default: str = "") -> str:
    """What is told of an alert: those parts that say something, each once."""
    said: list[str] = []
    for part in parts:
        text = part.strip() if isinstance(part, str) else ""
        if text and not any(text in each for each in said):
            said = [each for each in said if each not in text]
            said.append(text)
    return truncated_message("\n".join(said) or default or "It says nothing more")


def link(*given: object) -> str | None:
    """The first of these that is a web address."""
    return next((each for each in given if isinstance(each, str) and _is_link(each[: MAX_URL + 1])), None)


@lru_cache(maxsize=1024)  # the alerts of one rule have one
def _is_link(text: str) -> bool:
    try:
        return len(text) <= MAX_URL and text.isprintable() and urls.read(text).scheme in urls.PORTS
    except ValueError:
        return False


def fitted(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """The details as they are stored: cut, and saying so, where they are too long."""
    if len(msgspec.json.encode(details)) <= MAX_DETAILS:
        return details
    for most in SHORTER:
        shorter = {**_shortened(details, most), "truncated": True}
        if len(msgspec.json.encode(shorter)) <= MAX_DETAILS:
            return shorter
    return {"truncated": True}


def _shortened(value: Any, most: int) -> Any:
    """Recursive, because nothing that was parsed is deep."""
    match value:
        case str():
            return names.cut(value, most)
        case Mapping():
            return {name[:most]: _shortened(each, most) for name, each in [*value.items()][:MAX_MEMBERS]}
        case list():
            return [_shortened(each, most) for each in value[:MAX_MEMBERS]]
    return value
