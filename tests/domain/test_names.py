"""Names are text of all peoples: what is accepted, everywhere alike, and how it is shown in mail, SMS and Slack."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.domain import names, sms_text
from tocsin.domain.deliveries import Event
from tocsin.domain.errors import Refused
from tocsin.domain.incidents import Notification
from tocsin.integrations import email, slack, sms
from tocsin.storage.channels.posted import IncidentState

NOW = datetime(2024, 1, 1, 12, 0, tzinfo=UTC)
OF_ALL_PEOPLES = [
    "web-1", "👩‍💻", "🏳️‍🌈 flags 🇦🇹", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "می‌خواهم", "東京　本店", "שרת\u200e 1", "क्षि", "ជាភាសាខ្មែរ", "مرحبا\u061c 5",
    "no\u00a0break", "e\u0301", "soft\u00adhyphen", "\ue000 private", "ﷺ", "x" * 200, "👩" * 200,
]  # fmt: skip
NO_NAMES = [
    "two\nlines", "two\rlines", "tab\there", "nul\x00", "\x1b[31m", "\x7f", "\x85", "\u2028", "a\u2028b", "a\u2029b",
    "a\u202eb", "a\u202ab", "a\u2066b", "a\u2069b", "half \ud800", "\udfff", "x" * 201,
]  # fmt: skip
BLANK = ["", "   ", "\u3000", "\u200d", "\u200b \ufeff", "\u2800", "\u3164", "\ufe0f", "\U000e0001", "\u00ad"]


@pytest.mark.parametrize("name", OF_ALL_PEOPLES)
def test_names_of_all_peoples_are_kept_as_they_are(name: str) -> None:
    assert names.checked("name", name) == name
    assert names.line(name) == name


@pytest.mark.parametrize("name", NO_NAMES + BLANK)
def test_what_breaks_a_line_turns_text_around_or_shows_nothing_is_no_name(name: str) -> None:
    with pytest.raises(Refused) as refused:
        names.checked("name", name)
    assert (refused.value.status, [each.field for each in refused.value.details]) == (422, ["name"])


def test_blanks_around_a_name_are_not_part_of_it() -> None:
    assert names.checked("name", " \t web-1\u3000") == "web-1"


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_whatever_it_was_it_is_shown_in_one_line_and_what_a_name_may_be_is_left_alone(text: str) -> None:
    shown = names.line(text)
    assert len(f"x{shown}x".splitlines()) == 1
    shown.encode()
    assert not {"LRO", "RLO", "LRE", "RLE", "LRI", "RLI", "FSI"} & {*map(unicodedata.bidirectional, shown)}
    assert names.line(shown) == shown
    assert names.checked("name", f"a{shown[:100]}z") == f"a{shown[:100]}z"


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("web-1", 5, "web-1"), ("web-12", 5, "web-…"), ("ab👩‍💻cd", 5, "ab…"), ("e\u0301" * 4, 6, "e\u0301e\u0301…"),
        ("🇦🇹🇩🇪🇨🇭", 4, "🇦🇹…"), ("a👍🏽b", 3, "a…"), ("a b c d", 5, "a b…"), ("e" + "\u0301" * 500, 100, None),
    ],
)  # fmt: skip
def test_what_is_cut_is_cut_between_characters_as_people_see_them(text: str, most: int, shown: str | None) -> None:
    made = names.cut(text, most)
    assert len(made) <= most
    assert shown is None or made == shown


# ------------------------------------------------------------------------------------------------- how they are shown


def notification(name: str, event: Event = "opened") -> Notification:
    ended = NOW + timedelta(seconds=5) if event == "resolved" else None
    return Notification("DLV1", event, "INC1", "Server", name, "", "cpu", "CPU at 97 %", NOW, ended)


@pytest.mark.parametrize("event", ["opened", "reminder", "resolved"])
@pytest.mark.parametrize("name", [each for each in OF_ALL_PEOPLES if len(each) < 40])
def test_mail_sms_and_slack_show_a_name_as_it_is(name: str, event: Event) -> None:
    said = notification(name, event)
    assert name in email.words(said).subject
    assert name in email.mail("a@example.com", said, domain="example.org", now=NOW).text
    blocks = slack.render(said, IncidentState(), "https://tocsin.example.com")
    assert name in blocks["text"]
    text = sms.text(said)
    # What cannot be seen, and would double what the message costs, is left out of it.
    plain = name.replace("\u00a0", " ").replace("\u00ad", "")
    assert plain in text
    assert sms_text.fits(text)


def test_a_reminder_says_that_it_is_one() -> None:
    said = notification("web-1", "reminder")
    assert email.words(said).subject.startswith("Reminder: cpu on web-1 since ")
    assert sms.text(said).startswith("Reminder: cpu on web-1 since ")
    assert slack.render(said, IncidentState(), "")["text"].startswith("Reminder: cpu on web-1")


def test_a_long_name_is_cut_in_an_sms_between_characters_as_people_see_them() -> None:
    text = sms.text(notification("👩‍💻" * 40))
    assert sms_text.fits(text)
    shown = text.removeprefix("cpu on ").partition("..")[0]
    assert shown
    assert shown.replace("👩‍💻", "") == ""


# ------------------------------------------------------------------------------------------------ accepted everywhere


async def named(client: httpx.AsyncClient, kind: str, name: str) -> tuple[int, Any]:
    """What making (or renaming) such a thing by that name is answered with, and the name in the answer."""
    match kind:
        case "network_monitor":
            wished = {"name": name, "url": "https://example.com/"}
            answer = await client.post("/api/v1/network_monitors", json={"network_monitor": wished})
        case "integration":
            hook = {"type": "Integrations::WebhookIntegration", "settings": {"webhook_url": "https://example.com/"}}
            answer = await client.post("/api/v1/integrations", json={"integration": {**hook, "name": name}})
    return answer.status_code, answer.json().get("name")


@pytest.mark.parametrize("kind", ["network_monitor", "integration"])
async def test_the_api_takes_names_of_all_peoples(app_client: httpx.AsyncClient, kind: str) -> None:
    for name in OF_ALL_PEOPLES:
        assert await named(app_client, kind, name) == (201, name)


@pytest.mark.parametrize("kind", ["network_monitor", "integration"])
async def test_the_api_refuses_what_is_no_name(app_client: httpx.AsyncClient, kind: str) -> None:
    for name in ["two\nlines", "nul\x00", "a\u202eb", "a\u2028b", "\u200d", "\u3164", "x" * 256]:
        assert (await named(app_client, kind, name))[0] == 422, repr(name)


async def test_a_hostname_is_one_line_everywhere(app_client: httpx.AsyncClient) -> None:
    named = {"motherboard_id": "1", "hostname": "web\r\nBcc: x@example.com\u202e  東京　1\x1b[31m"}
    report = {"attributes": named, "metrics": [], "agent_version": "1.2.3"}
    assert (await app_client.post("/api/v1/server_metrics", json=report)).status_code == 201
    [server] = (await app_client.get("/api/v1/servers")).json()
    assert server["hostname"] == "web Bcc: x@example.com 東京　1 [31m"
