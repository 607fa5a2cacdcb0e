"""What addresses and passwords are accepted."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email

from tocsin.domain.errors import invalid_field

SHORTEST_PASSWORD = 6
LONGEST_PASSWORD = 1_000


def address(field: str, text: str) -> str:
    """A mail address in its usual form; nothing is looked up in the network. Raises `Refused` (422) naming `field`."""
    try:
        return validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized
    except (EmailNotValidError, UnicodeError) as error:
        raise invalid_field(field, f"is not a mail address such as alerts@example.com ({error})") from None


def password(field: str, text: str, confirmation: str | None) -> str:
    """A password as it was given. Raises `Refused` (422) naming `field`, never the password."""
    if not SHORTEST_PASSWORD <= len(text) <= LONGEST_PASSWORD:
        raise invalid_field(field, f"must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if confirmation is not None and confirmation != text:
        raise invalid_field(f"{field}_confirmation", "does not match the password")
    return text
