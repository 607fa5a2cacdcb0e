"""What holds for every type of integration. A new type is covered the day its file is there."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tests.receivers import Answer, Receiver
from tocsin.domain.deliveries import Delivered, Failed, Suppressed
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Notification
from tocsin.integrations import base
from tocsin.integrations.base import MASK, IntegrationType, Transports
from tocsin.transports.dial import Dialer
from tocsin.transports.guard import Guard
from tocsin.transports.http import Http
from tocsin.transports.smtp import Mailer
from tocsin.transports.ssh import Ssh
from tocsin.transports.telegram import Telegram

TYPES = list(base.types().values())
SENTINEL = "s3cret-s3ntinel"

GIVEN: dict[str, dict[str, Any]] = {
    "Integrations::AppriseIntegration": {
        "service": "gotify", "fields": {"host": "127.0.0.1", "port": "1", "token": SENTINEL},
    },
    "Integrations::WebhookIntegration": {"webhook_url": f"http://127.0.0.1:1/{SENTINEL}"},
    "Integrations::EmailIntegration": {"email": "alerts@example.com"},
    "Integrations::SlackIntegration": {},
    "Integrations::SmsIntegration": {"phone_number": "+1234567890"},
    "Integrations::TelegramIntegration": {"bot_token": f"123456:{SENTINEL}-of-a-bot"},
    "Integrations::SshServerRestartIntegration": {
        "ip": "127.0.0.1", "username": "admin", "password": SENTINEL, "port": 1,
    },
    "Integrations::OnCallIntegration": {
        "timezone": "Europe/Vienna", "rotation": "weekly", "handover": "MO 09:00",
        "integrations": ["INT" + "0" * 26, "INT" + "1" * 26],
    },
}
"""Settings that each type accepts; what is told to nobody holds the sentinel."""

MADE_ELSEWHERE: dict[str, dict[str, Any]] = {
    "Integrations::SlackIntegration": {
        "bot_token": f"xoxb-{SENTINEL}", "user_token": f"xoxp-{SENTINEL}", "channel_id": "C1",
        "webhook_url": f"https://hooks.slack.com/services/{SENTINEL}", "bot_user_id": "U1",
        "team_id": "T1", "team_name": "My Workspace", "channel": "#alerts",
    },
    "Integrations::TelegramIntegration": {
        "bot_token": f"123456:{SENTINEL}-of-a-bot", "bot_id": "123456", "bot_username": "tocsin_bot", "chat_id": -5,
        "chat_name": "Operations",
    },
}
"""What is stored for types that no caller gives settings for, or that their far end completes."""

BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
INCIDENT: dict[str, Any] = {
    "incident_id": "INC1", "resource_type": "Server", "resource_name": "web-1", "incident_type": "cpu",
    "resource_url": "http://tocsin.test/servers/SRV1", "message": "CPU at 97 %", "started_at": BEGAN,
}  # fmt: skip
NOTIFICATIONS = [
    Notification("DLV1", "opened", **INCIDENT),
    Notification("DLV2", "resolved", **INCIDENT, closed_at=BEGAN + timedelta(minutes=5)),
    Notification("DLV3", "resolved", **INCIDENT, closed_at=BEGAN, first_notice_failed=True),
    Notification("DLV4", "test", **{**INCIDENT, "incident_id": None}),
    Notification("DLV5", "notice", **{**INCIDENT, "incident_id": None}),
]

every_type = pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.label)


@pytest_asyncio.fixture
async def wires(tmp_path: Path) -> AsyncIterator[Transports]:
    guard = Guard([ipaddress.ip_network("127.0.0.0/8")])
    http = Http(guard)
    mail = Mailer(None, "tocsin@example.com", tmp_path / "outbox")
    telegram = Telegram("http://127.0.0.1:1")
    yield Transports(http, mail, "http://tocsin.test", ssh=Ssh(Dialer(guard)), telegram=telegram)
    await http.close()
    await telegram.close()


def stored(kind: IntegrationType) -> dict[str, Any]:
    return kind.parse(GIVEN[kind.type], MADE_ELSEWHERE.get(kind.type))


def hidden(kind: IntegrationType, settings: Mapping[str, Any]) -> list[str]:
    return [str(settings[name]) for name in kind.secret_settings if name in settings]


def test_these_are_the_types_there_are() -> None:
    assert [kind.type for kind in TYPES] == sorted(GIVEN)
    assert len({kind.label for kind in TYPES}) == len(TYPES)


def test_an_unknown_type_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(Refused) as refused:
        base.of("Integrations::Nothing")
    assert all(kind.type in refused.value.message for kind in TYPES)


@every_type
def test_settings_are_plain_values_that_survive_storage_and_a_change_of_nothing(kind: IntegrationType) -> None:
    settings = stored(kind)
    assert msgspec.json.decode(msgspec.json.encode(settings)) == settings
    assert kind.parse({}, settings) == settings
    assert kind.parse(kind.public_settings(settings, reveal=True), settings) == settings


@every_type
def test_unknown_settings_are_ignored(kind: IntegrationType) -> None:
    assert "surprise" not in kind.parse({**GIVEN[kind.type], "surprise": 1}, MADE_ELSEWHERE.get(kind.type))


@every_type
@pytest.mark.parametrize("bad", [None, "", 5, -1, 1e300, True, [], {}, "\x00", "a\r\nb", "x" * 100_000, "\ud800"])
def test_every_setting_that_is_wrong_is_refused_by_its_name(kind: IntegrationType, bad: Any) -> None:
    for name in GIVEN[kind.type]:
        if (name, bad) == ("port", 5):  # a port like any other
            continue
        with pytest.raises(Refused) as refused:
            kind.parse({**GIVEN[kind.type], name: bad})
        assert refused.value.status == 422
        assert [detail.field for detail in refused.value.details] == [f"settings.{name}"]
        assert len(refused.value.message) < 500
        json.dumps(refused.value.message).encode()


@every_type
def test_what_is_shown_has_nothing_internal_and_no_secret_in_clear(kind: IntegrationType) -> None:
    settings = stored(kind)
    masked, revealed = kind.public_settings(settings, reveal=False), kind.public_settings(settings, reveal=True)
    assert set(masked) == set(revealed) == set(settings) - kind.internal_settings
    for name in kind.secret_settings & masked.keys():
        assert masked[name] in (MASK, revealed[name][:5] + "...", "https://hooks.slack.com/services/...")
    for secret in hidden(kind, settings):
        assert secret not in json.dumps(masked)


@every_type
def test_it_has_a_name_without_a_secret_in_it(kind: IntegrationType) -> None:
    settings = stored(kind)
    name = kind.default_name(settings)
    assert name.isprintable()
    assert not any(secret in name for secret in hidden(kind, settings))
    assert not any(secret in repr(kind) for secret in hidden(kind, settings))


@every_type
def test_a_signing_secret_is_a_secret_and_can_be_rotated(kind: IntegrationType) -> None:
    settings = stored(kind)
    if kind.signing_setting is None:
        with pytest.raises(Refused):
            kind.rotate_secret(settings, 0.0)
        return
    assert kind.signing_setting in kind.secret_settings & kind.internal_settings
    assert kind.rotate_secret(settings, 0.0)[kind.signing_setting] != settings[kind.signing_setting]


@every_type
@pytest.mark.parametrize("said", NOTIFICATIONS, ids=lambda said: said.delivery_id)
async def test_every_notification_ends_in_an_outcome_that_leaks_nothing(
    kind: IntegrationType, said: Notification, wires: Transports
) -> None:
    """Nothing listens at the far end of those that call one: what is told of it names no path and no secret."""
    settings = stored(kind)
    outcome = await kind.send(settings, said, wires)
    assert isinstance(outcome, Delivered | Failed | Suppressed)
    for secret in [SENTINEL, *hidden(kind, settings)]:
        assert secret not in repr(outcome)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 410, 429, 500, 503])
@pytest.mark.parametrize(
    "kind", [kind for kind in TYPES if kind.host_setting.endswith("url")], ids=lambda kind: kind.label
)
async def test_every_answer_ends_in_an_outcome_with_its_status(
    kind: IntegrationType, status: int, wires: Transports, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(status, body=b"" if status == 204 else b"said")
    settings = kind.parse({**GIVEN[kind.type], kind.host_setting: receiver.url(f"/{SENTINEL}")})
    outcome = await kind.send(settings, NOTIFICATIONS[0], wires)
    assert isinstance(outcome, Delivered if status < 300 else Failed)
    assert outcome.status_code == status
    for secret in [SENTINEL, *hidden(kind, settings)]:
        assert secret not in repr(outcome)
