"""What names, addresses and passwords are accepted."""

from __future__ import annotations

import unicodedata

from email_validator import EmailNotValidError, validate_email

from tocsin.domain.errors import invalid_field

SHORTEST_PASSWORD = 6
LONGEST_PASSWORD = 1_000
LONGEST_ADDRESS = 254
"""RFC 5321, 4.5.3.1.3, without its angle brackets (RFC 3696, erratum 1690)."""
LONGEST_NAME = 200


def address(field: str, text: str) -> str:
    """A mail address in its usual form; nothing is looked up in the network. Raises `Refused` (422) naming `field`."""
    text = text.strip()
    if len(text) > LONGEST_ADDRESS:  # asked first: what looks into an address takes time by its length
        raise invalid_field(field, f"is no mail address: it has more than {LONGEST_ADDRESS} characters")
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except (EmailNotValidError, UnicodeError) as error:
        raise invalid_field(field, f"is not a mail address such as alerts@example.com ({error})") from None


def name(field: str, text: str) -> str:
    """A name for people: one line, not blank. Raises `Refused` (422) naming `field`."""
    stripped = text.strip()
    if not stripped or len(stripped) > LONGEST_NAME:
        raise invalid_field(field, f"must have 1 to {LONGEST_NAME} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in stripped):
        raise invalid_field(field, "must be one line of plain text")
    return stripped


def password(field: str, text: str, confirmation: str | None) -> str:
    """A password as it was given. Raises `Refused` (422) naming `field`, never the password."""
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD:
        raise invalid_field(field, f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if confirmation is not None and confirmation != text:
        raise invalid_field(f"{field}_confirmation", "does not match the password")
    return text
