"""The operator's account, and the links that set it up: valid for one hour, once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.domain.errors import invalid_field
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts.accounts import User
from tocsin.storage.postgres.database import Tx, folded, key
from tocsin.storage.postgres.secrets import Vault, new_token

LINK_TOKEN = "tco_"
GOOD_FOR = "1 hour"
UNSET = "operator@localhost"
"""The address of an operator who has not set the account up."""


@dataclass(frozen=True, slots=True)
class Operator:
    user_id: UUID
    email: str
    name: str

    @property
    def fresh(self) -> bool:
        """Whether the account has never been set up."""
        return self.email == UNSET


FIRST = "SELECT id FROM users WHERE operator ORDER BY created_at, id LIMIT 1"

INSERT_LINK = f"""
WITH old AS (DELETE FROM operator_links WHERE expires_at <= now())
INSERT INTO operator_links (hash, user_id, expires_at) VALUES ($1, $2, now() + interval '{GOOD_FOR}')
"""

OF_LINK = """
SELECT u.id, u.email, u.name FROM operator_links l JOIN users u ON u.id = l.user_id
WHERE l.hash = ANY($1::bytea[]) AND l.expires_at > now() AND u.operator
"""

USE_LINK = """
WITH this AS (
    DELETE FROM operator_links WHERE hash = ANY($1::bytea[]) AND expires_at > now() RETURNING user_id
), others AS (
    DELETE FROM operator_links l USING this WHERE l.user_id = this.user_id AND NOT l.hash = ANY($1::bytea[])
)
SELECT user_id FROM this
"""

SET_UP = f"""
UPDATE users SET email_verified_at = CASE WHEN {folded("email")} = {folded("$2::text")}
                                          THEN email_verified_at END,
                 email = $2, name = $3, password_hash = $4, updated_at = now()
WHERE id = $1
"""

# The first project was created before there was an address for its alerts.
ADOPT = """
UPDATE projects p SET owner_id = $1, updated_at = now()
WHERE owner_id IS NULL
  AND EXISTS (SELECT FROM members m WHERE m.project_id = p.id AND m.user_id = $1 AND m.role = 'owner')
  AND NOT EXISTS (SELECT FROM integrations i WHERE i.project_id = p.id AND i.system)
RETURNING id
"""


ADDRESS = "SELECT email FROM users WHERE operator AND email <> $1 ORDER BY created_at, id LIMIT 1"


async def address(tx: Tx) -> str | None:
    """The operator's address; None while the account has not been set up."""
    email: str | None = await tx.fetchval(ADDRESS, UNSET)
    return email


async def new_link(tx: Tx, vault: Vault, public_url: str) -> str | None:
    """A link that sets the operator's account up (or resets its password); None where there is no operator."""
    user_id = await tx.fetchval(FIRST)
    if user_id is None:
        return None
    token = new_token(LINK_TOKEN)
    await tx.execute(INSERT_LINK, vault.token_hash(token), user_id)
    return f"{public_url}/welcome?token={token}"


async def of_link(tx: Tx, vault: Vault, token: str) -> Operator | None:
    """The account that the link sets up; None if it is used, expired or unknown. Does not use the link up."""
    row = await tx.fetchrow(OF_LINK, vault.token_hashes(token))
    return Operator(key(row["id"]), row["email"], row["name"]) if row else None


async def set_up(tx: Tx, vault: Vault, token: str, email: str, name: str, password_hash: str) -> User | None:
    """Use the link: sets address, name and password, and ends older sessions. None for a used link.

    Raises `Refused` (422) if the address belongs to another account.
    """
    hashes = vault.token_hashes(token)
    await tx.execute(f"{OF_LINK} FOR NO KEY UPDATE OF u", hashes)  # lock the user first, as everywhere
    user_id = await tx.fetchval(USE_LINK, hashes)
    if user_id is None:
        return None
    user_id = key(user_id)
    other = await accounts.user_by_email(tx, email)
    if other is not None and other.id != user_id:
        raise invalid_field("email", "belongs to another account")
    await tx.execute(SET_UP, user_id, email, name, password_hash)
    await tx.execute(accounts.SIGN_OUT, user_id)
    return await accounts.user_by_id(tx, user_id)


async def adopt(tx: Tx, user_id: UUID) -> list[UUID]:
    """Make the user the owner of their projects that have none yet. Returns those."""
    return [key(row["id"]) for row in await tx.fetch(ADOPT, user_id)]
