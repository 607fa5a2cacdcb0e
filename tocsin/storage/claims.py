"""Whose an account is: whoever reads its mail chooses the password, and so does who is in and knows the one before."""

from __future__ import annotations

from uuid import UUID

from tocsin.domain.accounts import same_address
from tocsin.storage import accounts, audit, sessions
from tocsin.storage.accounts import User
from tocsin.storage.database import Tx, key
from tocsin.storage.secrets import Vault

MADE_BY = "SELECT id, name FROM projects WHERE made_by = $1 ORDER BY id FOR UPDATE"


async def claim(tx: Tx, vault: Vault, user_id: UUID, email: str, password_hash: str) -> User | None:
    """The account is its mail's reader's from now on: with this password, its address verified, and nobody signed in.

    An account that nobody had verified may have been made by a stranger, so the tokens of the projects that it made
    are replaced too. The user as they are now; None where the account is gone, or has another address by now.
    """
    user = await accounts.user_by_id(tx, user_id, lock=True)
    if user is None or same_address(user.email) != same_address(email):
        return None
    await accounts.set_password(tx, user_id, password_hash)
    await sessions.end_others(tx, user_id)
    if not user.verified:
        await accounts.verify(tx, user_id, email)
        for row in await tx.fetch(MADE_BY, user_id):
            await accounts.rotate_token(tx, vault, key(row["id"]))
            await audit.note(tx, key(row["id"]), user_id, "rotated the API token", row["name"])
    return await accounts.user_by_id(tx, user_id)


async def change(tx: Tx, checked: User, session_id: UUID, password_hash: str) -> bool:
    """Another password in place of the one that was looked at, by a session of the user: all others end.

    False where it is not the password any more, or the session is over.
    """
    if not await accounts.hold(tx, checked) or not await sessions.lives(tx, checked.id, session_id):
        return False
    await accounts.set_password(tx, checked.id, password_hash)
    await sessions.end_others(tx, checked.id, session_id)
    return True
