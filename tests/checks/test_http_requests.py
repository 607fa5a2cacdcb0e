"""What a check sends: method, headers, body, credentials, and to whom; compared with what curl sends there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from tests.curl import Said, curl
from tests.sites import AGENT, LOOPBACK, Talk, answer, look, says, site
from tocsin.checks import base
from tocsin.checks.base import MASK, CheckContext
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Result, Target
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard

SECRET = "s3ntinel-t0ken"


def listens(asked: list[bytes], reply: Callable[[bytes], bytes] = lambda head: answer()) -> Talk:
    """Keeps whole requests, body included, and answers each as `reply` says."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        asked.append(head + await reader.readexactly(length))
        writer.write(reply(head))
        await writer.drain()

    return talk


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def line_of(request: bytes) -> str:
    return request.partition(b"\r\n")[0].decode()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_method_and_body_arrive_as_curl_sends_them(method: str) -> None:
    asked: list[bytes] = []
    fields: dict[str, Any] = {"method": method} | ({"body": "a=1&b=ü"} if method != "HEAD" else {})
    async with site(listens(asked)) as port:
        url = f"http://127.0.0.1:{port}/form"
        assert (await look(url, **fields)).ok
        extra = ["--head"] if method == "HEAD" else ["--request", method, "--data", "a=1&b=ü"]
        assert await curl(*extra, url) == Said(0, 200)
    ours, theirs = asked
    assert line_of(ours) == line_of(theirs)
    assert ours.partition(b"\r\n\r\n")[2] == theirs.partition(b"\r\n\r\n")[2]
    for name in ("content-length", "content-type", "host"):
        assert headers_of(ours).get(name) == headers_of(theirs).get(name)


async def test_a_body_that_is_json_is_sent_as_json_unless_the_headers_say_otherwise() -> None:
    asked: list[bytes] = []
    async with site(listens(asked)) as port:
        url = f"http://127.0.0.1:{port}/"
        await look(url, method="POST", body='{"a": [1]}')
        await look(url, method="POST", body='{"a": [1]}', headers={"content-type": "application/vnd.api+json"})
        await look(url, method="POST")
    assert [headers_of(each).get("content-type") for each in asked] == [
        "application/json", "application/vnd.api+json", None,
    ]  # fmt: skip
    assert headers_of(asked[2])["content-length"] == "0"


async def test_own_headers_replace_ours_and_credentials_are_those_of_curl() -> None:
    asked: list[bytes] = []
    async with site(listens(asked)) as port:
        url = f"http://127.0.0.1:{port}/"
        await look(url, headers={"X-Api-Key": SECRET, "user-agent": "Mine/1", "Host": "shop.example.com"})
        await look(url, username="ann", password="pässword")
        await curl("--user", "ann:pässword", url)
        await look(url, token=SECRET)
        await curl("--oauth2-bearer", SECRET, url)
    heads = [headers_of(each) for each in asked]
    assert (heads[0]["x-api-key"], heads[0]["user-agent"], heads[0]["host"]) == (SECRET, "Mine/1", "shop.example.com")
    assert asked[0].lower().count(b"user-agent") == asked[0].lower().count(b"host") == 1
    assert heads[1]["authorization"] == heads[2]["authorization"]
    assert heads[3]["authorization"] == heads[4]["authorization"] == f"Bearer {SECRET}"
    assert heads[1]["user-agent"] == AGENT


async def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    async with site(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as port:
        url = f"http://127.0.0.1:{port}/"
        assert (await look(url, method="HEAD")).ok
        assert await curl("--head", url) == Said(0, 200)
        assert (await look(url)).problem == "connection_error"
        assert (await curl(url)).exit == 18


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_redirect_changes_method_and_body_as_the_protocol_says(status: int, method: str) -> None:
    asked: list[bytes] = []

    def reply(head: bytes) -> bytes:
        return answer() if b"/there" in line_of(head).encode() else answer(f"{status} Moved", Location="/there")

    async with site(listens(asked, reply)) as port:
        url = f"http://127.0.0.1:{port}/"
        assert (await look(url, method=method, body="a=1")).ok
        if method == "POST":
            assert await curl("--location", "--data", "a=1", url) == Said(0, 200)
            assert line_of(asked[1]) == line_of(asked[3])
            assert asked[1].partition(b"\r\n\r\n")[2] == asked[3].partition(b"\r\n\r\n")[2]
    kept = status in (307, 308) or (method == "PUT" and status != 303)
    assert line_of(asked[1]) == f"{method if kept else 'GET'} /there HTTP/1.1"
    assert asked[1].endswith(b"\r\n\r\na=1" if kept else b"\r\n\r\n")


async def test_secrets_are_never_sent_to_another_host_after_a_redirect() -> None:
    elsewhere: list[bytes] = []
    home: list[bytes] = []
    async with site(listens(elsewhere, lambda head: answer("401 Unauthorized"))) as other:
        there = f"http://127.0.0.1:{other}/login"
        async with site(listens(home, lambda head: answer("302 Found", Location=there))) as port:
            url = f"http://127.0.0.1:{port}/"
            fields: dict[str, Any] = {"headers": {"X-Api-Key": SECRET, "Cookie": f"a={SECRET}"}, "token": SECRET}
            result = await look(url, **fields)
            assert await curl("--location", "--oauth2-bearer", SECRET, url) == Said(0, 401)
    assert len(elsewhere) == len(home) == 2
    assert all(SECRET.encode() in each for each in home)
    assert not any(SECRET.encode() in each for each in elsewhere)
    assert result.message is not None
    assert "401" in result.message
    assert "give the address that it redirects to" in result.message


async def test_secrets_go_on_with_a_redirect_within_the_host_and_come_back_to_it() -> None:
    asked: list[bytes] = []
    ports: list[int] = []

    def reply(head: bytes) -> bytes:
        path = line_of(head).split()[1]
        to = {"/": "/second", "/second": f"http://127.0.0.1:{ports[1]}/", "/third": None}[path]
        return answer() if to is None else answer("302 Found", Location=to)

    async with site(listens(asked, reply)) as port:
        back = answer("302 Found", Location=f"http://127.0.0.1:{port}/third")
        async with site(says(back)) as other:
            ports += [port, other]
            assert (await look(f"http://127.0.0.1:{port}/", token=SECRET)).ok
    assert [headers_of(each).get("authorization") for each in asked] == [f"Bearer {SECRET}"] * 3


async def test_redirects_that_are_not_to_be_followed_are_the_answer() -> None:
    asked: list[bytes] = []
    async with site(listens(asked, lambda head: answer("302 Found", Location="/there"))) as port:
        url = f"http://127.0.0.1:{port}/"
        result = await look(url, follow_redirects=False)
        assert await curl(url) == Said(0, 302)
        assert (await look(url, follow_redirects=False, expected_status="3xx")).ok
    assert (result.problem, result.message) == ("http_status", "HTTP status 302, expected 2xx")
    assert len(asked) == 3


@pytest.mark.parametrize(
    "fields",
    [{"headers": {"X-Api-Key": SECRET}}, {"username": "ann", "password": SECRET}, {"token": SECRET}],
    ids=lambda fields: next(iter(fields)),
)
async def test_secrets_that_a_site_repeats_are_in_nothing_that_is_said(fields: dict[str, Any]) -> None:
    def reply(head: bytes) -> bytes:
        sent = headers_of(head)
        told = sent.get("authorization", "") + sent.get("x-api-key", "")
        return answer(f"500 {SECRET}", body=f'{{"a": "{SECRET} {told}"}}'.encode(), **{"X-Echo": f"{told} {SECRET}"})

    async with site(listens([], reply)) as port:
        url = f"http://127.0.0.1:{port}/"
        results = [
            await look(url, **fields),
            await look(url, expected_status=500, json_path="$.a", json_value="b", **fields),
            await thorough(url, **fields),
        ]
    for result in results:
        assert not result.ok
        assert SECRET not in repr(result)
        assert "YW5uOn" not in repr(result)
        assert result.evidence is not None
        assert result.evidence.request_headers is not None
        assert MASK in result.evidence.request_headers.values()


async def thorough(url: str, **fields: Any) -> Result:
    return await look(url, CheckContext(Dialer(Guard(LOOPBACK)), AGENT, thorough=True), **fields)


async def test_a_thorough_check_shows_a_good_answer_too() -> None:
    async with site(says(answer(body="größer".encode()))) as port:
        result = await thorough(f"http://127.0.0.1:{port}/")
    assert result.ok
    assert result.body == "größer"
    assert result.evidence is not None
    assert (result.evidence.response, result.evidence.request) == ("200 OK", f"GET http://127.0.0.1:{port}/")


async def test_certificates_are_not_judged_where_that_is_not_wanted() -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("www.example.com").configure_cert(server)
    async with site(says(answer()), tls=server) as port:
        url = f"https://127.0.0.1:{port}/"
        refused, taken = await look(url), await look(url, verify_tls=False)
        assert ((await curl(url)).exit, await curl("--insecure", url)) == (60, Said(0, 200))
    assert (refused.problem, taken.ok) == ("tls_error", True)


async def test_one_family_of_addresses_is_used_where_that_is_wanted() -> None:
    async with site(says(answer()), host="127.0.0.1") as port:
        url = f"http://localhost:{port}/"
        for version, good in ((4, True), (6, False), (None, True)):
            result = await look(url, ip_version=version)
            said = await curl(*([f"-{version}"] if version else []), url)
            assert result.ok is good is (said.exit == 0)
        assert result.response_ms is not None
    async with site(says(answer()), host="::1") as port:
        assert (await look(f"http://[::1]:{port}/", ip_version=6)).ok


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"headers": {"Content-Length": "3"}}, "headers"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers"),
        ({"headers": {"X\r\nY": "a"}}, "headers"),
        ({"headers": {"": "a"}}, "headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers"),
        ({"headers": {"X": "a", "x": "b"}}, "headers"),
        ({"headers": {f"X-{n}": "a" for n in range(21)}}, "headers"),
        ({"headers": {"X": "a" * 2001}}, "headers"),
        ({"headers": {"Authorization": "a"}, "token": "b"}, "headers"),
        ({"body": "a" * 20_001}, "body"),
        ({"body": "a\x00"}, "body"),
        ({"method": "HEAD", "body": "a"}, "body"),
        ({"method": "HEAD", "keyword": "a"}, "keyword"),
        ({"method": "HEAD", "json_path": "$"}, "json_path"),
        ({"password": "a"}, "password"),
        ({"username": "a:b", "password": "c"}, "username"),
        ({"username": "a", "token": "b"}, "token"),
        ({"token": "a b"}, "token"),
        ({"token": ""}, "token"),
        ({"keyword_absent": ""}, "keyword_absent"),
        ({"keyword": "a", "keyword_absent": "a"}, "keyword_absent"),
        ({"json_path": "status"}, "json_path"),
        ({"json_path": "$[?match(@.a, '(a+)+b')]"}, "json_path"),
        ({"json_path": "$." + "a" * 500}, "json_path"),
        ({"json_value": "ok"}, "json_value"),
        ({"max_response_ms": 0}, "max_response_ms"),
        ({"max_response_ms": 10**9}, "max_response_ms"),
        ({"tls_days": -1}, "tls_days"),
        ({"tls_days": 366}, "tls_days"),
        ({"ip_version": 6}, "ip_version"),
    ],
)
def test_what_cannot_be_sent_or_looked_for_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        base.types()["http"].validate(Target("https://192.0.2.1/", "http", 30, fields))
    assert [detail.field for detail in refused.value.details] == [field]
