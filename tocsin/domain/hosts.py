"""Hosts as people and sites write them, normalized into the one form that is used everywhere.

They are read as browsers read them (https://url.spec.whatwg.org/#host-parsing): names outside ASCII by UTS 46, not
transitional, with IDNA 2008's rules for joiners and direction, so that `straße.example` is not `strasse.example`, and
symbols such as `☃` are allowed; `2130706433` and `0x7f.1` are IPv4 addresses. What DNS cannot look up is
refused: only letters, digits, hyphens and underscores (RFC 1123, and what is in use), labels of 63 and names of 253
bytes (RFC 1035), no empty label, no percent-encoding, and no zone of an IPv6 address.
"""

from __future__ import annotations

import ipaddress
import re

import idna

MAX_LENGTH = 253
"""Bytes of a name without its trailing dot (RFC 1035), and characters of one before its conversion to ASCII."""

_LABEL = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_JOINERS = "\u200c\u200d"
_MAX_UNICODE_LABEL_LENGTH = 59
"""Characters of a label outside ASCII: each takes at least one byte besides `xn--`."""


class Unreadable(ValueError):
    """What names no host or no address to call. The text says why, after "it" or "its host"."""


def read(text: str) -> str:
    """The host that `text` names: an IPv4 address, an IPv6 address without brackets, or a name in lower-case ASCII.

    A name's trailing dot is kept: to a name server it means that no search list applies. Raises `Unreadable`.
    """
    if not text:
        raise Unreadable("its host is missing")
    if len(text) > MAX_LENGTH + 1:
        raise Unreadable(f"its host is longer than {MAX_LENGTH} characters")
    if text[0] == "[" or ":" in text:
        return _ipv6(text)
    name = text.lower() if text.isascii() else _in_ascii(text)
    bare = name.removesuffix(".")
    labels = bare.split(".")
    if len(bare) > MAX_LENGTH or not all(map(_LABEL.fullmatch, labels)):
        raise Unreadable(
            "its host is not a valid name: each part between dots has 1 to 63 letters, digits, hyphens (not first) or "
            "underscores"
        )
    return _ipv4(labels) if _NUMBER.fullmatch(labels[-1]) else name


def _ipv6(text: str) -> str:
    bare = text[1:-1] if text[0] == "[" and text[-1] == "]" else text
    if "%" in bare:
        raise Unreadable("its host names a zone (what follows %), which means nothing beyond one machine")
    try:
        return str(ipaddress.IPv6Address(bare))
    except ValueError:
        raise Unreadable("its host is no IPv6 address") from None


def _ipv4(labels: list[str]) -> str:
    """One to four numbers, decimal, octal or hexadecimal, the last of which fills the bytes that remain."""
    try:
        *first, last = (_number(label) for label in labels)
    except ValueError:
        raise Unreadable("its host ends in a number but is no IPv4 address") from None
    if len(first) > 3 or any(each > 255 for each in first) or last >= 256 ** (4 - len(first)):
        raise Unreadable("its host ends in a number but is no IPv4 address")
    return str(ipaddress.IPv4Address(sum(each << 24 - 8 * place for place, each in enumerate(first)) + last))


def _number(label: str) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label[0] == "0" else 10)


def _in_ascii(text: str) -> str:
    try:
        mapped = idna.uts46_remap(text, std3_rules=False)
        return ".".join(label if label.isascii() else _ace(label) for label in mapped.split("."))
    except ValueError:
        raise Unreadable("its host cannot be written as a domain name (IDNA)") from None


def _ace(label: str) -> str:
    """A label outside ASCII in its ASCII form (RFC 3492). Raises `ValueError` for what UTS 46, 4.1, calls invalid."""
    if len(label) > _MAX_UNICODE_LABEL_LENGTH:
        raise ValueError(label)
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    if not all(idna.valid_contextj(label, at) for at, each in enumerate(label) if each in _JOINERS):
        raise ValueError(label)
    return "xn--" + label.encode("punycode").decode("ascii")
