"""Texts that fit into one SMS: 160 septets of the GSM alphabet, or 70 units of UCS-2 where a character is not in it.

The alphabet is that of 3GPP TS 23.038, section 6.2.1: https://www.3gpp.org/dynareport/23038.htm
"""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.domain import names

SEPTETS, UNITS = 160, 70
CUT = ".."

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
"""Each takes two septets: an escape goes before it."""

# One of these would halve the room, and a plain one means the same.
_PLAIN = str.maketrans(
    {"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "`": "'"}
    | dict.fromkeys("\u00a0\u2002\u2003\u2007\u2009\u200a\u202f", " ")
)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
"""Joiners, direction marks and the like: a text in the GSM alphabet looks the same without them, and costs half."""


def line(text: str) -> str:
    """`text` in one line as `names.line` shows it, without invisible characters that would double its cost."""
    shown = names.line(text.translate(_PLAIN))
    bare = shown.translate(_UNSEEN)
    return bare if bare != shown and is_gsm(bare) else shown


def is_gsm(text: str) -> bool:
    """Whether every character is in the GSM alphabet or its extension."""
    return all(each in _BASIC or each in _EXTENSION for each in text)


def cost(text: str, *, gsm: bool) -> int:
    """Septets if the whole message is in the GSM alphabet, else units of UTF-16."""
    if gsm:
        return len(text) + sum(each in _EXTENSION for each in text)
    return len(text) + sum(ord(each) > 0xFFFF for each in text)


def fits(text: str) -> bool:
    """Whether it fits into one message."""
    gsm = is_gsm(text)
    return cost(text, gsm=gsm) <= (SEPTETS if gsm else UNITS)


def fitted(fixed: Sequence[str], parts: Sequence[str]) -> str:
    """`fixed[0] parts[0] fixed[1] parts[1] … fixed[-1]` in one message.

    If it is too long, the longest of `parts` are shortened first, to one common length, and end in `..`. What is
    fixed must be in the GSM alphabet and fit by itself, in 70 units; `fixed` has one more item than `parts`.
    """
    clean = [line(part) for part in parts]
    whole = _joined(fixed, clean)
    if fits(whole):
        return whole
    gsm = is_gsm(whole)
    fitting, too_long = 0, SEPTETS
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        if fits(_joined(fixed, [_cut(part, middle, gsm=gsm) for part in clean])):
            fitting = middle
        else:
            too_long = middle
    return _joined(fixed, [_cut(part, fitting, gsm=gsm) for part in clean])


def _joined(fixed: Sequence[str], parts: Sequence[str]) -> str:
    between = [text for pair in zip(fixed, parts, strict=False) for text in pair]
    return "".join([*between, fixed[-1]]).strip()


def _cut(part: str, most: int, *, gsm: bool) -> str:
    """The start of `part`, at most `most` long, its end marked."""
    if cost(part, gsm=gsm) <= most:
        return part
    used, end = len(CUT), 0
    for each in part:
        used += cost(each, gsm=gsm)
        if used > most:
            break
        end += 1
    end = names.boundary(part, end)
    return part[:end].rstrip() + CUT if end else ""
