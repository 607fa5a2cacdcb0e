"""What addresses and passwords are accepted."""

from __future__ import annotations

import unicodedata

from email_validator import EmailNotValidError, validate_email

from tocsin.domain.errors import invalid_field

SHORTEST_PASSWORD = 6
LONGEST_PASSWORD = 1_000
LONGEST_ADDRESS = 254
"""Characters of a mail address (RFC 5321, 4.5.3.1, with RFC 3696's erratum 1690)."""

_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def address(field: str, text: str) -> str:
    """A mail address in its usual form; nothing is looked up in the network. Raises `Refused` (422) naming `field`."""
    text = text.strip()
    if len(text) > LONGEST_ADDRESS:  # asked first: what looks into an address takes time by its length
        raise invalid_field(field, f"is no mail address: it has more than {LONGEST_ADDRESS} characters")
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except (EmailNotValidError, UnicodeError) as error:
        raise invalid_field(field, f"is not a mail address such as alerts@example.com ({error})") from None


def same_address(text: str) -> str:
    """What an address is compared by: without regard to the case of A to Z, and to no other difference.

    Whatever else looks alike is another address: a mail server may give it to somebody else. In SQL the same is
    `lower(email COLLATE "C")`.
    """
    return unicodedata.normalize("NFC", text.strip()).translate(_LOWER)


def password(field: str, text: str, confirmation: str | None) -> str:
    """A password as it was given. Raises `Refused` (422) naming `field`, never the password."""
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD:
        raise invalid_field(field, f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if confirmation is not None and confirmation != text:
        raise invalid_field(f"{field}_confirmation", "does not match the password")
    return text
