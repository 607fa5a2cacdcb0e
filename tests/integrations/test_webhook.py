"""What a webhook sends, how it is signed, and what answers mean."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from standardwebhooks import Webhook, WebhookVerificationError

from tests.receivers import Answer, Receiver
from tocsin import __version__
from tocsin.domain.deliveries import Delivered, Failed, Suppressed
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Notification
from tocsin.integrations.base import Transports
from tocsin.integrations.webhook import ROTATION_SECONDS, WebhookIntegration, body, headers, outcome
from tocsin.transports import http as wire
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http, retry_after
from tocsin.transports.smtp import Mailer

WEBHOOK = WebhookIntegration()
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
OPENED = Notification(
    delivery_id="DLV1", event="opened", incident_id="INC1", resource_type="NetworkMonitor",
    resource_name="https://example.com", resource_url="https://example.com", incident_type="timeout",
    message="Request timeout after 30 seconds", started_at=BEGAN,
)  # fmt: skip
RESOLVED = replace(OPENED, event="resolved", closed_at=BEGAN + timedelta(minutes=5, milliseconds=900))


@pytest_asyncio.fixture
async def wires(tmp_path: Path) -> AsyncIterator[Transports]:
    http = Http(Guard([ipaddress.ip_network("127.0.0.0/8")]))
    yield Transports(http, Mailer(None, "tocsin@example.com", tmp_path), "http://tocsin.test")
    await http.close()


def settings(url: str = "https://example.com/hook") -> dict[str, Any]:
    return WEBHOOK.parse({"webhook_url": url})


# --------------------------------------------------------------------------------------------------------------- body


def test_the_payload_is_the_specification_s_seven_fields_in_its_order() -> None:
    assert list(json.loads(body(OPENED)).items()) == [
        ("resource_name", "https://example.com"),
        ("resource_url", "https://example.com"),
        ("resource_type", "NetworkMonitor"),
        ("incident_type", "timeout"),
        ("incident_status", "ongoing"),
        ("incident_duration", None),
        ("incident_message", "Request timeout after 30 seconds"),
    ]


def test_the_payload_of_a_resolve_has_its_duration_in_whole_seconds() -> None:
    said = json.loads(body(RESOLVED))
    assert (said["incident_status"], said["incident_duration"]) == ("resolved", 300)


@pytest.mark.parametrize("text", ['a "quoted" name', "line\nbreak", "ünïcode ✓ 🔔", "</script>", "\x7f"])
def test_any_text_arrives_as_it_was(text: str) -> None:
    said = json.loads(body(replace(OPENED, resource_name=text, message=text)))
    assert (said["resource_name"], said["incident_message"]) == (text, text)


# ------------------------------------------------------------------------------------------------------------ headers


def verify(secret: str, made: dict[str, str], said: bytes) -> None:
    Webhook(secret).verify(said, made)


def test_headers_say_who_sends_what_about_which_incident() -> None:
    said = body(OPENED)
    made = headers(settings(), OPENED, said, now=1_700_000_000.9)
    assert made["User-Agent"] == f"Tocsin/{__version__}"
    assert made["Content-Type"] == "application/json"
    assert made["webhook-id"] == "DLV1"
    assert made["webhook-timestamp"] == "1700000000"
    assert made["Tocsin-Incident"] == "INC1"


def test_a_test_names_no_incident() -> None:
    assert "Tocsin-Incident" not in headers(settings(), replace(OPENED, event="test", incident_id=None), b"{}")


def test_the_signature_is_one_that_standard_webhooks_accepts() -> None:
    mine, said = settings(), body(replace(OPENED, message="ünïcode"))
    made = headers(mine, OPENED, said)
    verify(mine["signing_secret"], made, said)
    with pytest.raises(WebhookVerificationError):
        verify(mine["signing_secret"], made, said + b" ")
    with pytest.raises(WebhookVerificationError):
        verify(settings()["signing_secret"], made, said)


def test_for_a_day_after_rotation_both_secrets_sign() -> None:
    old, said = settings(), body(OPENED)
    now = datetime.now(UTC).timestamp()
    new = WEBHOOK.rotate_secret(old, now - ROTATION_SECONDS + 5)
    assert new["signing_secret"] != old["signing_secret"]
    both = headers(new, OPENED, said, now)
    verify(new["signing_secret"], both, said)
    verify(old["signing_secret"], both, said)
    later = headers(WEBHOOK.rotate_secret(old, now - ROTATION_SECONDS), OPENED, said, now)
    assert " " not in later["webhook-signature"]
    with pytest.raises(WebhookVerificationError):
        verify(old["signing_secret"], later, said)


# ----------------------------------------------------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("status", "retry"),
    [
        *((status, "twice") for status in (301, 302, 307, 400, 401, 404, 413, 422)),
        *((status, "scheduled") for status in (408, 409, 425, 429, 500, 501, 502, 503, 504, 599)),
        (410, "disable"),
    ],
)
def test_what_a_refusal_means(status: int, retry: str) -> None:
    failed = outcome(wire.Answer(status, {}, "no"))
    assert isinstance(failed, Failed)
    assert (failed.retry, failed.status_code, failed.response) == (retry, status, "no")
    assert str(status) in failed.error
    assert ("redirects are not followed" in failed.error) == (300 <= status < 400)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(status: int) -> None:
    assert outcome(wire.Answer(status, {}, "yes")) == Delivered(status, "yes")


NOW = datetime(2024, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "wait"),
    [("30", 30.0), (" 30 ", 30.0), ("0", 0.0), ("9" * 400, float("9" * 12)), ("Mon, 01 Jan 2024 00:01:00 GMT", 60.0),
     ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0), ("soon", None), ("-5", None), ("1.5", None), ("٣", None), ("", None),
     (None, None), ("Mon, 01 Jan 99999999999 00:00:00 GMT", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str | None, wait: float | None) -> None:
    assert retry_after(value, NOW) == wait


def test_a_destination_s_wish_to_wait_travels_along() -> None:
    assert outcome(wire.Answer(429, {"retry-after": "17"}, "")) == Failed("Answered 429", "scheduled", 429, "", 17.0)


# ----------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "url",
    ["https://hooks.slack.com/services/YOUR/WEBHOOK/URL", "https://hooks.slack.com/services/...", "http://example.com",
     "https://example.com:8443/a?b=c#d", "http://10.0.0.1/", "http://[2606:4700::1111]/", "https://münchen.example/x",
     "https://example.com/%2F", "https://example.com/" + "a" * 2028],
)  # fmt: skip
def test_addresses_are_kept_as_they_were_given(url: str) -> None:
    assert settings(url)["webhook_url"] == url


@pytest.mark.parametrize(
    "url",
    [None, "", "no address", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd", "http://",
     "https:///path", "http://exa mple.com", "http://example.com/\r\nX: y", "http://example.com/\n", "\thttp://a.b",
     "http://example.com:99999/", "http://example.com:0/", "http://user:pw@example.com/", "http://user@example.com/",
     "http://a\\@b/", "https://example.com/" + "a" * 2029, 5, ["https://example.com"], True, "http://[::1", "http://\ud800/"],
)  # fmt: skip
def test_what_is_no_address_to_post_to_is_refused_with_its_field(url: Any) -> None:
    with pytest.raises(Refused) as refused:
        settings(url)
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    assert [detail.field for detail in refused.value.details] == ["settings.webhook_url"]
    assert "pw" not in refused.value.message


def test_the_service_s_own_settings_cannot_be_given_and_survive_a_change() -> None:
    given = {"webhook_url": "https://example.com/", "signing_secret": "whsec_AAAA", "retired_at": 1, "x": 1}
    mine = WEBHOOK.parse(given)
    assert mine["signing_secret"] != "whsec_AAAA"
    assert set(mine) == {"webhook_url", "signing_secret"}
    changed = WEBHOOK.parse({"webhook_url": "https://example.com/new", "signing_secret": "whsec_AAAA"}, mine)
    assert changed == {**mine, "webhook_url": "https://example.com/new"}
    rotated = WEBHOOK.rotate_secret(mine, 5.0)
    assert WEBHOOK.parse({}, rotated) == rotated


def test_secrets_are_long_and_each_is_new() -> None:
    secrets = {settings()["signing_secret"] for _ in range(20)}
    assert len(secrets) == 20
    assert all(each.startswith("whsec_") and len(each) == 38 for each in secrets)


# ------------------------------------------------------------------------------------------------------- over the wire


async def test_a_notification_arrives_signed(wires: Transports, receiver: Receiver) -> None:
    mine = settings(receiver.url())
    assert await WEBHOOK.send(mine, OPENED, wires) == Delivered(200, "ok")
    [request] = receiver.requests
    assert request.body == body(OPENED)
    verify(mine["signing_secret"], dict(request.headers), request.body)


async def test_a_redirect_is_not_followed_and_says_so(wires: Transports, receiver: Receiver) -> None:
    receiver.answers["/hook"] = Answer(307, {"Location": receiver.url("/elsewhere")})
    failed = await WEBHOOK.send(settings(receiver.url()), OPENED, wires)
    assert isinstance(failed, Failed)
    assert failed.error == "Answered 307: redirects are not followed"
    assert receiver.to("/elsewhere") == []


async def test_a_lost_connection_is_worth_waiting_for(wires: Transports, receiver: Receiver) -> None:
    receiver.then(Answer(how="reset"))
    failed = await WEBHOOK.send(settings(receiver.url()), OPENED, wires)
    assert failed == Failed("Connection was closed before an answer", "scheduled")


async def test_an_address_that_may_not_be_reached_ends_it_and_says_what_the_operator_can_do(wires: Transports) -> None:
    failed = await WEBHOOK.send(settings("http://10.0.0.1/s3cret"), OPENED, wires)
    assert isinstance(failed, Failed)
    assert failed.retry == "never"
    assert "10.0.0.1" in failed.error
    assert "TOCSIN_ALLOW_NETWORKS=" in failed.error
    assert "s3cret" not in failed.error


async def test_notices_are_not_for_machines(wires: Transports, receiver: Receiver) -> None:
    ended = await WEBHOOK.send(settings(receiver.url()), replace(OPENED, event="notice", incident_id=None), wires)
    assert isinstance(ended, Suppressed)
    assert receiver.requests == []
