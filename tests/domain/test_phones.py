"""Phone numbers: their form, their country, and how people write them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain import phones


@pytest.mark.parametrize("number", ["+1234567890", "+1234567", "+123456789012345", "+436641234567"])
def test_a_number_is_accepted_by_its_form(number: str) -> None:
    assert phones.problem(number) is None


@pytest.mark.parametrize("number", ["", None, "+123456", "+1234567890123456", "+0234567890", "1234567890", "+12 34567",
                                    "+1234567\n", "+１２３４５６７", "tel:+1234567890", 1234567890])  # fmt: skip
def test_anything_else_is_not(number: object) -> None:
    assert phones.problem(number)


def test_a_country_is_known_by_the_whole_number() -> None:
    assert phones.country("+436641234567") == "AT"
    assert phones.country("+12042345678") == "CA"
    assert phones.country("+12015550123") == "US"
    assert phones.country("+1234567890") is None


def test_people_read_a_number_in_groups() -> None:
    assert phones.display("+436641234567") == "+43 664 1234567"


def test_where_no_countries_are_named_all_are_allowed() -> None:
    assert phones.outside("+1234567890", ()) is None
    assert phones.outside("+436641234567", ("AT",)) is None
    assert "AT" in (phones.outside("+447400123456", ("AT",)) or "")


@given(st.from_regex(phones.E164, fullmatch=True))
def test_no_number_of_good_form_is_too_strange_to_be_judged(number: str) -> None:
    assert phones.display(number).startswith("+")
    assert (phones.outside(number, ("AT",)) is None) == (phones.country(number) == "AT")


@pytest.mark.parametrize("module", ["tocsin.engine.run", "tocsin.api.server"])
def test_the_tables_of_all_countries_are_not_loaded_before_somebody_asks(module: str) -> None:
    look = f"import sys, {module}; from tocsin.integrations import base; base.types(); "
    code = look + "sys.exit('phonenumbers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
