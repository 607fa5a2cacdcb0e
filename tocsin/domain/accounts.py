"""Which addresses and passwords are accepted."""

from __future__ import annotations

import re
import unicodedata

from tocsin.domain.errors import invalid_field

MIN_PASSWORD_LENGTH = 6
MAX_PASSWORD_LENGTH = 1_000
MAX_ADDRESS_LENGTH = 254
"""Characters of a mail address (RFC 5321, 4.5.3.1, with RFC 3696's erratum 1690)."""

# Names inside one's own network: the operator's mail server decides whether they are valid. The
# validator has an exception for `.test` only, so it is given an ordinary name of the same length.
_LOCAL, _STAND_IN = ".local", ".lokal"
_is_local = re.compile(rf"{re.escape(_LOCAL)}\Z", re.IGNORECASE)

_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def address(field: str, text: str) -> str:
    """A mail address in its usual form, without blanks around it; nothing is looked up in the network.

    Raises `Refused` (422) naming `field`.
    """
    text = text.strip(" \t")
    if len(text) > MAX_ADDRESS_LENGTH:  # checked first: the cost of validation grows with the length
        raise invalid_field(field, f"is not a mail address: it has more than {MAX_ADDRESS_LENGTH} characters")
    try:
        usual, _ = _forms(text)
    except ValueError as error:
        raise invalid_field(field, f"is not a mail address such as alerts@example.com ({error})") from None
    return usual


def in_ascii(address: str) -> str:
    """The address with its domain in ASCII (IDNA), so that every mail server can find it."""
    if address.isascii():
        return address
    try:
        _, found = _forms(address)
    except ValueError:
        return address
    return found


def _forms(text: str) -> tuple[str, str]:
    """The usual form of an address, and the one with its domain in ASCII. Raises `ValueError` for what is none."""
    from email_validator import validate_email  # loaded by those who need it: it takes as long as all else here

    text, local = _is_local.subn(_STAND_IN, text)
    found = validate_email(text, check_deliverability=False, test_environment=True, strict=True)
    forms = found.normalized, found.ascii_email or f"{found.local_part}@{found.ascii_domain}"
    if not local:
        return forms
    usual, narrow = (each.removesuffix(_STAND_IN) + _LOCAL for each in forms)
    return usual, narrow


def same_address(text: str) -> str:
    """The form in which addresses are compared: A to Z without regard to case, and no other change.

    Anything else that looks alike is a different address: its mailbox may belong to somebody else. In SQL the same is
    `storage.postgres.database.folded`.
    """
    return unicodedata.normalize("NFC", text.strip()).translate(_LOWER)


def password(field: str, text: str, confirmation: str | None) -> str:
    """A password as it was given. Raises `Refused` (422) naming `field`, never the password."""
    if not MIN_PASSWORD_LENGTH <= len(text) <= MAX_PASSWORD_LENGTH:
        raise invalid_field(field, f"must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
    if confirmation is not None and confirmation != text:
        raise invalid_field(f"{field}_confirmation", "does not match the password")
    return text
