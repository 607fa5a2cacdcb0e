"""A page's bytes as text, in the charset that a browser would choose, and the search for a keyword in it.

The order is that of the HTML standard (https://html.spec.whatwg.org/#determining-the-character-encoding),
the labels are those of the Encoding standard (https://encoding.spec.whatwg.org/#names-and-labels). Every other name
counts as UTF-8: the interpreter caches every codec that it was ever asked for. A page that names none and is not UTF-8
is read as browsers do (https://html.spec.whatwg.org/#determining-the-character-encoding, its last step).
"""

from __future__ import annotations

import codecs
import html
import re
import unicodedata
from functools import lru_cache

MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
PRESCAN = 1024
"""Bytes at the start in which a page may declare its charset."""
MAX_ENTITIES = 20_000
"""Maximum entities decoded in one page; the rest stay as they are."""
MAX_COMPOSED = 100_000
"""Maximum places of one page that are composed (NFC); the rest stay as they are."""
FALLBACK = "cp1252"
_STEP = 32 << 10

_NAMED = {
    "utf-8": "unicode-1-1-utf-8 utf8 x-unicode20utf8",
    "utf-16-be": "utf-16be unicodefffe",
    "utf-16-le": "utf-16 utf-16le csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff",
    "cp1252": "windows-1252 iso-8859-1 iso8859-1 iso_8859-1 latin1 l1 ascii us-ascii x-cp1252 cp819 ibm819 csisolatin1 "
    "iso88591 iso_8859-1:1987 iso-ir-100 ansi_x3.4-1968",
    "cp1250": "windows-1250 x-cp1250",
    "cp1251": "windows-1251 x-cp1251",
    "cp1253": "windows-1253 x-cp1253",
    "cp1254": "windows-1254 x-cp1254 iso-8859-9 iso8859-9 iso_8859-9 latin5 l5 csisolatin5",
    "cp1255": "windows-1255 x-cp1255",
    "cp1256": "windows-1256 x-cp1256",
    "cp1257": "windows-1257 x-cp1257",
    "cp1258": "windows-1258 x-cp1258",
    "cp874": "windows-874 iso-8859-11 iso8859-11 tis-620 dos-874",
    "cp866": "ibm866 866 csibm866",
    "iso8859-2": "iso-8859-2 iso_8859-2 latin2 l2 csisolatin2",
    "iso8859-3": "iso-8859-3 iso_8859-3 latin3 l3",
    "iso8859-4": "iso-8859-4 iso_8859-4 latin4 l4",
    "iso8859-5": "iso-8859-5 iso_8859-5 cyrillic csisolatincyrillic",
    "iso8859-6": "iso-8859-6 iso_8859-6 arabic csisolatinarabic",
    "iso8859-7": "iso-8859-7 iso_8859-7 greek greek8 csisolatingreek",
    "iso8859-8": "iso-8859-8 iso_8859-8 iso-8859-8-i logical visual hebrew csisolatinhebrew",
    "iso8859-10": "iso-8859-10 latin6 l6 csisolatin6",
    "iso8859-13": "iso-8859-13",
    "iso8859-14": "iso-8859-14",
    "iso8859-15": "iso-8859-15 iso_8859-15 csisolatin9 l9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "koi8 koi koi8_r cskoi8r",
    "koi8-u": "koi8-ru",
    "mac-roman": "macintosh mac x-mac-roman csmacintosh",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "gb18030": "gbk gb2312 gb_2312-80 chinese csgb2312 x-gbk iso-ir-58",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc-jp": "x-euc-jp cseucpkdfmtjapanese",
    "iso2022-jp": "iso-2022-jp csiso2022jp",
    "cp932": "shift_jis shift-jis sjis x-sjis windows-31j ms_kanji csshiftjis ms932",
    "cp949": "euc-kr korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949 "
    "cseuckr csksc56011987 iso-ir-149",
}
CHARSETS = {label: codec for codec, labels in _NAMED.items() for label in (codec, *labels.split())}
"""Python's codecs by the labels that pages use."""
OF_MANY_BYTES = frozenset(
    ("utf-8", "utf-16-be", "utf-16-le", "gb18030", "big5hkscs", "euc-jp", "iso2022-jp", "cp932", "cp949")
)

_OF_TYPE = re.compile(rb"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
_COMMENT = re.compile(rb"<!--.*?(?:-->|$)", re.DOTALL)
_OF_META = re.compile(rb"<meta[\s/][^>]*?charset\s*=\s*[\"']?\s*([^\s\"'/>;]+)", re.IGNORECASE)
_OF_XML = re.compile(rb"\s*<\?xml\s[^>]*?encoding\s*=\s*[\"']([^\"']+)", re.IGNORECASE)
_COMPOSABLE = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]{1,200}")
"""In short pieces: the cost of composing grows with the square of the marks that follow one letter."""
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});?")


def charset(body: bytes, content_type: bytes = b"") -> tuple[str, int]:
    """The codec of a page, and the length of its byte order mark."""
    for mark, codec in MARKS:
        if body.startswith(mark):
            return codec, len(mark)
    named = _OF_TYPE.search(content_type[:PRESCAN])
    if named and (known := _known(named[1])):
        return known, 0
    begin = body[:PRESCAN]
    named = _OF_XML.match(begin) or _OF_META.search(_COMMENT.sub(b"", begin))
    known = _known(named[1]) if named else None
    if known is None:
        return ("utf-8" if _is_utf8(body) else FALLBACK), 0
    # A page whose declaration can be read as ASCII is not in UTF-16, whatever it declares.
    return ("utf-8" if known.startswith("utf-16") else known), 0


def contains(body: bytes, content_type: bytes, keyword: str) -> bool:
    """Whether the page contains `keyword`: verbatim, with entities decoded, or as it looks to people.

    To them a no-break space is a space, a letter with its accent is the same in one character or two (UAX #15, NFC).
    """
    codec, mark = charset(body, content_type)
    text = _text(body, codec, mark)
    if keyword in text:
        return True
    if "&" in text:
        text = _ENTITY.sub(_read, text, count=MAX_ENTITIES)
        if keyword in text:
            return True
    return not (text.isascii() and keyword.isascii()) and _looks(keyword) in _looks(text)


def spelled(keyword: str, body: bytes, content_type: bytes) -> bytes:
    """The keyword as the page's charset writes it."""
    try:
        return keyword.encode(charset(body, content_type)[0])
    except UnicodeError:
        return keyword.encode("utf-8", "replace")


def _text(body: bytes, codec: str, begin: int) -> str:
    """In steps, so that other threads get a turn. Invalid bytes become U+FFFD."""
    if codec not in OF_MANY_BYTES:
        return str(codecs.charmap_decode(body[begin:], "strict", _letters(codec))[0])
    decoder = codecs.getincrementaldecoder(codec)("replace")
    parts = [decoder.decode(body[at : at + _STEP]) for at in range(begin, len(body), _STEP)]
    return "".join(parts) + decoder.decode(b"", True)


def _is_utf8(body: bytes) -> bool:
    try:
        codecs.utf_8_decode(body, "strict", True)
    except UnicodeDecodeError as error:
        # A truncated page may end within a character, but has other ones before.
        return error.reason == "unexpected end of data" and not body[: error.start].isascii()
    return True


def _looks(text: str) -> str:
    return text if text.isascii() else _COMPOSABLE.sub(_composed, text, count=MAX_COMPOSED).replace("\xa0", " ")


@lru_cache(maxsize=64)
def _letters(codec: str) -> str:
    """What each of the 256 bytes decodes to: error handling for each invalid byte would cost a hundred times more."""
    return "".join([bytes([byte]).decode(codec, "replace") for byte in range(256)])


def _known(label: bytes) -> str | None:
    return CHARSETS.get(label[:50].decode("latin-1").strip().lower())


def _read(entity: re.Match[str]) -> str:
    return html.unescape(entity[0])


def _composed(piece: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", piece[0])
