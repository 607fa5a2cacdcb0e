"""A webhook as its receiver wants it: method, headers, body and address, checked when saved, rendered for each try."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pytest
import pytest_asyncio
from msgspec.structs import replace
from standardwebhooks import Webhook

from tests.receivers import Receiver, Request
from tocsin.domain.deliveries import Delivered, Failed
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Notification
from tocsin.domain.templates import request as requests
from tocsin.domain.templates.names import samples
from tocsin.integrations.base import MASK, Transports
from tocsin.integrations.webhook import WebhookIntegration, body
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http, Unreachable
from tocsin.transports.smtp import Mailer

WEBHOOK = WebhookIntegration()
URL = "https://tocsin.example.com"
SAMPLES = {each.event: each for each in samples(datetime(2024, 1, 1, 0, 12, 5, tzinfo=UTC), URL)}
OPENED, RESOLVED = SAMPLES["opened"], SAMPLES["resolved"]
NASTY = 'He said "no",\r\nand\tleft\\ {{ event }} & <b> 🔔 é%2F/../?#\u2028' + "x" * 1_900


@pytest_asyncio.fixture
async def wires(tmp_path: Path) -> AsyncIterator[Transports]:
    http = Http(Guard([ipaddress.ip_network("127.0.0.0/8")]))
    yield Transports(http, Mailer(None, "tocsin@example.com", tmp_path), URL)
    await http.close()


def settings(url: str = "https://example.com/hook", **more: Any) -> dict[str, Any]:
    return WEBHOOK.parse({"webhook_url": url, **more})


def refused(**given: Any) -> tuple[str, str]:
    """Field and message."""
    with pytest.raises(Refused) as error:
        settings(**given)
    assert (error.value.status, error.value.code) == (422, "invalid_request")
    [detail] = error.value.details
    assert len(error.value.message) < 800
    json.dumps(error.value.message).encode()
    return detail.field, detail.message


async def arrived(receiver: Receiver, wires: Transports, notification: Notification = OPENED, **given: Any) -> Request:
    mine = settings(**{"url": receiver.url("/hook"), **given})
    before = len(receiver.requests)
    assert isinstance(await WEBHOOK.send(mine, notification, wires), Delivered)
    assert len(receiver.requests) == before + 1
    request = receiver.requests[-1]
    with suppress(json.JSONDecodeError):  # it decodes what it has verified
        Webhook(mine["signing_secret"]).verify(request.body, dict(request.headers))
    assert request.headers["webhook-id"] == "DLV123"
    return request


# --------------------------------------------------------------------------------------------------------- what is sent


async def test_without_a_body_it_is_the_seven_fields_to_the_letter_whatever_else_is_set(
    wires: Transports, receiver: Receiver
) -> None:
    shaped = await arrived(receiver, wires, method="PUT", headers={"X-One": "{{ event }}"})
    assert (shaped.method, shaped.headers["x-one"], shaped.body) == ("PUT", "opened", body(OPENED))
    assert shaped.headers["content-type"] == "application/json"


async def test_every_request_says_how_severe_it_is(wires: Transports, receiver: Receiver) -> None:
    for given in ({}, {"body": {}}):
        request = await arrived(receiver, wires, replace(OPENED, severity="warning"), **given)
        assert (request.headers["tocsin-severity"], request.headers["tocsin-incident"]) == ("warning", "INC123")


async def test_a_body_is_valid_json_whatever_is_in_a_message_and_keeps_the_types_it_was_written_with(
    wires: Transports, receiver: Receiver
) -> None:
    wanted = {
        "text": "{{ resource_name }}: {{ message }}", "n": [1, 2.5, None, True, "{{ incident_duration }}"],
        "deep": {"{": [{"at": "{{ started_at }}"}]}, "gone": "{{ omit }}", "list": ["{{ omit }}", "kept"],
        "urgent": "{{ severity == 'critical' }}", "empty": "",
    }  # fmt: skip
    request = await arrived(receiver, wires, replace(RESOLVED, message=NASTY), body=wanted)
    assert request.json == {
        "text": f"My Website: {NASTY}", "n": [1, 2.5, None, True, 725], "deep": {"{": [{"at": "2024-01-01T00:00:00Z"}]},
        "list": ["kept"], "urgent": True, "empty": "",
    }  # fmt: skip


@pytest.mark.parametrize("value", ["{{ message }}", ["{{ message }}"], 5, True, {}, [], "{{ omit }}"])
async def test_a_body_may_be_any_json_value(value: Any, wires: Transports, receiver: Receiver) -> None:
    request = await arrived(receiver, wires, body=value)
    expected = OPENED.message if value == "{{ message }}" else [OPENED.message] if value == ["{{ message }}"] else value
    assert request.json == (None if value == "{{ omit }}" else expected)


async def test_a_text_is_sent_as_what_it_is_and_escaped_where_its_type_needs_it(
    wires: Transports, receiver: Receiver
) -> None:
    said = replace(OPENED, message=NASTY.replace("\u2028", ""))
    plain = await arrived(receiver, wires, said, text="{{ event }}!\n{{ message }}")
    assert plain.body.decode() == f"opened!\n{said.message}"
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    form = await arrived(
        receiver, wires, said, text="a=1&text={{ message }}", content_type="application/x-www-form-urlencoded"
    )
    assert parse_qs(form.body.decode()) == {"a": ["1"], "text": [said.message]}
    markup = await arrived(receiver, wires, said, text="<m>{{ message }}</m>", content_type="application/xml")
    assert ElementTree.fromstring(markup.body.decode()).text == said.message.replace("\r\n", "\n")
    json_of_its_own = await arrived(receiver, wires, body={}, content_type="application/vnd.example+json")
    assert json_of_its_own.headers["content-type"] == "application/vnd.example+json"


async def test_a_get_has_no_body_and_says_everything_in_its_address(wires: Transports, receiver: Receiver) -> None:
    url = receiver.url("/say?text={{ message|truncate(50) }}&event={{ event }}")
    request = await arrived(receiver, wires, replace(OPENED, message=NASTY), url=url, method="GET")
    assert (request.method, request.body) == ("GET", b"")
    assert not {"content-length", "content-type"} & request.headers.keys()
    query = parse_qs(urlsplit(request.path).query)
    assert query["event"] == ["opened"]
    assert query["text"][0].startswith('He said "no",\r\nand\tleft\\ {{ event }}')


async def test_an_address_leads_elsewhere_by_event_and_values_in_it_cannot_leave_their_place(
    wires: Transports, receiver: Receiver
) -> None:
    url = receiver.url("/alerts{% if event == 'resolved' %}/{{ resource_name }}/close{% endif %}")
    assert (await arrived(receiver, wires, url=url)).path == "/alerts"
    for name in ("..", ".", "a/../../b", "x?y#z", "@evil.example.com", "é \r\n", "%2e%2e"):
        path = (await arrived(receiver, wires, replace(RESOLVED, resource_name=name), url=url)).path
        assert path.startswith("/alerts/")
        assert path.count("/") == 3
        assert unquote(path) == f"/alerts/{name}/close"


async def test_headers_are_one_line_in_utf_8_and_empty_ones_are_left_out(wires: Transports, receiver: Receiver) -> None:
    sent = {"Title": "{{ message }}", "X-None": "{{ closed_at }}", "Authorization": "Bearer {{ secrets.token }}"}
    request = await arrived(
        receiver, wires, replace(OPENED, message="a\r\nHost: evil\x00 🔔"), headers=sent, secrets={"token": "t0ken"}
    )
    assert request.headers["title"].encode("latin-1").decode() == "a Host: evil 🔔"
    assert request.headers["authorization"] == "Bearer t0ken"
    assert "x-none" not in request.headers
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


async def test_a_header_with_a_line_break_is_never_sent(wires: Transports, receiver: Receiver) -> None:
    for value in ("a\r\nb: c", "a\nb", "a\rb"):
        with pytest.raises(Unreachable, match="line break") as stopped:
            await wires.http.request("POST", receiver.url(), b"", {"X": value})
        assert stopped.value.refused
    assert receiver.requests == []


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("given", "field", "why"),
    [
        ({"method": "DELETE"}, "method", "POST, PUT, PATCH, GET"),
        ({"method": 5}, "method", "must be one of"),
        ({"method": ["POST"]}, "method", "must be one of"),
        ({"method": "GET", "body": {}}, "body", "cannot be sent with GET"),
        ({"method": "GET", "text": "x"}, "text", "cannot be sent with GET"),
        ({"text": "x", "body": {}}, "text", "beside a body"),
        ({"text": ["x"]}, "text", "must be a string"),
        ({"text": "{{ x }}"}, "text", "'x'"),
        ({"content_type": "nothing", "text": "x"}, "content_type", "media type"),
        ({"content_type": "text/plain\r\nX: y", "text": "x"}, "content_type", "media type"),
        ({"content_type": "application/json", "text": "x"}, "content_type", "is JSON"),
        ({"content_type": "text/plain", "body": {}}, "content_type", "no JSON"),
        ({"body": {"a": [{"b": "{{ nobody }}"}]}}, "body.a[0].b", "'nobody'"),
        ({"body": "{{ message() }}"}, "body", "a call"),
        ({"body": {"{{ event }}": 1}}, "body", "in its name"),
        ({"body": {"x" * 201: 1}}, "body", "in its name"),
        ({"body": {"a": "\0"}}, "body.a", "NUL"),
        ({"body": [2**70]}, "body", "64 bits"),
        ({"body": [float("inf")]}, "body", "64 bits"),
        ({"body": [0] * 2_000}, "body", "values"),
        ({"body": ["x" * 9_000, "y" * 9_000]}, "body[1]", "16,384 bytes in sum"),
        ({"body": ["{{ message }}"] * 50}, "body[32]", "65,536 characters"),
        ({"headers": ["a"]}, "headers", "must be an object"),
        ({"headers": {"a": 5}}, "headers.a", "must be a string"),
        ({"headers": {f"x-{number}": "" for number in range(21)}}, "headers", "up to 20"),
        ({"headers": {"a b": "x"}}, "headers", "no header can have"),
        ({"headers": {"": "x"}}, "headers", "no header can have"),
        ({"headers": {"a:": "x"}}, "headers", "no header can have"),
        ({"headers": {"é": "x"}}, "headers", "no header can have"),
        ({"headers": {"a\r\nb": "x"}}, "headers", "no header can have"),
        ({"headers": {"x" * 101: "x"}}, "headers", "no header can have"),
        ({"headers": {"A": "x", "a": "y"}}, "headers.a", "twice"),
        ({"headers": {"a": "x\r\nb: c"}}, "headers.a", "one line"),
        ({"headers": {"a": "x\nb"}}, "headers.a", "one line"),
        ({"headers": {"a": "\x00"}}, "headers.a", "one line"),
        ({"headers": {"a": "{{ nobody }}"}}, "headers.a", "'nobody'"),
        ({"headers": {"a": "{{ message }}" * 5}}, "headers.a", "truncate"),
        ({"headers": {"a": MASK}}, "headers.a", "nothing is stored"),
        ({"secrets": {"A": "x"}}, "secrets", "small letters"),
        ({"secrets": {"a": ""}}, "secrets.a", "1 to 500"),
        ({"secrets": {"a": "x\ny"}}, "secrets.a", "one line"),
        ({"secrets": {f"a{number}": "x" for number in range(11)}}, "secrets", "up to 10"),
        ({"url": "https://{{ event }}.example.com/"}, "webhook_url", "path and query"),
        ({"url": "https://example.com{{ event }}"}, "webhook_url", "path and query"),
        ({"url": "{{ resource_url }}"}, "webhook_url", "path and query"),
        ({"url": "https://example.com{% if event %}/a{% endif %}"}, "webhook_url", "path and query"),
        ({"url": "ftp://example.com/{{ event }}"}, "webhook_url", "https:// or http://"),
        ({"url": "https://u:p@example.com/{{ event }}"}, "webhook_url", "password"),
        ({"url": "https://example.com/{{ nobody }}"}, "webhook_url", "'nobody'"),
        ({"url": "https://example.com/?text={{ message }}"}, "webhook_url", "truncate(200)"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused_when_it_is_saved_naming_the_place(
    given: dict[str, Any], field: str, why: str
) -> None:
    named, message = refused(**given)
    assert named == f"settings.{field}"
    assert why in message


@pytest.mark.parametrize("depth", [25, 60])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    assert refused(body=value) == ("settings.body", "is nested too deeply: at most 20 levels are allowed")


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Content-Type", "Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer",
     "Upgrade", "Proxy-Authorization", "Proxy-Connection", "User-Agent", "Webhook-Id", "webhook-signature",
     "Tocsin-Incident", "tocsin-severity", "Tocsin-Anything", "Expect"],
)  # fmt: skip
def test_headers_of_one_hop_and_our_own_are_refused(name: str) -> None:
    field, message = refused(headers={name: "x"})
    assert field == f"settings.headers.{name}"
    assert "Tocsin sets itself" in message


def test_an_address_with_single_braces_is_an_address_like_any_other() -> None:
    url = "https://example.com/{a}?b={#c}"
    assert settings(url)["webhook_url"] == url
    assert not requests.is_shaped(settings(url))


# ---------------------------------------------------------------------------------------------------- secrets, changes


def test_headers_and_secrets_are_masked_by_name_and_a_mask_keeps_what_is_stored() -> None:
    given = {"headers": {"Authorization": "Bearer one", "X-Two": "{{ event }}"}, "secrets": {"key": "three"}}
    stored = settings(**given)
    masked = WEBHOOK.public_settings(stored, reveal=False)
    assert masked["headers"] == {"Authorization": MASK, "X-Two": MASK}
    assert masked["secrets"] == {"key": MASK}
    assert {"headers", "secrets"} <= WEBHOOK.secret_settings
    assert WEBHOOK.parse(masked, stored) == stored
    changed = WEBHOOK.parse({"headers": {"Authorization": MASK, "X-New": "new"}, "secrets": None}, stored)
    assert changed["headers"] == {"Authorization": "Bearer one", "X-New": "new"}
    assert "secrets" not in changed
    assert WEBHOOK.parse(WEBHOOK.public_settings(stored, reveal=True), stored) == stored


@pytest.mark.parametrize("url", ["https://evil.example.com/hook", "http://example.com/hook", "https://example.com:8443/"])
@pytest.mark.parametrize("kept", [{}, {"headers": {"A": MASK}}])
def test_a_stored_secret_goes_nowhere_else_than_it_was_meant_for(url: str, kept: dict[str, Any]) -> None:
    stored = settings(headers={"A": "s3cret"})
    with pytest.raises(Refused) as error:
        WEBHOOK.parse({"webhook_url": url, **kept}, stored)
    assert [detail.field for detail in error.value.details] == ["settings.headers"]
    assert "s3cret" not in error.value.message
    assert WEBHOOK.parse({"webhook_url": url, "headers": {"A": "new"}}, stored)["headers"] == {"A": "new"}
    assert "headers" not in WEBHOOK.parse({"webhook_url": url, "headers": None}, stored)
    assert WEBHOOK.parse({"webhook_url": "https://example.com/other", **kept}, stored)["headers"] == {"A": "s3cret"}


def test_what_is_null_is_removed_and_what_is_left_out_stays() -> None:
    stored = settings(method="PUT", body={"a": 1})
    assert WEBHOOK.parse({}, stored) == stored
    assert "body" not in WEBHOOK.parse({"body": None}, stored)
    assert "method" not in WEBHOOK.parse({"method": "POST"}, stored)
    text = WEBHOOK.parse({"body": None, "text": "x"}, stored)
    assert (text["method"], text["text"]) == ("PUT", "x")


def test_who_has_an_incident_is_told_to_those_whose_templates_speak_of_it() -> None:
    by = {"body": {"text": "{{ event }}{% if acknowledged_by %} by {{ acknowledged_by }}{% endif %}"}}
    assert WEBHOOK.hears_acknowledgements(settings(**by))
    assert WEBHOOK.preview(settings(**by), SAMPLES["acknowledged"], URL).body == '{\n  "text": "acknowledged by Ann"\n}'
    assert WEBHOOK.hears_acknowledgements(settings(url="https://example.com/{{ event == 'acknowledged' }}"))
    assert not WEBHOOK.hears_acknowledgements(settings(body={"text": "{{ message }}"}))
    assert not WEBHOOK.hears_acknowledgements(settings("https://example.com/acknowledged"))


def test_a_preview_shows_what_is_sent_and_no_secret() -> None:
    mine = settings(
        url="https://example.com/{{ secrets.key }}", body={"key": "{{ secrets.key }}"}, secrets={"key": "s3cret"},
        headers={"Authorization": "Bearer {{ secrets.key }}"},
    )  # fmt: skip
    shown = WEBHOOK.preview(mine, OPENED, URL, reveal=True)
    assert (shown.method, shown.headers["Authorization"]) == ("POST", f"Bearer {MASK}")
    assert json.loads(shown.body) == {"key": MASK}
    assert "s3cret" not in repr(shown)
    literal = settings(headers={"Authorization": "Bearer s3cret"})
    assert "s3cret" not in repr(WEBHOOK.preview(literal, OPENED, URL))


# --------------------------------------------------------------------------------------------------------------- cost


async def test_settings_that_a_later_version_saved_end_in_a_failure_that_says_so(wires: Transports) -> None:
    stored = {**settings(), "body": {"text": "{{ name_of_the_future }}"}}
    failed = await WEBHOOK.send(stored, OPENED, wires)
    assert isinstance(failed, Failed)
    assert failed.retry == "twice"
    assert "name_of_the_future" in failed.error


def test_templates_are_compiled_once_and_remembered_within_a_bound() -> None:
    mine = settings(body={"text": "once: {{ message }}"})
    before = requests._compiled.cache_info()
    made = {id(requests.template(mine)) for _ in range(5)}
    after = requests._compiled.cache_info()
    assert (len(made), after.misses - before.misses) == (1, 0)
    assert after.maxsize == requests.REMEMBERED


def test_a_plain_webhook_never_loads_the_language() -> None:
    program = """
import asyncio, sys
from tocsin.domain.templates.names import samples
from tocsin.integrations.webhook import WebhookIntegration
from tocsin.integrations.base import Transports
from datetime import UTC, datetime
class Http:
    async def request(self, *given):
        raise SystemExit("jinja2" in sys.modules)
kind = WebhookIntegration()
settings = kind.parse({"webhook_url": "https://example.com/"})
asyncio.run(kind.send(settings, samples(datetime.now(UTC), "")[0], Transports(Http(), None, "")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
