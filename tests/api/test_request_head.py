"""What the server takes for a request, and what never: no byte of a body is a request, and each gets one answer."""

from __future__ import annotations

import asyncio
import json
import subprocess

import httpx
import pytest

from tests.calls import alarm, new_server
from tests.needed import program
from tests.raw_http import GET, INCIDENTS, LAST, LIVE, answers, ask, dial, is_refusal, port_of, post
from tests.service import Service

SMUGGLED = GET % b"/api/docs"


# ------------------------------------------------------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 33_000 + b"\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 33_000,
        b"GET /" + b"x" * 33_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"x" * 33_000,
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + b"X-Many: y\r\n" * 100 + b"\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + b"A:\r\n" * 200_000,
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + (b"X-Long: " + b"x" * 500 + b"\r\n") * 70 + b"\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + b"X-%d: y\r\n" * 4 % (1, 2, 3, 4) + b"x" * (16 << 20),
    ],
    ids=["line", "endless line", "target", "endless target", "101 headers", "200,000 headers", "70 lines", "16 MB"],
)
async def test_a_head_beyond_its_bounds_is_refused_in_the_words_of_all_refusals(service: Service, head: bytes) -> None:
    said = await ask(port_of(service), head)
    assert len(said) == 1
    assert is_refusal(said[0], 431), said


async def test_a_head_within_its_bounds_is_answered(service: Service) -> None:
    long = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: " + b"x" * 32_000 + b"\r\n\r\n"
    many = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + b"X-Many: y\r\n" * 98 + b"\r\n"
    for head in (long, many):
        for size in (len(head), 1000, 97):
            parts = [head[at : at + size] for at in range(0, len(head), size)]
            assert [each.status for each in await ask(port_of(service), *parts)] == [200]


async def test_a_head_behind_a_long_body_has_bounds_of_its_own(service: Service) -> None:
    body = b" " * 50_000
    first = post(b"Content-Length: 50000", b"Authorization: Bearer none", body=body)
    for more, then in ((30_000, 200), (33_000, 431)):
        head = LAST[:-2] + b"X: " + b"x" * more + b"\r\n\r\n"
        said = await ask(port_of(service), first + head, methods=("POST",))
        assert [each.status for each in said] == [401, then]


async def test_trailers_and_extensions_of_chunks_have_bounds(service: Service) -> None:
    open_door = b"/api/v1/users/sign_in"
    body = b"2;a=b\r\n{}\r\n0\r\nX-Trailer: y\r\n\r\n"
    small = post(b"Transfer-Encoding: chunked", b"Connection: close", path=open_door, body=body)
    said = await ask(port_of(service), small, methods=("POST",))
    assert [(each.status, each.json["error"]) for each in said] == [(400, "invalid_request")]
    assert "chunks" not in said[0].json["message"]
    for endless in (b"2\r\n{}\r\n0\r\nX-Trailer: " + b"y" * (4 << 20), b"2;" + b"a" * (4 << 20)):
        said = await ask(port_of(service), post(b"Transfer-Encoding: chunked", path=open_door, body=endless))
        assert len(said) == 1
        assert is_refusal(said[0], 400), said


# ---------------------------------------------------------------------------------------------------------- smuggling


CHUNKED = b"0\r\n\r\n"
TWICE = {
    "two hosts": (post(b"Host: other.example.com"), 400),
    "no host": (post(host=b"X: y"), 400),
    "a host that is none": (post(host=b"Host: a b"), 400),
    "a host with a path": (post(host=b"Host: a/b"), 400),
    "two lengths": (post(b"Content-Length: 0", b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), 400),
    "the same length twice": (post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"), 400),
    "a list of lengths": (post(b"Content-Length: 0, 0", body=SMUGGLED), 400),
    "a length with a sign": (post(b"Content-Length: +5", body=SMUGGLED), 400),
    "a length below nothing": (post(b"Content-Length: -1", body=SMUGGLED), 400),
    "a length in hex": (post(b"Content-Length: 0x10", body=SMUGGLED), 400),
    "a length without end": (post(b"Content-Length: " + b"9" * 30, body=SMUGGLED), 400),
    "length and chunks": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED + SMUGGLED), 400),
    "chunks and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED + SMUGGLED), 400),
    "a coding that we lack": (post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED + SMUGGLED), 501),
    "codings on two lines": (post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=CHUNKED), 501),
    "chunks that are not last": (post(b"Transfer-Encoding: chunked, gzip", body=SMUGGLED), 400),
    "chunks twice": (post(b"Transfer-Encoding: chunked, chunked", body=CHUNKED + SMUGGLED), 400),
    "chunks on two lines": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKED), 400),
    "identity": (post(b"Transfer-Encoding: identity", body=SMUGGLED), 400),
    "almost chunks": (post(b"Transfer-Encoding: xchunked", body=CHUNKED + SMUGGLED), 400),
    "chunks behind a tab": (post(b"Transfer-Encoding: \x0bchunked", body=CHUNKED + SMUGGLED), 400),
    "chunks in quotes": (post(b'Transfer-Encoding: "chunked"', body=CHUNKED + SMUGGLED), 400),
    "chunks of HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED + SMUGGLED, 400
    ),
    "a bare LF behind a size": (post(b"Transfer-Encoding: chunked", body=b"2\n{}\r\n0\r\n\r\n" + SMUGGLED), 400),
    "a bare LF behind a chunk": (post(b"Transfer-Encoding: chunked", body=b"2\r\n{}\n0\r\n\r\n" + SMUGGLED), 400),
    "a bare LF in an extension": (post(b"Transfer-Encoding: chunked", body=b"2;a\n{}\r\n0\r\n\r\n"), 400),
    "a size that is none": (post(b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n" + SMUGGLED), 400),
    "a size without end": (post(b"Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\n{}"), 400),
    "a blank before the colon": (post(b"Content-Length : 5", body=SMUGGLED), 400),
    "a folded line": (post(b"X: a", b" Content-Length: 5", body=SMUGGLED), 400),
    "a first line that is folded": (post(host=b" Host: a"), 400),
    "a NUL": (post(b"X: a\0b"), 400),
    "a control character": (post(b"X: a\x01b"), 400),
    "a bare CR": (post(b"X: a\rContent-Length: 5", body=SMUGGLED), 400),
    "a bare LF": (post(b"X: a\nContent-Length: 5", body=SMUGGLED), 400),
    "no name": (post(b": x"), 400),
    "no colon": (post(b"abc"), 400),
}


@pytest.mark.parametrize(("request_", "status"), TWICE.values(), ids=TWICE)
async def test_what_others_might_read_otherwise_is_refused_and_nothing_behind_it_is_read(
    service: Service, request_: bytes, status: int
) -> None:
    for parts in ([request_ + LAST], [request_[:40], request_[40:], LAST]):
        said = await ask(port_of(service), *parts)
        assert len(said) == 1, said
        assert is_refusal(said[0], status), said


UPGRADES = [
    [b"Connection: upgrade", b"Upgrade: h2c"],
    [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
    [b"Upgrade: websocket", b"Connection: keep-alive, Upgrade", b"Sec-WebSocket-Version: 13"],
    [b"Connection: upgrade", b"Connection: keep-alive", b"Upgrade: TLS/1.0"],
]


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "curl", "websocket", "tls"])
@pytest.mark.parametrize("path", [b"/api/v1/users/sign_in", INCIDENTS])
async def test_a_body_behind_an_upgrade_is_a_body(service: Service, upgrade: list[bytes], path: bytes) -> None:
    wanted = [401] if path == INCIDENTS else [400]
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    lengths = [(b"Content-Length: %d" % len(SMUGGLED), SMUGGLED), (b"Transfer-Encoding: chunked", chunks)]
    for length, body in lengths:
        head = post(*upgrade, length, path=path)
        pieces = [[head + body], [head, body], [head + body[:5], body[5:], LAST], [head[:50], head[50:], body + LAST]]
        for parts in pieces:
            said = await ask(port_of(service), *parts, methods=("POST",))
            assert [each.status for each in said] == wanted
            assert said[0].headers["connection"] == "close"


async def test_an_upgrade_that_is_passed_over_does_what_was_asked(service: Service, client: httpx.AsyncClient) -> None:
    server = await new_server(client)
    for kind, path in (("upgraded", INCIDENTS), ("upgraded_too", INCIDENTS + b"?a=b")):
        body = json.dumps({"incident": alarm(server, kind)}).encode()
        token = f"Authorization: Bearer {service.token}".encode()
        asked = post(*UPGRADES[0], token, b"Content-Length: %d" % len(body), body=body, path=path)
        said = await ask(port_of(service), asked, methods=("POST",))
        assert [(each.status, each.json["incident_type"]) for each in said] == [(201, kind)]


# -------------------------------------------------------------------------------------------------- odd but readable


ODD = {
    "absolute form": (b"GET http://example.com/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
    "with a query": (b"GET http://a:8000/health/live?a=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
    "without a path": (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204),
    "another scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a port that is none": (b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204),
    "GET *": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 400),
    "HTTP/2.0 in words": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no method": (b"nonsense / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a method for elsewhere": (b"SOURCE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
    "empty lines first": (b"\r\n\r\n" + LAST, 200),
    "HTTP/1.0": (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
    "an empty host": (b"GET /health/live HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 200),
    "two slashes": (b"GET //example.com/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
    "a letter outside ASCII": ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
}


@pytest.mark.parametrize(("request_", "status"), ODD.values(), ids=ODD)
async def test_odd_requests_get_one_sane_answer(service: Service, request_: bytes, status: int) -> None:
    said = await ask(port_of(service), request_)
    assert [each.status for each in said] == [status]


async def test_many_requests_that_do_not_wait_are_all_answered_in_their_order(service: Service) -> None:
    paths = [b"/health/live", b"/nowhere", b"/health/live?a=b"]
    asked = [GET % paths[number % 3] for number in range(3000)]
    body = b'{"x": "' + b"y" * 20_000 + b'"}'
    asked += [post(b"Content-Length: %d" % len(body), body=body), LAST]
    said = await ask(port_of(service), b"".join(asked), methods=("GET",) * 3000 + ("POST",))
    assert [each.status for each in said] == [200, 404, 200] * 1000 + [401, 200]


async def test_nonsense_behind_a_request_is_refused_when_its_turn_comes(service: Service) -> None:
    for number in (1, 5, 300):
        said = await ask(port_of(service), GET % LIVE * number + b"nonsense\r\n\r\n" + GET % LIVE)
        assert [each.status for each in said] == [200] * number + [400]


async def test_after_a_last_request_nothing_is_answered(service: Service) -> None:
    said = await ask(port_of(service), LAST + GET % LIVE + b"nonsense")
    assert [each.status for each in said] == [200]


# --------------------------------------------------------------------------------------------------------------- curl


def curl(service: Service, path: str, *arguments: str) -> list[str]:
    """What curl makes of the answer: its status, and its body."""
    done = subprocess.run(
        [program("curl"), "-sS", "-m", "30", "-w", "\n%{http_code}", *arguments, service.url + path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.rsplit("\n", 1)[::-1]


@pytest.mark.parametrize(
    "how",
    [["--http1.1"], ["--http2"], ["--http1.0"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"],
     ["--http2", "-H", "Expect: 100-continue"], ["--request-target", "http://tocsin.example.com/api/v1/incidents"]],
    ids=["1.1", "h2c", "1.0", "expect", "chunked", "h2c and expect", "absolute"],
)  # fmt: skip
async def test_curl_is_answered_whatever_way_it_asks(
    service: Service, client: httpx.AsyncClient, how: list[str]
) -> None:
    server = await new_server(client)
    body = json.dumps({"incident": {**alarm(server, "by_curl"), "message": "x" * 1900}})
    token = ["-H", f"Authorization: Bearer {service.token}", "-H", "Content-Type: application/json"]
    status, said = await asyncio.to_thread(curl, service, "/api/v1/incidents", *how, *token, "-d", body)
    assert (status, json.loads(said)["incident_type"]) == ("201", "by_curl")


async def test_curl_reads_a_refusal_though_it_still_has_much_to_send(service: Service) -> None:
    header = "X-Long: " + "x" * 60_000
    status, said = await asyncio.to_thread(curl, service, "/health/live", "-H", header)
    assert (status, json.loads(said)["error"]) == ("431", "head_too_large")


async def test_who_still_sends_gets_to_read_the_last_answer(service: Service) -> None:
    for path in (b"/nowhere", INCIDENTS):
        head = post(b"Content-Length: 3000000", b"Connection: close", path=path)
        for _ in range(5):
            said = await ask(port_of(service), head, *[b" " * 100_000] * 30, methods=("POST",), pause=0.001)
            assert [each.status for each in said] in ([401], [404])


async def test_a_caller_who_leaves_in_the_middle_is_no_error_in_the_log(service: Service) -> None:
    before = len(service.api.said())
    form = b"Content-Type: application/x-www-form-urlencoded"
    bodies = [
        post(b"Content-Length: 1000", body=b"{"),
        post(b"Content-Length: 1000", body=b"{", path=b"/api/v1/users/sign_in"),
        post(b"Content-Length: 200000", b"Authorization: Bearer " + service.token.encode(), body=b"{" + b" " * 90_000),
        post(b"Transfer-Encoding: chunked", body=b"5\r\n{", path=b"/api/v1/users/sign_in"),
        post(b"Content-Length: 100", form, body=b"email=", path=b"/sign-in"),
        post(b"Content-Length: 1000", b"Expect: 100-continue", path=b"/api/v1/users/sign_in"),
        b"GET /health/live HTTP/1.1\r\nHos",
    ]
    for body in bodies:
        for kind in ("reset", "end"):
            wire = await dial(port_of(service))
            await wire.send(body)
            await ask(port_of(service), LAST)
            if kind == "end":
                wire.writer.close()
                await wire.writer.wait_closed()
            wire.close()
            assert answers(await wire.rest()) == [] if kind == "end" else True
    for _ in range(3):
        assert [each.status for each in await ask(port_of(service), LAST)] == [200]
    assert service.api.said()[before:] == ""
