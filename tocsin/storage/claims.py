"""Taking an account over by its mail: whoever reads what is sent to the address chooses the password."""

from __future__ import annotations

from uuid import UUID

from tocsin.domain.accounts import same_address
from tocsin.storage import accounts, audit, sessions
from tocsin.storage.database import Tx, key
from tocsin.storage.secrets import Vault

MADE_BY = "SELECT id, name FROM projects WHERE made_by = $1 ORDER BY id FOR UPDATE"


async def claim(tx: Tx, vault: Vault, user_id: UUID, email: str, password_hash: str) -> bool:
    """The account is its mail's reader's from now on: with this password, its address verified, and nobody signed in.

    An account that nobody had verified may have been made by a stranger, so the tokens of the projects that it made
    are replaced too. False where the account is gone, or has another address by now.
    """
    user = await accounts.user_by_id(tx, user_id, lock=True)
    if user is None or same_address(user.email) != same_address(email):
        return False
    await accounts.set_password(tx, user_id, password_hash)
    await sessions.end_others(tx, user_id)
    if not user.verified:
        await accounts.verify(tx, user_id, email)
        for row in await tx.fetch(MADE_BY, user_id):
            await accounts.rotate_token(tx, vault, key(row["id"]))
            await audit.note(tx, key(row["id"]), user_id, "rotated the API token", row["name"])
    return True
