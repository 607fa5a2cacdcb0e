"""Signing in and out, by page and API."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions.base import EVERYBODY, PEOPLE, Actor, own, unrecorded
from tocsin.storage.accounts import accounts, sessions
from tocsin.storage.accounts import sign_ins as stored
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.sign_ins import SignInAttempt
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

OWN = "sessions are listed on the account's page"


@unrecorded(OWN, by=EVERYBODY)
async def begin(tx: Tx, actor: Actor, vault: Vault, address: str, network: str) -> SignInAttempt:
    """Count one more attempt. The caller commits, whatever the outcome, and then checks the password."""
    return await stored.begin(tx, vault, address, network)


@unrecorded(OWN, by=EVERYBODY)
async def create_token(tx: Tx, actor: Actor, vault: Vault, good: SignInAttempt) -> str | None:
    """A token for the user whose password was right; None if it has changed by now."""
    assert good.user is not None
    token = await sessions.begin(tx, vault, good.user)
    if token is not None:
        await stored.succeed(tx, vault, good)
    return token


@unrecorded(OWN, by=EVERYBODY)
async def create_session(
    tx: Tx, actor: Actor, vault: Vault, user: User, network: str, *, good: SignInAttempt | None, before: str, label: str
) -> str | None:
    """A session that replaces the one `before`; `good` is the successful attempt, None after a link.

    None if the user's password has changed by now.
    """
    token = await sessions.begin(tx, vault, user, label)
    if token is None:
        return None
    if good:
        await stored.succeed(tx, vault, good)
    else:
        await stored.remember(tx, vault, user, network)
    if before:
        await accounts.sign_out(tx, vault, before)
    return token


@unrecorded(OWN, by=EVERYBODY)
async def end_token(tx: Tx, actor: Actor, vault: Vault, token: str) -> bool:
    """Revoke the token. Returns whether it existed."""
    return await accounts.sign_out(tx, vault, token)


@unrecorded(OWN, by=PEOPLE)
async def end(tx: Tx, actor: Actor, session_id: UUID) -> None:
    """End one of the user's own sessions."""
    await sessions.end(tx, own(actor), session_id)


@unrecorded(OWN, by=PEOPLE)
async def end_others(tx: Tx, actor: Actor, session_id: UUID) -> None:
    """End all of the user's sessions but this one."""
    await sessions.end_others(tx, own(actor), session_id)
