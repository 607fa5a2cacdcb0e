"""Hosts and URLs: read as browsers and curl read them, sent as they were given, refused before anything is stored."""

from __future__ import annotations

import string
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.browser import chromium
from tests.recorder import LOOPBACK, curl, here, recorder
from tocsin import settings as our_settings
from tocsin.checks import base as checks
from tocsin.checks.base import CheckContext
from tocsin.domain import hosts, urls
from tocsin.domain.errors import Refused
from tocsin.domain.monitors import Target
from tocsin.integrations.ssh_server_restart import SshServerRestartIntegration
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.transports.dial import Dialer
from tocsin.transports.endpoint import MAX_REMEMBERED_LENGTH, endpoint
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http, Unreachable
from tocsin.transports.ssh import Login, Ssh, SshFailed
from tocsin.transports.ssh import place as ssh_place


async def post(port: int, *addresses: str) -> None:
    http = Http(Guard(LOOPBACK), resolve=here)
    for each in addresses:
        await http.post(each, b"", {"Connection": "close"})
    await http.close()


# ------------------------------------------------------------------------------------------------- path, query, Host

SENT = [
    ("/a%3Ab?back=https%3A%2F%2Fx", "/a%3Ab?back=https%3A%2F%2Fx"),
    ("", "/"),
    ("?q=1", "/?q=1"),
    ("/?", "/?"),
    ("/a?#part", "/a?"),
    ("/%7euser/%e4%E4", "/%7euser/%e4%E4"),
    ("/a+b?c+d=%20&&=", "/a+b?c+d=%20&&="),
    ("/a//b//", "/a//b//"),
    ("/a/../b/./c/..", "/b/"),
    ("/../..", "/"),
    ("/a/%2e%2e/b", "/a/%2e%2e/b"),
    ("/a;x=1/..;y/b;z?q=../..", "/a;x=1/..;y/b;z?q=../.."),
    ("/a@b:c!$&'()*,=", "/a@b:c!$&'()*,="),
    ("/\"<>{}|^`?\"<>{}|^`'", "/\"<>{}|^`?\"<>{}|^`'"),
    ("/%", "/%"),
    ("/%zz?%", "/%zz?%"),
    ("/a\\b", "/a\\b"),
    ("/ä?x", "/%C3%A4?x"),
    ("/…/👩‍💻", "/%E2%80%A6/%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB"),
]


async def test_an_address_goes_out_as_it_was_given_and_as_curl_sends_it() -> None:
    async with recorder() as (port, asked):
        addresses = [f"http://example.com:{port}{given}" for given, _ in SENT]
        await post(port, *addresses)
        ours, asked[:] = list(asked), []
        await curl(port, *addresses)
    assert [line for line, _ in ours] == [f"{sent} HTTP/1.1".encode() for _, sent in SENT]
    escapes_small = [(line.replace(b"%c3%a4", b"%C3%A4"), host) for line, host in asked]
    for (wished, _), mine, theirs in zip(SENT, ours, escapes_small, strict=True):
        assert (mine[0].lower(), mine[1]) == (theirs[0].lower(), theirs[1]), wished


async def test_what_cannot_travel_in_a_query_is_percent_encoded_as_browsers_do() -> None:
    async with recorder() as (port, asked):
        await post(port, f"http://example.com:{port}/?q=ö&r=例")
    assert asked[0][0] == b"/?q=%C3%B6&r=%E4%BE%8B HTTP/1.1"


HOSTS = {
    "example.com": "example.com",
    "example.com.": "example.com.",
    "a_b.example": "a_b.example",
    "a-.example": "a-.example",
    "ab--c.example": "ab--c.example",
    "straße.example": "xn--strae-oqa.example",
    "faß.example": "xn--fa-hia.example",
    "xn--strae-oqa.example": "xn--strae-oqa.example",
    "例え.invalid": "xn--r8jz45g.invalid",
    "例え。example": "xn--r8jz45g.example",
    "ｅｘａｍｐｌｅ.com": "example.com",
    "BÜCHER.example": "xn--bcher-kva.example",
    "☃.example": "xn--n3h.example",
    "a\u00adb.example": "ab.example",
    "2130706433": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "127.1": "127.0.0.1",
    "１２７.0.0.1": "127.0.0.1",
    "[::1]": "[::1]",
    "[0:0:0:0:0:0:0:1]": "[::1]",
    "[2001:DB8::1]": "[2001:db8::1]",
}
"""As they are given, and as the `Host` header has them."""


async def test_a_host_is_the_one_that_curl_asks_for() -> None:
    async with recorder() as (port, asked):
        addresses = [f"http://{host}:{port}/" for host in HOSTS]
        await curl(port, *addresses)
    theirs = [host.decode().lower().removeprefix("host: ").removesuffix(f":{port}") for _, host in asked]
    assert dict(zip(HOSTS, theirs, strict=True)) == HOSTS
    assert {host: urls.read(f"http://{host}/").authority for host in HOSTS} == HOSTS


async def test_a_host_is_the_one_that_a_browser_goes_to() -> None:
    """Besides curl's: joiners by their context, and numbers that are no address."""
    asked = [*HOSTS, "نامه\u200cای.example", "a\u200db.example", "👩‍💻.example", "1.2.3.256", "1.2.3.4.5", "a.0x4",
             "09", "1.2.3.08", "4294967296", "א1.example", "1א.example", "l·l.example", "127.0.0.1."]  # fmt: skip
    read = "hosts => hosts.map(host => { try { return new URL(`http://${host}/`).host } catch { return null } })"
    async with chromium() as browser:
        theirs = await (await browser.new_page()).evaluate(read, asked)
    ours = []
    for host in asked:
        try:
            ours.append(urls.read(f"http://{host}/").authority)
        except hosts.Unreadable:
            ours.append(None)
    assert dict(zip(asked, ours, strict=True)) == dict(zip(asked, theirs, strict=True))


@pytest.mark.parametrize(
    "host", [*HOSTS, "xn--r8jz45g.example", "FE80::1".lower(), "1.2.3.4", "fd00::1", "::ffff:1.2.3.4"]
)
def test_a_host_in_its_own_form_stays_as_it_is(host: str) -> None:
    own = hosts.read(host)
    assert own.isascii()
    assert hosts.read(own) == own


# ------------------------------------------------------------------------------------------------------- refused: 422

NO_HOSTS = [
    "", 'exa"mple.com', "<b>", "a|b.com", "{a}.com", "a{}.com", "a..b.com", ".", "..", ".com", "example.com..",
    "a" * 64 + ".com", ".".join(["a" * 62] * 5), "-a.com", "a%41b.com", "exam ple.com", "a\\b.com", "a`b.com",
    "a$b.com", "a^b.com", "a*b.com", "a,b.com", "a;b.com", "a=b.com", "a+b.com", "a~b.com", "a!b.com", "a'b.com",
    "a(b).com", "a&b.com", "ex\x00ample.com", "ex\u200bample\u202e.com", "℀.com", "＜b＞.com", "a\u200db.com",
    "\ud800.com", "1.2.3.256", "1.2.3.4.5", "1..2", "256.256.256.256", "0x100000000", "[fe80::1%25eth0]",
    "[fe80::1%eth0]", "[::1%25lo]", "[::1%lo]", "[::1", "::1]", "[]", "[1.2.3.4]", "[v1.a]", "[::g]", "ä" * 60 + ".com",
    "ä" * 300, "𝔞" * 255,
]  # fmt: skip


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused_by_every_type(host: str) -> None:
    for refuse in (
        lambda: WebhookIntegration().parse({"webhook_url": f"https://{host}/hook"}),
        lambda: checks.of("http", "").validate(Target(f"https://{host}/", "http", 10)),
        lambda: checks.of("tcp", "").validate(Target(f"tcp://{host}:25", "tcp", 10)),
        lambda: SshServerRestartIntegration().parse({"ip": host, "username": "root", "password": "x"}),
    ):
        with pytest.raises(Refused) as refused:
            refuse()
        assert refused.value.status == 422
        assert refused.value.details[0].field in ("settings.webhook_url", "url", "settings.ip")
        assert refused.value.message.encode("utf-8", "strict")


async def test_a_host_that_cannot_be_is_refused_before_anything_is_stored(app_client: httpx.AsyncClient) -> None:
    for path, body in (
        ("network_monitors", {"network_monitor": {"url": 'https://exa"mple.com/'}}),
        ("network_monitors", {"network_monitor": {"url": "tcp://a..b.com:25"}}),
        ("integrations", {"integration": {"type": WebhookIntegration.type, "settings": {"webhook_url": "http://<b>/"}}}),
    ):
        answer = await app_client.post(f"/api/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request"), body
        assert WebhookIntegration.type not in str((await app_client.get(f"/api/v1/{path}")).json())
    assert (await app_client.get("/api/v1/network_monitors")).json()["data"] == []


@pytest.mark.parametrize("url", ["http://例え.invalid/", "tcp://例え.invalid:25", "http://xn--r8jz45g.invalid/"])
async def test_a_name_outside_ascii_is_made_and_warned_of_in_one_form(app_client: httpx.AsyncClient, url: str) -> None:
    answer = await app_client.post("/api/v1/network_monitors", json={"network_monitor": {"url": url}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["url"] == url
    assert "xn--r8jz45g.invalid" in answer.headers.get("Tocsin-Warning", "xn--r8jz45g.invalid")
    changed = await app_client.patch(
        f"/api/v1/network_monitors/{answer.json()['uuid']}", json={"network_monitor": {"url": url}}
    )
    assert changed.status_code == 200


@pytest.mark.parametrize("url", ["http://例え.invalid/", "https://straße.invalid/hook"])
async def test_a_webhook_outside_ascii_is_made_and_warned_of(app_client: httpx.AsyncClient, url: str) -> None:
    wanted = {"type": WebhookIntegration.type, "settings": {"webhook_url": url}}
    answer = await app_client.post("/api/v1/integrations", json={"integration": wanted})
    assert answer.status_code == 201, answer.text
    assert answer.json()["settings"]["webhook_url"] == url
    assert answer.headers.get("Tocsin-Warning", "").isascii()


async def test_what_an_older_version_stored_and_is_no_host_fails_in_words() -> None:
    for url in ("http://a..b.example/", "tcp://a|b.example:25"):
        target = Target(url, checks.of(None, url).check_type, 5)
        result = await checks.run_check(target, CheckContext(Dialer(Guard()), "Tocsin/test"))
        assert (result.problem, "its host is not a valid name" in (result.message or "")) == ("connection_error", True)
    http = Http(Guard())
    with pytest.raises(Unreachable, match="its host is not a valid name") as failed:
        await http.post("http://a..b.example/", b"", {})
    assert failed.value.refused
    with pytest.raises(SshFailed, match="names a zone"):
        async with Ssh(Dialer(Guard())).login(Login("fe80::1%eth0", 22, "root", password="x"), None):
            pass
    assert ssh_place("a..b.example.", 22) == "a..b.example:22"


def test_a_name_means_one_host_by_every_type() -> None:
    name, own = "Straße.Example", "xn--strae-oqa.example"
    assert WebhookIntegration().host({"webhook_url": f"https://{name}/"}) == own
    assert checks.host_of(f"http://{name}/") == checks.host_of(f"tcp://{name}:25") == own
    assert SshServerRestartIntegration().host({"ip": name}) == own
    assert ssh_place(name, 22) == ssh_place(f"{own}.", 22) == f"{own}:22"


async def test_an_ip_in_brackets_is_read_by_ssh(app_client: httpx.AsyncClient) -> None:
    wanted = {"ip": "[2001:db8::7]", "username": "root", "password": "x"}
    body = {"type": SshServerRestartIntegration.type, "settings": wanted}
    answer = await app_client.post("/api/v1/integrations", json={"integration": body})
    assert answer.status_code == 201, answer.text
    assert answer.json()["settings"]["ip"] == "[2001:db8::7]"
    assert ssh_place("[2001:db8::7]", 22) == ssh_place("2001:DB8:0::7", 22) == "[2001:db8::7]:22"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOW_NETWORKS", "fe80::%eth0/64"), ("ALLOW_NETWORKS", "10.0.0.0/8,fe80::1%eth0"),
        ("PUBLIC_URL", "http://[fe80::1%25eth0]:8000"), ("SMTP_URL", "smtp://[fe80::1%25eth0]:25"),
        ("SMTP_URL", "smtp://[fe80::1%eth0]"), ("TWILIO_API_URL", "http://[fe80::1%25eth0]/"),
        ("SLACK_API_URL", "http://[fe80::1%eth0]/"), ("SLACK_AUTHORIZE_URL", "http://[fe80::1%eth0]/"),
        ("DATABASE_URL", "postgresql://user@[fe80::1%25eth0]/tocsin"),
    ],
)  # fmt: skip
def test_zones_are_refused_in_every_setting(name: str, value: str, tmp_path: Path) -> None:
    others = {
        "EMAIL_FROM": "tocsin@example.com", "SMS_PROVIDER": "twilio",
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_FROM": "+1555", "TWILIO_AUTH_TOKEN": "x", "SLACK_CLIENT_ID": "1",
        "SLACK_CLIENT_SECRET": "2", "SLACK_SIGNING_SECRET": "3",
    }  # fmt: skip
    environ = {f"TOCSIN_{each}": text for each, text in others.items()}
    our_settings.load(tmp_path, environ)
    with pytest.raises(our_settings.Unusable, match=f"TOCSIN_{name}.*zone"):
        our_settings.load(tmp_path, environ | {f"TOCSIN_{name}": value})


def test_the_mail_server_s_host_is_read_like_any_other(tmp_path: Path) -> None:
    """Without the dot at its end, for the certificate is of the name without."""
    environ = {"TOCSIN_SMTP_URL": "smtp://user:p%40ss@Mail.Straße.example.:2525", "TOCSIN_EMAIL_FROM": "a@example.com"}
    found = our_settings.load(tmp_path, environ).smtp
    assert found is not None
    assert (found.host, found.port, found.password) == ("mail.xn--strae-oqa.example", 2525, "p@ss")
    with pytest.raises(our_settings.Unusable, match="TOCSIN_SMTP_URL"):
        our_settings.load(tmp_path, environ | {"TOCSIN_SMTP_URL": "smtp://a..b"})


# ------------------------------------------------------------------------------------------------- whatever is accepted

LETTERS = string.printable + "äß例\u200d。％＠\u202e\x7f\ud800%%//..??##::@[]"
SOME_TEXT = st.text(alphabet=st.sampled_from(LETTERS), max_size=40)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(host=SOME_TEXT | st.sampled_from(list(HOSTS)), rest=SOME_TEXT)
@example(host="example.com\\", rest="@127.0.0.1/")
@example(host="a.com", rest=" HTTP/1.1\r\nX: y")
def test_what_is_accepted_is_what_goes_out(host: str, rest: str) -> None:
    """One request line without blanks, one host that is its own form, escapes untouched, nothing decoded."""
    address = f"http://{host}{rest}"
    try:
        kept = WebhookIntegration().parse({"webhook_url": address})["webhook_url"]
    except Refused:
        return
    assert kept == address
    there = endpoint(address)
    line, named, *nothing = there.start.decode("ascii").split("\r\n")
    method, target, version = line.split(" ")
    assert (method, version, nothing) == ("POST", "HTTP/1.1", [""])
    assert hosts.read(there.host) == there.host == urls.read(address).host
    assert named.removeprefix("Host: ").removesuffix(f":{there.port}").strip("[]") == there.host
    sent, asked = target, address.partition("://")[2].partition("#")[0]
    start = min((asked.find(mark) for mark in "/?" if mark in asked), default=len(asked))
    wished = asked[start:] if asked[start : start + 1] == "/" else f"/{asked[start:]}"
    if "/." not in wished.partition("?")[0]:
        assert sent == quote(wished, safe=string.printable)


@pytest.mark.parametrize(
    "text",
    ["ä" * 1_000_000, "a." * 500_000, "ﷺ" * 254, "." * 254, "ab\u200c" * 84, "xn--" + "a" * 250, "[" + ":" * 1_000_000,
     "0x" + "f" * 252, "ا\u200c" * 127],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_no_host_takes_long_to_judge(text: str) -> None:
    def follow(location: str) -> str:
        return urls.follow("http://example.com/", location.encode())

    def judge() -> float:
        began = time.perf_counter()
        for read, written in ((hosts.read, text), (urls.read, f"http://{text}/"), (follow, f"//{text}/")):
            with suppress(hosts.Unreadable):
                read(written)
        return time.perf_counter() - began

    judge()
    assert min(judge() for _ in range(3)) < 0.02


def test_only_short_addresses_are_remembered_and_only_so_many() -> None:
    from tocsin.transports.endpoint import _remembered

    endpoint("http://example.com/")
    before = len(_remembered)
    assert before >= 1
    endpoint("http://example.com/" + "a" * MAX_REMEMBERED_LENGTH)
    endpoint("http://example.com/ä")
    assert len(_remembered) == before
    assert _remembered.max_size == 4096
