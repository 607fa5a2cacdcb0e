"""Identifiers: what the outside sees, and back."""

from __future__ import annotations

import pytest

from tocsin.domain import ids


def test_an_identifier_leads_back_to_its_key() -> None:
    for key in (ids.new() for _ in range(1000)):
        public = ids.public(ids.INCIDENT, key)
        assert len(public) == 29
        assert ids.parse(ids.INCIDENT, public) == key


def test_identifiers_made_one_after_another_do_not_look_alike() -> None:
    made = [ids.public(ids.SERVER, ids.new()) for _ in range(200)]
    assert len({each.removeprefix("SRV")[:6] for each in made}) > 190
    assert made != sorted(made)


@pytest.mark.parametrize("text", ["", "INC", "SRV" + "0" * 26, "INC" + "0" * 25, "INC" + "U" * 26, "INC" + "Z" * 26])
def test_what_cannot_be_an_identifier_has_no_key(text: str) -> None:
    assert ids.parse(ids.INCIDENT, text) is None
