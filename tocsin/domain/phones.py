"""Phone numbers: which are accepted, their country, and their format for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
FORM = "must be a phone number in E.164 format, such as +1234567890"


def problem(number: object) -> str | None:
    """What is wrong with a number's form (ITU-T E.164: `+` and 7 to 15 digits, the first no 0), or None."""
    if number is None or number == "":
        return "is required"
    if not isinstance(number, str):
        return "must be a string"
    return None if E164.fullmatch(number) else FORM


def country(number: str) -> str | None:
    """The two-letter code of the country of a well-formed number; None if it belongs to none."""
    import phonenumbers  # its tables are large, and few processes need them

    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return None


def outside(number: str, countries: Sequence[str]) -> str | None:
    """Why nothing may be sent to a well-formed number, if only these countries are allowed (empty: all)."""
    if not countries:
        return None
    found = country(number)
    if found in countries:
        return None
    of = f"is of {found}" if found else "is of no country that is known"
    return f"{of}, but text messages are sent to these countries only: {', '.join(countries)}"


def display(number: str) -> str:
    """A well-formed number as people write it: `+43 1 2345678`; unchanged if it belongs to no country."""
    import phonenumbers

    try:
        return phonenumbers.format_number(phonenumbers.parse(number), phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    except phonenumbers.NumberParseException:
        return number
