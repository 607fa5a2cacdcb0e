"""Identifiers: 128 bits internally, a prefix with 26 upper-case letters and digits in public.

A key is a UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds, which keeps new rows together
and lets history be dropped by range; its 74 random bits make it unguessable. The public form is the same key, bytes
reversed so that neighbours in time do not look alike, in Crockford's base 32. No table stores both.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from uuid_utils.compat import uuid7

from tocsin.domain.errors import not_found

INTEGRATION, SERVER, INCIDENT, MONITOR = "INT", "SRV", "INC", "NM"
DELIVERY, PROJECT, USER, STATUS_PAGE, SILENCE = "DLV", "PRJ", "USR", "SP", "SIL"
REPLAY, OVERRIDE, HEARTBEAT, SOURCE, PROBE = "RPL", "OVR", "HB", "SRC", "PRB"

_NOUNS = {
    INTEGRATION: "integration", SERVER: "server", INCIDENT: "incident", MONITOR: "network_monitor",
    DELIVERY: "delivery", PROJECT: "project", SILENCE: "silence", REPLAY: "replay",
    OVERRIDE: "override", HEARTBEAT: "heartbeat", SOURCE: "source", PROBE: "probe",
}  # fmt: skip

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGITS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
"""From our letters to those of `int(…, 32)`."""
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_LENGTH = 26
_SIX = 2**30 - 1


def new() -> UUID:
    """A new key, later than all that this process has created before."""
    return uuid7()


def public(prefix: str, key: UUID) -> str:
    """The public form of `key`: `public("INT", key)` is `INT` and 26 characters."""
    number, pair = int.from_bytes(key.int.to_bytes(16, "little")), _PAIRS
    # In steps of six digits: the interpreter is quick with numbers below 2**30, and this is done for every delivery.
    a, b, c, d = number >> 100, number >> 70 & _SIX, number >> 40 & _SIX, number >> 10 & _SIX
    return (
        f"{prefix}{pair[a >> 20]}{pair[a >> 10 & 1023]}{pair[a & 1023]}{pair[b >> 20]}{pair[b >> 10 & 1023]}"
        f"{pair[b & 1023]}{pair[c >> 20]}{pair[c >> 10 & 1023]}{pair[c & 1023]}{pair[d >> 20]}{pair[d >> 10 & 1023]}"
        f"{pair[d & 1023]}{pair[number & 1023]}"
    )


def parse(prefix: str, text: str) -> UUID | None:
    """The key behind a public identifier, or None where `text` cannot be one (then no object has it)."""
    if len(text) != len(prefix) + _LENGTH or not text.startswith(prefix):
        return None
    return _key(text[len(prefix) :])


@lru_cache(4_096)  # most requests are about the same few resources
def _key(digits: str) -> UUID | None:
    if digits.strip(_ALPHABET):  # something is left between the first and the last letter of another kind
        return None
    number = int(digits.translate(_DIGITS), 32)
    if number >> 128:
        return None
    return UUID(bytes=number.to_bytes(16)[::-1])


def key_of(prefix: str, text: str) -> UUID:
    """The key behind a public identifier; raises `Refused` (404) where `text` cannot be one."""
    key = parse(prefix, text)
    if key is None:
        raise not_found(_NOUNS[prefix])
    return key
