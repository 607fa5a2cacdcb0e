"""Phone numbers: which are accepted, which country they are of, how people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
FORM = "must be a phone number in E.164 format, such as +1234567890"


def problem(number: object) -> str | None:
    """What is wrong with a number by its form (ITU-T E.164: `+` and 7 to 15 digits, the first no 0), or None."""
    if number is None or number == "":
        return "is required"
    if not isinstance(number, str):
        return "must be a string"
    return None if E164.fullmatch(number) else FORM


def country(number: str) -> str | None:
    """The two-letter code of the country that a number of good form belongs to; None where it is of none."""
    import phonenumbers  # its tables are large, and few processes ever ask

    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return None


def outside(number: str, countries: Sequence[str]) -> str | None:
    """Why nothing may be sent to a number of good form where only these countries are allowed (none named: all)."""
    if not countries:
        return None
    found = country(number)
    if found in countries:
        return None
    of = f"is of {found}" if found else "is of no country that is known"
    return f"{of}, but text messages are sent to these countries only: {', '.join(countries)}"


def display(number: str) -> str:
    """A number of good form as people write it: `+43 1 2345678`; as it is where it is of no country."""
    import phonenumbers

    try:
        return phonenumbers.format_number(phonenumbers.parse(number), phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    except phonenumbers.NumberParseException:
        return number
