"""Signed links: they let a mail's reader act without signing in."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from itsdangerous import BadData, SignatureExpired

from tocsin.storage.accounts.accounts import User
from tocsin.storage.postgres.secrets import Vault

VERIFICATION_SECONDS = 3 * 86_400

_VERIFY = "verify email"
_UNSUBSCRIBE = "unsubscribe"
_ACKNOWLEDGE = "acknowledge"
_RESET = "reset password"
ACKNOWLEDGEMENT_SECONDS = 30 * 86_400
RESET_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Verification:
    """The user and address that a link verifies, and whether its three days are over."""

    user_id: UUID
    email: str
    expired: bool


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The incident that a link acknowledges, and the integration that was sent it."""

    incident_id: UUID
    integration_id: UUID


def verification(vault: Vault, public_url: str, user_id: UUID, email: str) -> str:
    """The link by which a user verifies their address; valid for three days."""
    return f"{public_url}/verify-email?token={vault.signer(_VERIFY).dumps([user_id.hex, email])}"


def read_verification(vault: Vault, token: str) -> Verification | None:
    """The content of the link's token, or None if we did not sign it."""
    signer = vault.signer(_VERIFY)
    expired = False
    try:
        claims = signer.loads(token, max_age=VERIFICATION_SECONDS)
    except SignatureExpired as late:
        claims, expired = signer.load_payload(late.payload or b""), True
    except (BadData, UnicodeError):
        return None
    return Verification(UUID(hex=claims[0]), claims[1], expired)


def unsubscribe(vault: Vault, public_url: str, integration_id: UUID) -> str:
    """The link by which a mail's reader stops its integration; valid for as long as the integration is there."""
    return f"{public_url}/unsubscribe?token={vault.signer(_UNSUBSCRIBE).dumps(integration_id.hex)}"


def read_unsubscribe(vault: Vault, token: str) -> UUID | None:
    """The integration that the link's token names, or None where we did not sign it."""
    try:
        return UUID(hex=vault.signer(_UNSUBSCRIBE).loads(token))
    except (BadData, UnicodeError):
        return None


def acknowledgement(vault: Vault, public_url: str, incident_id: UUID, integration_id: UUID) -> str:
    """The link by which whoever was notified takes an incident; valid for thirty days."""
    token = vault.signer(_ACKNOWLEDGE).dumps([incident_id.hex, integration_id.hex])
    return f"{public_url}/acknowledge?token={token}"


def read_acknowledgement(vault: Vault, token: str) -> Acknowledgement | None:
    """The content of the link's token, or None if we did not sign it or its time is over."""
    try:
        incident, integration = vault.signer(_ACKNOWLEDGE).loads(token, max_age=ACKNOWLEDGEMENT_SECONDS)
        return Acknowledgement(UUID(hex=incident), UUID(hex=integration))
    except (BadData, UnicodeError):
        return None


def reset(vault: Vault, public_url: str, user: User) -> str:
    """The link by which a user chooses a new password: for an hour, and as long as address and password are the same;
    so it works once.
    """
    return f"{public_url}/new-password?token={vault.signer(_RESET).dumps([user.id.hex, _digest(vault, user)])}"


def read_reset(vault: Vault, token: str) -> UUID | None:
    """The user that the link's token names, or None where we did not sign it or its hour is over."""
    try:
        claims = vault.signer(_RESET).loads(token, max_age=RESET_SECONDS)
        return UUID(hex=claims[0])
    except (BadData, UnicodeError):
        return None


def still_resets(vault: Vault, token: str, user: User) -> bool:
    """Whether nothing has changed since the link was made."""
    return bool(vault.signer(_RESET).loads(token, max_age=RESET_SECONDS)[1] in _digests(vault, user))


def _digest(vault: Vault, user: User) -> str:
    return _digests(vault, user)[0]


def _digests(vault: Vault, user: User) -> list[str]:
    return [each.hex()[:32] for each in vault.token_hashes(f"reset {user.email} {user.password_hash}")]
