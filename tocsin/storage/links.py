"""Signed links: what a mail lets its reader do without signing in."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from itsdangerous import BadData, SignatureExpired

from tocsin.storage.secrets import Vault

VERIFICATION_SECONDS = 3 * 86_400

_VERIFY = "verify email"
_UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True)
class Verification:
    """Whose address a link speaks for, and whether its three days are over."""

    user_id: UUID
    email: str
    expired: bool


def verification(vault: Vault, public_url: str, user_id: UUID, email: str) -> str:
    """The link by which a user shows that the address is theirs; valid for three days."""
    return f"{public_url}/verify-email?token={vault.signer(_VERIFY).dumps([user_id.hex, email])}"


def read_verification(vault: Vault, token: str) -> Verification | None:
    """What the link's token says, or None where we did not sign it."""
    signer = vault.signer(_VERIFY)
    expired = False
    try:
        said = signer.loads(token, max_age=VERIFICATION_SECONDS)
    except SignatureExpired as late:
        said, expired = signer.load_payload(late.payload or b""), True
    except (BadData, UnicodeError):
        return None
    return Verification(UUID(hex=said[0]), said[1], expired)


def unsubscribe(vault: Vault, public_url: str, integration_id: UUID) -> str:
    """The link by which a mail's reader stops its integration; valid for as long as the integration is there."""
    return f"{public_url}/unsubscribe?token={vault.signer(_UNSUBSCRIBE).dumps(integration_id.hex)}"


def read_unsubscribe(vault: Vault, token: str) -> UUID | None:
    """The integration that the link's token names, or None where we did not sign it."""
    try:
        return UUID(hex=vault.signer(_UNSUBSCRIBE).loads(token))
    except (BadData, UnicodeError):
        return None
