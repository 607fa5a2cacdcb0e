"""Addresses of calendar feeds: unguessable, never stored, and others as soon as somebody asks for that."""

from __future__ import annotations

import hmac
from uuid import UUID

from tocsin.domain import ids
from tocsin.storage.postgres.secrets import Vault

PATH = "/oncall"
SUFFIX = ".ics"
DIGITS = 40
"""Of 4 bits each."""


def address(vault: Vault, public_url: str, on_call_id: UUID, number: int) -> str:
    """Where the calendar of an on-call integration is, after its address was changed `number` times."""
    token = f"{ids.public(ids.INTEGRATION, on_call_id)}-{_proofs(vault, on_call_id, number)[0]}"
    return f"{public_url}{PATH}/{token}{SUFFIX}"


def named(token: str) -> UUID | None:
    """The integration that a token says it is for. Check `is_valid` before anything is shown."""
    return ids.parse(ids.INTEGRATION, token.partition("-")[0])


def is_valid(vault: Vault, token: str, on_call_id: UUID, number: int) -> bool:
    """Whether that token is in the present address; also after the installation's keys were replaced."""
    proof = token.partition("-")[2].encode("utf-8", "replace")
    return any(hmac.compare_digest(proof, each.encode()) for each in _proofs(vault, on_call_id, number))


def _proofs(vault: Vault, on_call_id: UUID, number: int) -> list[str]:
    return [each.hex()[:DIGITS] for each in vault.token_hashes(f"on-call feed {on_call_id.hex} {number}")]
