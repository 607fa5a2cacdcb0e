"""The worst bodies, forms and heads of a given size that we know: what makes a reader slow by its form alone."""

from __future__ import annotations

from collections.abc import Iterator

Made = tuple[str, bytes]
"""What it is, and its bytes."""


def _filled(first: bytes, each: bytes, last: bytes, size: int) -> bytes:
    """As often `each` as goes into the size."""
    return first + each * max((size - len(first) - len(last)) // len(each), 0) + last


def values(size: int) -> Iterator[Made]:
    """JSON values of about that many bytes."""
    yield "long string", _filled(b'"', b"a", b'"', size)
    yield "string of commas and brackets", _filled(b'"', b'a,[{\\"', b'"', size)
    yield "address", _filled(b'"', b"a+", b'b@example.com"', size)
    yield "address of labels", _filled(b'"a@', b"a.", b'com"', size)
    yield "address of a link", _filled(b'"https://example.com/', b"%2e./", b'"', size)
    yield "host", _filled(b'"https://', b"xn--a-", b'.com"', size)
    yield "escapes", _filled(b'"', b"\\u00e9", b'"', size)
    yield "backslashes", _filled(b'"', b"\\\\", b'"', size)
    yield "quotes", _filled(b'"', b'\\"', b'"', size)
    yield "halves of pairs", _filled(b'"', b"\\ud800", b'"', size)
    yield "NULs", _filled(b'"', b"\\u0000", b'"', size)
    yield "no UTF-8", _filled(b'"', b"\xff", b'"', size)
    yield "four bytes each", _filled(b'"', "😀".encode(), b'"', size)
    yield "overrides and blanks", _filled(b'"', "\u202e ".encode(), b'"', size)
    yield "samples of long fractions", _filled(b"[", b'{"value":0.30000000000000004440892098},', b"{}]", size)
    yield "combining", _filled(b'"', "\u0301".encode(), b'"', size)
    yield "blanks", _filled(b"", b" ", b"1", size)
    yield "long number", _filled(b"", b"9", b"9", size)
    yield "long fraction", _filled(b"0.", b"3", b"1", size)
    yield "numbers of 4,000 digits", _filled(b"[", b"9" * 4_000 + b",", b"1]", size)
    yield "numbers of 400 digits", _filled(b"[", b"9" * 399 + b",", b"1]", size)
    yield "numbers of 100 digits", _filled(b"[", b"9" * 99 + b",", b"1]", size)
    yield "numbers of 49 digits", _filled(b"[", b"9" * 49 + b",", b"1]", size)
    yield "numbers of 19 digits", _filled(b"[", b"9" * 19 + b",", b"1]", size)
    for fraction in (b"9e295", b"1e-320", b"1.2345678901234567e-300", b"9007199254740993.0", b"1e999", b"1.5",
                     b"1.7976931348623157e308", b"17976931348623157e292", b"0.30000000000000004440892098"):  # fmt: skip
        yield f"fractions {fraction.decode()}", _filled(b"[", fraction + b",", b"1]", size)
        yield f"one field of {fraction.decode()}", _filled(b"{", b'"after":' + fraction + b",", b'"after":1}', size)
    yield "integers", _filled(b"[", b"1,", b"1]", size)
    yield "empty lists", _filled(b"[", b"[],", b"[]]", size)
    yield "empty objects", _filled(b"[", b"{},", b"{}]", size)
    yield "empty strings", _filled(b"[", b'"",', b'""]', size)
    yield "strings with an escape", _filled(b"[", b'"\\u1234",', b'""]', size)
    yield "one key again and again", _filled(b"{", b'"a":1,', b'"a":1}', size)
    yield "many keys", b"{" + b",".join(b'"%x":1' % number for number in range(size // 10)) + b"}"
    for depth in (60, 65, 900):
        yield f"{depth} lists", _filled(b"[" * depth, b"1,", b"1" + b"]" * depth, size)
        first = b"[" * depth + b"9" * 19 + b","
        yield f"{depth} lists around a long number", _filled(first, b"1,", b"1" + b"]" * depth, size)
        yield f"lists of {depth}", _filled(b"[", b"[" * depth + b"]" * depth + b",", b"1]", size)
        yield f"objects of {depth}", _filled(b"[", b'{"a":' * depth + b"1" + b"}" * depth + b",", b"1]", size)
    yield "no end", _filled(b"", b"[", b"", size)
    yield "objects without end", _filled(b"", b'{"a":', b"", size)
    yield "strings without end", _filled(b"", b'"', b"", size)
    yield "escapes without end", _filled(b'"', b"\\", b"", size)


def forms(size: int) -> Iterator[Made]:
    """Forms, as browsers send them and as they do not, of about that many bytes."""
    for name in (b"email", b"password", b"token", b"next", b"name", b"csrf", b"payload"):
        yield f"long {name.decode()}", _filled(name + b"=", b"a", b"", size)
    yield "address", _filled(b"password=abcdef&email=", b"a+", b"@example.com", size)
    yield "address of labels", _filled(b"password=abcdef&email=a@", b"a.", b"com", size)
    yield "quoted address", _filled(b"email=", b'%22%22"', b"@example.com", size)
    yield "percent signs", _filled(b"email=", b"%", b"", size)
    yield "percent-encoded", _filled(b"email=", b"%C3%A9", b"%40example.com", size)
    yield "broken percent-encoding", _filled(b"name=", b"%ff", b"", size)
    yield "many fields", _filled(b"", b"a&", b"", size)
    yield "many empty fields", _filled(b"", b"&", b"", size)
    yield "one field again and again", _filled(b"", b"email=&", b"", size)
    yield "many parts", _filled(b"", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n', b"--b--\r\n", size)
    yield "deep JSON", _filled(b"payload=", b"[", b"", size)


def texts(size: int) -> Iterator[tuple[str, str]]:
    """Text for a header's value or a parameter: visible ASCII, as all that a head may hold."""
    for each in ("a", "a;", "a=b; ", "a/a,", '"\\', '"\\"', "\\101", "%41", "%", "a&", "=", "9", "-", "a+", "[", "a."):
        yield f"many {each!r}", each * (size // len(each))
    yield "quoted", '"' + "\\1" * (size // 2) + '"'
