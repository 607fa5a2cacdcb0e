"""What an SMS says: everything that matters, in one message, whatever it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.domain import sms_text
from tocsin.domain.deliveries import Event
from tocsin.domain.incidents import Notification
from tocsin.integrations.sms import summed_up, text
from tocsin.storage.channels.sms_limits import Summary

BEGAN = datetime(2024, 3, 1, 12, 30, 5, tzinfo=UTC)
any_text = st.text(max_size=400)
gsm_text = st.text(st.sampled_from("abcXYZ 019äöü{}[]€^~|\\@£"), max_size=400)
every_length = settings(max_examples=300, deadline=None)


def said(
    event: Event = "opened",
    *,
    name: str = "web-1",
    kind: str = "cpu",
    message: str = "CPU at 97 %",
    lasted: int = 303,
) -> str:
    ended = BEGAN + timedelta(seconds=lasted) if event == "resolved" else None
    return text(Notification("DLV1", event, "INC1", "Server", name, "", kind, message, BEGAN, ended))


def septets(message: str) -> int:
    """Counted as the standard says, without the code that is tested."""
    return sum(2 if each in "\f^{}\\[~]|€" else 1 for each in message)


def units(message: str) -> int:
    return len(message.encode("utf-16-be")) // 2


def is_one_message(message: str) -> bool:
    return septets(message) <= 160 if sms_text.is_gsm(message) else units(message) <= 70


def test_an_opening_says_what_where_since_when_and_the_message() -> None:
    assert said() == "cpu on web-1 since 01 Mar 12:30 UTC: CPU at 97 %"


def test_a_resolve_says_how_long_it_took() -> None:
    assert said("resolved") == "Resolved: cpu on web-1 after 5 min 3 s, since 01 Mar 12:30 UTC"


def test_a_test_says_that_it_is_one() -> None:
    assert said("test", message="Nothing is wrong.") == "Test, 01 Mar 12:30 UTC: Nothing is wrong."


def test_the_longest_part_is_shortened_first() -> None:
    assert said(message="m" * 300) == f"cpu on web-1 since 01 Mar 12:30 UTC: {'m' * 121}.."
    both = said(name="n" * 300, message="m" * 300)
    assert both.count("n") - both.count("m") in range(-1, 4)
    assert both.startswith("cpu on nnn")


def test_characters_of_the_extension_count_twice() -> None:
    assert septets(said(message="€" * 200)) in (159, 160)
    assert said(message="€" * 200).count("€") == 60


def test_a_character_that_gsm_has_not_leaves_70_units() -> None:
    message = said(name="веб-1", message="я" * 300)
    assert units(message) == 70
    assert message.startswith("cpu on веб-1 since 01 Mar 12:30 UTC: яяя")


def test_typography_does_not_halve_the_message() -> None:
    assert sms_text.is_gsm(said(message="“Request” timed out – after 30 s…"))


@pytest.mark.parametrize("hidden", ["\x00", "\r\nBcc: x", "\u2028", "\u202e"])
def test_no_text_of_a_projects_breaks_the_line(hidden: str) -> None:
    assert said(name=f"web{hidden}1").isprintable()


@given(name=any_text, kind=any_text, message=any_text, event=st.sampled_from(["opened", "resolved", "test", "notice"]))
@every_length
def test_whatever_it_is_about_it_is_one_message_on_one_line(
    name: str, kind: str, message: str, event: Event
) -> None:
    made = said(event, name=name, kind=kind, message=message)
    assert is_one_message(made)
    assert "\n" not in made
    if event in ("opened", "resolved"):
        assert "since 01 Mar 12:30 UTC" in made


@given(name=gsm_text, kind=gsm_text, message=gsm_text)
@every_length
def test_within_the_gsm_alphabet_there_are_160_septets_and_none_is_wasted(name: str, kind: str, message: str) -> None:
    made = said(name=name, kind=kind, message=message)
    assert septets(made) <= 160
    whole = f"{sms_text.line(kind)} on {sms_text.line(name)} since 01 Mar 12:30 UTC: {sms_text.line(message)}"
    if septets(whole) <= 160:
        assert made == whole.strip()
    else:
        assert septets(made) > 160 - 12  # what is cut is cut at whole characters, and at spaces


@given(lasted=st.integers(0, 10_000 * 86_400), name=any_text)
@every_length
def test_a_resolve_says_how_long_it_took_whatever_it_is_about(lasted: int, name: str) -> None:
    made = said("resolved", name=name, lasted=lasted)
    assert is_one_message(made)
    assert " after " in made


@given(count=st.integers(11, 100_000), names=st.lists(any_text, max_size=20), host=st.text("abc.", max_size=80))
@every_length
def test_a_summary_is_one_message_and_says_how_many(count: int, names: list[str], host: str) -> None:
    made = summed_up(Summary(count, count - 1, names), f"https://{host}")
    assert is_one_message(made)
    assert made.startswith(f"{count} more incidents within 5 min, {count - 1} ongoing:")
