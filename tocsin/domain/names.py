"""Names, and other text that people or machines have chosen: what a name may contain, and how it is shown in one line.

Names may be in any script: joiners, ideographic spaces, emoji and direction marks are allowed. Only what would break a
line, or reorder the text around it, is not.
"""

from __future__ import annotations

import re
import unicodedata

from tocsin.domain.errors import invalid_field

MAX_LENGTH = 200
"""Characters of a name."""

_TURNING = "\u202a-\u202e\u2066-\u2069"
"""Bidirectional embeddings, overrides and isolates (UAX #9, 2.1 to 2.5); marks such as U+200E are allowed."""
_BREAKING = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
"""Control characters, line and paragraph separators, and lone surrogates, which cannot be stored."""

_unfit = re.compile(f"[{_BREAKING}{_TURNING}]")
_turning = re.compile(f"[{_TURNING}]")
_breaking = re.compile(f"[{_BREAKING}]+")
_spaces = re.compile("  +")

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and one symbol that are invisible; spaces and format characters are known by their category."""
_JOINER = "\u200d"
_MAX_CLUSTER_LENGTH = 30
"""Maximum characters to step back for a cut between two characters (UAX #15 lets 30 marks follow one)."""


def checked(field: str, text: str, longest: int = MAX_LENGTH) -> str:
    """A name as it is stored: without blanks around it. Raises `Refused` (422) naming `field`."""
    name = text.strip()
    if not 1 <= len(name) <= longest:
        raise invalid_field(field, f"must have 1 to {longest} characters")
    if _unfit.search(name):
        raise invalid_field(field, "must be one line, without control characters and bidirectional overrides")
    if is_blank(name):
        raise invalid_field(field, "must not be blank")
    return name


def line(text: str) -> str:
    """Any text in one line, for display: line breaks become blanks, bidirectional controls are removed."""
    if not text.isprintable():  # printable text contains neither
        text = _breaking.sub(" ", _turning.sub("", text))
    if "  " in text:
        text = _spaces.sub(" ", text)
    return text.strip(" ")


def is_blank(text: str) -> bool:
    """Whether it is invisible."""
    return all(map(_is_blank, text))


def cut(text: str, most: int, mark: str = "…") -> str:
    """At most `most` characters of `text`; a longer text ends in `mark`. No visible character is split."""
    if len(text) <= most:
        return text
    return text[: boundary(text, most - len(mark))].rstrip() + mark


def boundary(text: str, end: int) -> int:
    """The last place up to `end` at which `text` can be cut without splitting a visible character."""
    at = end
    while at > max(0, end - _MAX_CLUSTER_LENGTH) and at < len(text) and _goes_on(text, at):
        at -= 1
    return at if at > max(0, end - _MAX_CLUSTER_LENGTH) else end


def _goes_on(text: str, at: int) -> bool:
    """Whether the character at that index continues the one before (UAX #29, 3.1, as far as names go)."""
    before, here = text[at - 1], text[at]
    if _JOINER in (before, here) or unicodedata.category(here)[0] == "M" or "\U0001f3fb" <= here <= "\U0001f3ff":
        return True
    if "\U0001f1e6" <= here <= "\U0001f1ff":  # two of these letters are one flag
        flags = 0
        while at - flags > 0 and "\U0001f1e6" <= text[at - flags - 1] <= "\U0001f1ff" and flags < _MAX_CLUSTER_LENGTH:
            flags += 1
        return flags % 2 == 1
    return "\U000e0020" <= here <= "\U000e007f"  # a flag's tags


def _is_blank(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Zs", "Cf")
        or character in _INVISIBLE
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )
