"""One check is one visit: cookies on the way, bodies to their end, words in the page's own charset."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import time
import zlib
from collections.abc import Callable, Iterator

import brotli
import pytest

from tests.odd_answers import chunks, said, serving
from tests.sites import Talk, answer, look, says, site
from tocsin.domain import page_text
from tocsin.domain.monitors import Result
from tocsin.transports import content_encoding
from tocsin.transports.cookies import MAX_COOKIES, Cookies

MEBIBYTE = 1 << 20
CUT = "Connection closed before the answer was complete"


# ------------------------------------------------------------------------------------------------------------ cookies


def paths(pages: dict[str, bytes], asked: dict[str, str | None]) -> Talk:
    """Answers by path; `asked` is told which cookies came with the request for each."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ")[1]
        lines = [line for line in head.split("\r\n") if line.startswith("Cookie: ")]
        assert len(lines) < 2
        asked[path] = lines[0].removeprefix("Cookie: ") if lines else None
        writer.write(pages[path])
        await writer.drain()

    return talk


def redirect(to: str, *cookies: str) -> bytes:
    lines = [b"Set-Cookie: " + cookie.encode("latin-1") for cookie in cookies]
    return said(b"HTTP/1.1 302 Found", b"Location: " + to.encode(), b"Content-Length: 0", *lines, body=b"")


async def test_cookies_that_a_redirect_sets_are_sent_back_within_that_check_only() -> None:
    asked: dict[str, str | None] = {}
    there = {
        "/": redirect("/in/a", "session=1; HttpOnly", "theme=dark; Path=/in", "far=1; Path=/out", "safe=1; Secure"),
        "/in/a": redirect("/in/b", "session=2; SameSite=Lax", "theme=; Max-Age=0; Path=/in", "more=a=b"),
        "/in/b": redirect("/c", "gone=1; Expires=Thu, 01-Jan-1970 00:00:00 GMT"),
        "/c": answer(),
    }
    async with site(paths(there, asked)) as port:
        for _ in range(2):
            assert (await look(f"http://127.0.0.1:{port}/")).ok
            assert asked == {
                "/": None,
                "/in/a": "theme=dark; session=1",
                "/in/b": "session=2; more=a=b; session=1",
                "/c": "session=1",
            }


async def test_a_site_that_lets_in_only_who_brings_its_cookie_back_is_seen() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer() if b"Cookie: been=here" in head else redirect("/", "been=here"))
        await writer.drain()

    async with site(talk) as port:
        assert (await look(f"http://127.0.0.1:{port}/")).ok


async def test_a_cookie_stays_with_the_host_that_set_it() -> None:
    asked: dict[str, str | None] = {}
    async with site(paths({"/": answer()}, asked)) as other, site(
        paths({"/": redirect(f"http://localhost:{other}/", "secret=1")}, {})
    ) as port:
        assert (await look(f"http://127.0.0.1:{port}/")).ok
    assert asked == {"/": None}


@pytest.mark.parametrize(
    ("cookie", "host", "path", "tls", "goes"),
    [
        (b"a=b", "www.example.com", "/", False, True),
        (b"a=b", "example.com", "/", False, False),
        (b"a=b", "below.www.example.com", "/", False, False),
        (b"a=b; Domain=example.com", "example.com", "/", False, True),
        (b"a=b; domain=.EXAMPLE.com", "other.example.com", "/", False, True),
        (b"a=b; Domain=ample.com", "ample.com", "/", False, False),
        (b"a=b; Domain=com", "www.example.com", "/", False, False),
        (b"a=b; Domain=other.example.com", "other.example.com", "/", False, False),
        (b"a=b; Secure", "www.example.com", "/", False, False),
        (b"a=b; Secure", "www.example.com", "/", True, True),
        (b"a=b; Path=/x", "www.example.com", "/x/y", False, True),
        (b"a=b; Path=/x", "www.example.com", "/xy", False, False),
        (b"a=b; Max-Age=-1", "www.example.com", "/", False, False),
        (b"a=b; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "www.example.com", "/", False, True),
        (b"a=b; Expires=whenever", "www.example.com", "/", False, True),
        (b"a=b\rX: y", "www.example.com", "/", False, False),
        (b"a=" + b"b" * 5000, "www.example.com", "/", False, False),
        (b"=; Path=/", "www.example.com", "/", False, False),
    ],
)
def test_where_a_cookie_goes(cookie: bytes, host: str, path: str, tls: bool, goes: bool) -> None:
    cookies = Cookies()
    cookies.take([cookie], "www.example.com", "/")
    assert cookies.header(host, path, tls=tls) == (b"Cookie: a=b\r\n" if goes else b"")


def test_there_is_an_end_to_cookies() -> None:
    cookies = Cookies()
    cookies.take([b"c%d=1" % number for number in range(1000)], "example.com", "/")
    assert cookies.header("example.com", "/", tls=False).count(b"=") == MAX_COOKIES


# ------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "cut",
    [
        answer(body=b"all is well")[:-3],
        answer(body=b"x" * 300_000)[:-3],
        chunks(b"4\r\nall \r\n"),
        chunks(b"4\r\nall \r\n0\r\n"),
        chunks(b"4\r\nal"),
    ],
)
@pytest.mark.parametrize("keyword", [None, "al"])
async def test_a_body_that_breaks_off_is_a_failed_check(cut: bytes, keyword: str | None) -> None:
    async with serving(cut) as there:
        result = await look(there.url, keyword=keyword)
    assert (result.problem, result.message, result.status_code) == ("connection_error", CUT, 200)


async def test_a_bad_status_is_told_although_the_body_breaks_off() -> None:
    for odd in (answer("500 No", body=b"all")[:-1], chunks(b"zz\r\n").replace(b"200 OK", b"500 No")):
        async with serving(odd) as there:
            assert (await look(there.url)).message == "HTTP status 500, expected 2xx"


async def test_a_body_that_hangs_before_its_length_is_a_time_out() -> None:
    async with serving(answer(body=b"all is well")[:-3], "hang") as there:
        assert (await look(there.url, timeout=0.5)).problem == "timeout"


@pytest.mark.parametrize("begun", [said(b"HTTP/1.1 200 OK"), chunks(b"2\r\nok\r\n")])
async def test_a_stream_that_never_ends_is_well_once_it_is_there(begun: bytes) -> None:
    async with serving(begun, "hang") as there:
        assert (await look(there.url, timeout=10)).ok
        assert (await look(there.url, timeout=10, keyword="ok")).ok
        assert (await look(there.url, timeout=1.5, keyword="no")).problem == "timeout"


# ------------------------------------------------------------------------------------------------------------ packing


def raw_deflate(body: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-15)
    return packing.compress(body) + packing.flush()


PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("identity, gzip", gzip.compress),
    ("deflate, br", lambda body: brotli.compress(zlib.compress(body))),
]


@pytest.mark.parametrize(("named", "pack"), PACKED)
async def test_a_body_that_comes_packed_although_nobody_asked_is_read(
    named: str, pack: Callable[[bytes], bytes]
) -> None:
    page = answer(body=pack(b"all is well " * 1000), **{"Content-Encoding": named})
    async with serving(page) as there:
        assert (await look(there.url, keyword="is well")).ok
        assert (await look(there.url, keyword="is bad")).message == "Keyword 'is bad' not found"


async def test_a_packed_transfer_is_read_too() -> None:
    packed = gzip.compress(b"all is well")
    page = chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed), wrapping=b"gzip, chunked")
    async with serving(page) as there:
        assert (await look(there.url, keyword="is well")).ok
        assert (await look(there.url)).ok


def bomb(named: str) -> bytes:
    """64 MiB of nothing, and one word at its end."""
    if named == "br":
        return bytes(brotli.compress(bytes(64 * MEBIBYTE) + b"late", quality=2))
    packing = zlib.compressobj(6, wbits=31 if named == "gzip" else 15)
    parts = [packing.compress(bytes(MEBIBYTE)) for _ in range(64)]
    return b"".join([*parts, packing.compress(b"late"), packing.flush()])


@pytest.mark.parametrize("named", ["gzip", "deflate", "br"])
async def test_a_bomb_is_a_failed_check_that_costs_neither_time_nor_memory(named: str) -> None:
    page = answer(body=bomb(named), **{"Content-Encoding": named})
    async with serving(page) as there:
        began = time.process_time()
        result = await look(there.url, keyword="late")
        took = time.process_time() - began
    assert (result.problem, result.message) == ("keyword", "Keyword 'late' not found in the first 1 MiB")
    assert took < 1
    unpacked, whole = content_encoding.decoded(page.partition(b"\r\n\r\n")[2], [named.encode()], MEBIBYTE)
    assert (len(unpacked), whole) == (MEBIBYTE, False)


@pytest.mark.parametrize(
    ("named", "body", "words"),
    [
        ("zstd", b"(\xb5/\xfd", "the body is packed as 'zstd', which was not asked for and cannot be read"),
        ("gzip", b"all is well", "the body is not what its Content-Encoding says"),
        ("br", b"all is well, and more than well", "the body is not what its Content-Encoding says"),
        ("gzip, gzip, gzip, gzip, gzip", b"", "the body is packed 5 times"),
    ],
)
async def test_what_cannot_be_unpacked_is_said(named: str, body: bytes, words: str) -> None:
    async with serving(answer(body=body, **{"Content-Encoding": named})) as there:
        result = await look(there.url, keyword="well")
        assert (result.problem, result.message) == ("keyword", f"Keyword 'well' not found: {words}")
        assert (await look(there.url)).ok  # what nobody reads need not be readable


async def test_a_packed_body_that_breaks_off_says_so_where_the_keyword_was_not_before() -> None:
    packed = gzip.compress(b"all is well" + bytes(range(256)) * 50)
    async with serving(answer(body=packed[:-40], **{"Content-Encoding": "gzip"})) as there:
        assert (await look(there.url, keyword="is well")).ok
        result = await look(there.url, keyword="is bad")
    assert result.message == "Keyword 'is bad' not found in what could be unpacked: the body breaks off"


def test_many_small_gzip_members_are_no_work_without_end() -> None:
    began = time.process_time()
    _, whole = content_encoding.decoded(gzip.compress(b"") * 50_000, [b"gzip"], MEBIBYTE)
    assert not whole
    assert time.process_time() - began < 1


# ----------------------------------------------------------------------------------------------------------- keywords


META = '<!DOCTYPE html><html><head><meta charset="{}"><title>'
OLD_META = '<meta http-equiv="Content-Type" content="text/html; charset={}">'


def page(text: str, codec: str, content_type: str = "text/html", mark: bytes = b"") -> bytes:
    return answer(body=mark + text.encode(codec), **{"Content-Type": content_type})


@pytest.mark.parametrize(
    ("given", "keyword"),
    [
        (page("größer", "latin-1", 'text/html; charset="ISO-8859-1"'), "größer"),
        (page("12 €", "cp1252", "text/html; charset=iso-8859-1"), "12 €"),
        (page("größer", "utf-8", "text/html; charset=nobody-knows"), "größer"),
        (page("größer", "utf-8", "text/html; charset=rot13"), "größer"),
        (page("一切正常", "gbk", "text/html; charset=GBK"), "正常"),
        (page("一切正常", "gb2312", "text/html; charset=gb2312"), "正常"),
        (page("一切正常😀", "gb18030", "text/html;charset=gb18030"), "正常😀"),
        (page("一切正常", "big5", "text/html; charset=Big5"), "正常"),
        (page("すべて正常", "cp932", "text/html; charset=Shift_JIS"), "正常"),
        (page("すべて正常", "euc-jp", "text/html; charset=EUC-JP"), "正常"),
        (page("すべて正常", "iso2022_jp", "text/html; charset=ISO-2022-JP"), "正常"),
        (page("모두 정상", "cp949", "text/html; charset=euc-kr"), "정상"),
        (page("всё хорошо", "cp1251", "text/html; charset=windows-1251"), "хорошо"),
        (page("всё хорошо", "koi8-r", "text/html; charset=KOI8-R"), "хорошо"),
        (page("όλα καλά", "iso8859-7", "text/html; charset=iso-8859-7"), "καλά"),
        (page("all is well", "utf-16-le", "text/html; charset=utf-16"), "is well"),
        (page("all is well", "utf-16-be", "text/html; charset=utf-16be"), "is well"),
        (page("all is wéll", "utf-16-le", "text/html", codecs.BOM_UTF16_LE), "is wéll"),
        (page("all is wéll", "utf-16-be", "text/html; charset=latin1", codecs.BOM_UTF16_BE), "is wéll"),
        (page("all is wéll", "utf-8", "text/html; charset=latin1", codecs.BOM_UTF8), "all is wéll"),
        (page(META.format("gbk") + "一切正常", "gbk"), "正常"),
        (page(META.format("utf-8") + "一切正常", "gbk", "text/html; charset=gbk"), "正常"),
        (page(OLD_META.format("windows-1251") + "хорошо", "cp1251"), "хорошо"),
        (page("<!-- <meta charset=gbk> -->" + META.format("koi8-r") + "хорошо", "koi8-r"), "хорошо"),
        (page(META.format("utf-16") + "größer", "utf-8"), "größer"),
        (page('<?xml version="1.0" encoding="windows-1251"?><a>хорошо</a>', "cp1251", "text/xml"), "хорошо"),
        (page("größer", "utf-8", ""), "größer"),
    ],
)
async def test_a_keyword_is_found_in_the_page_s_own_charset(given: bytes, keyword: str) -> None:
    async with serving(given) as there:
        assert (await look(there.url, keyword=keyword)).ok
        assert (await look(there.url, keyword=keyword + "!")).problem == "keyword"


@pytest.mark.parametrize("written", ["Fish &amp; Chips", "Fish &#38; Chips", "Fish &#x26; Chips", "Fish &AMP Chips"])
async def test_a_keyword_is_found_where_the_page_writes_it_with_entities(written: str) -> None:
    async with serving(page(f"<p>{written}", "utf-8")) as there:
        assert (await look(there.url, keyword="Fish & Chips")).ok
        assert (await look(there.url, keyword=written)).ok


@pytest.mark.parametrize(
    ("body", "keyword"),
    [
        (b"<p>Sch\xf6ne Gr\xfc\xdfe \x80", "Schöne Grüße €"),  # as windows-1252, which the page does not say
        (b"<p>Caf\xe9", "Café"),
        ("<p>Grüße aus Köl".encode() + "n\u00e4".encode()[:2], "Grüße aus Kö"),  # cut off within a letter
        (b"<p>All&nbsp;systems&#160;go", "All systems go"),
        ("<p>All\u00a0systems".encode(), "All systems"),
        (b"<p>All systems", "All\u00a0systems"),
        ("<p>Cafe\u0301 ouvert".encode(), "Caf\u00e9 ouvert"),
        ("<p>Caf\u00e9 ouvert".encode(), "Cafe\u0301 ouvert"),
        (b"<p>Cafe&#769; ouvert", "Café ouvert"),
        ("<p>\u1112\u1161\u11ab\u1100\u1173\u11af".encode(), "한글"),
    ],
)
def test_a_keyword_is_found_where_people_see_it(body: bytes, keyword: str) -> None:
    assert page_text.contains(body, b"text/html", keyword)
    assert not page_text.contains(body, b"text/html", keyword + "x")


def test_what_a_page_says_of_its_charset_comes_before_what_its_bytes_look_like() -> None:
    assert page_text.charset(b"Caf\xe9", b"text/html; charset=utf-8") == ("utf-8", 0)
    assert page_text.charset(b"<meta charset=utf-8>Caf\xe9", b"") == ("utf-8", 0)
    assert page_text.charset("Café".encode(), b"") == ("utf-8", 0)


async def test_a_keyword_in_half_of_two_letters_is_none() -> None:
    async with serving(page("挂牌", "gbk", "text/html; charset=gbk")) as there:  # B9D2 C5C6
        assert not page_text.contains("挂牌".encode("gbk"), b"text/html; charset=gbk", b"\xd2\xc5".decode("gbk"))
        assert (await look(there.url, keyword="牌")).ok


async def test_a_keyword_beyond_the_first_mebibyte_is_said_to_be_so() -> None:
    async def result(body: bytes) -> Result:
        async with site(says(answer(body=body))) as port:
            return await look(f"http://127.0.0.1:{port}/", keyword="late")

    assert (await result(b"." * MEBIBYTE + b"late")).message == "Keyword 'late' not found in the first 1 MiB"
    assert (await result(b"." * (MEBIBYTE - 4) + b"late and more")).ok
    assert (await result(b"." * 1000)).message == "Keyword 'late' not found"


def test_names_of_charsets_that_nobody_knows_are_not_asked_of_the_interpreter() -> None:
    asked: list[str] = []
    codecs.register(hook := lambda name: asked.append(name))  # type: ignore[func-returns-value]
    try:
        for number in range(100):
            assert page_text.charset(b"", b"text/html; charset=made-up-%d" % number) == ("utf-8", 0)
            assert page_text.contains(b"<meta charset=made-up-too-%d> well" % number, b"", "well")
    finally:
        codecs.unregister(hook)
    assert asked == []


def worst() -> Iterator[tuple[str, bytes]]:
    yield "utf-8", b"&amp" * (MEBIBYTE // 4)
    yield "utf-8", b"&" + b"a" * MEBIBYTE
    yield "utf-8", b"&abcdefghijklmnopqrstuvwxyzabcdef" * (MEBIBYTE // 33)
    yield "utf-8", b"<meta " * (MEBIBYTE // 6)
    yield "utf-8", "a\u0301".encode() * (MEBIBYTE // 3)
    yield "utf-8", "\u0301\u0316".encode() * (MEBIBYTE // 4)
    yield "utf-8", "\u0316".encode() * (MEBIBYTE // 4) + "\u0301".encode() * (MEBIBYTE // 4)
    yield "utf-8", "&#769;é\u1100\u1161".encode() * (MEBIBYTE // 14)
    for named in sorted(set(page_text.CHARSETS.values())):
        for unit in (b"\xff", b"\x81", b"\x00\xd8"):
            yield named, unit * (MEBIBYTE // len(unit))


async def test_the_worst_pages_are_searched_without_holding_up_anybody() -> None:
    slowest = 0.0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal slowest
        while not done.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            slowest = max(slowest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    for named, body in worst():
        began = time.process_time()
        await asyncio.to_thread(
            page_text.contains, body[:MEBIBYTE], f"text/html; charset={named}".encode(), "Fish & Chips"
        )
        assert time.process_time() - began < 1, named
    done.set()
    await watching
    assert slowest < 0.5
