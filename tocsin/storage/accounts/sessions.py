"""Console sessions: people's sign-ins, which can be listed and ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tocsin.storage.accounts import accounts
from tocsin.storage.accounts.accounts import USER_TOKEN, Role, User
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault, new_token

SIGNED_IN_FOR = "30 days"
SEEN_EVERY = "5 minutes"
"""Precision of a session's last use: not every page is worth a write."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A project that a user is a member of."""

    project_id: UUID
    name: str
    plan: str
    role: Role


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user with a valid session. `projects` in the order of joining; `current` is one of them."""

    session_id: UUID
    user_id: UUID
    email: str
    name: str
    operator: bool
    verified: bool
    projects: tuple[Membership, ...]
    current: Membership | None


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in: a description of the client, when it began and (roughly) last used."""

    id: UUID
    label: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


WHO = """
SELECT t.id, t.user_id, t.last_seen_at < now() - $2::text::interval AS stale, u.email, u.name, u.operator,
       u.email_verified_at IS NOT NULL AS verified, u.current_project_id,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(p.id, p.name, p.plan, m.role) ORDER BY m.created_at, p.id), '[]')
        FROM members m JOIN projects p ON p.id = m.project_id WHERE m.user_id = u.id) AS projects
FROM user_tokens t JOIN users u ON u.id = t.user_id
WHERE t.hash = ANY($1::bytea[]) AND t.expires_at > now()
"""

SEEN = "UPDATE user_tokens SET last_seen_at = now() WHERE id = $1"

BEGIN = f"""
WITH old AS (DELETE FROM user_tokens WHERE user_id = $2 AND expires_at <= now())
INSERT INTO user_tokens (hash, user_id, label, expires_at) VALUES ($1, $2, $3, now() + interval '{SIGNED_IN_FOR}')
"""

OF_USER = """
SELECT id, label, created_at, last_seen_at, expires_at FROM user_tokens
WHERE user_id = $1 AND expires_at > now() ORDER BY last_seen_at DESC, id
"""

LIVES = "SELECT true FROM user_tokens WHERE user_id = $1 AND id = $2 AND expires_at > now()"
END = "DELETE FROM user_tokens WHERE user_id = $1 AND id = $2 RETURNING true"
END_OTHERS = "DELETE FROM user_tokens WHERE user_id = $1 AND id IS DISTINCT FROM $2 RETURNING true"


async def begin(tx: Tx, vault: Vault, user: User, label: str = "") -> str | None:
    """A new session's token, good for 30 days, for pages and API alike; `label` is for the list of sessions.

    `user` is as of when the password was checked. None if the password has changed since: then it was wrong.
    """
    if not await accounts.hold(tx, user):
        return None
    token = new_token(USER_TOKEN)
    await tx.execute(BEGIN, vault.token_hash(token), user.id, label)
    return token


async def session_of_token(tx: Tx, vault: Vault, token: str) -> SignedIn | None:
    """Whose session it is; None if it is unknown or expired."""
    row = await tx.fetchrow(WHO, vault.token_hashes(token), SEEN_EVERY)
    if row is None:
        return None
    if row["stale"]:
        await tx.execute(SEEN, row["id"])
    projects = tuple(Membership(UUID(each[0]), *each[1:]) for each in row["projects"])
    chosen = key(row["current_project_id"]) if row["current_project_id"] else None
    current = next((each for each in projects if each.project_id == chosen), projects[0] if projects else None)
    return SignedIn(
        key(row["id"]), key(row["user_id"]), row["email"], row["name"], row["operator"], row["verified"],
        projects, current,
    )


async def of_user(tx: Tx, user_id: UUID) -> list[Session]:
    """The user's sessions, the one last used first."""
    return [
        Session(key(row["id"]), row["label"], row["created_at"], row["last_seen_at"], row["expires_at"])
        for row in await tx.fetch(OF_USER, user_id)
    ]


async def lives(tx: Tx, user_id: UUID, session_id: UUID) -> bool:
    return bool(await tx.fetchval(LIVES, user_id, session_id))


async def end(tx: Tx, user_id: UUID, session_id: UUID) -> bool:
    """End one session of the user; False if it is not theirs, or had ended."""
    return bool(await tx.fetchval(END, user_id, session_id))


async def end_others(tx: Tx, user_id: UUID, exclude: UUID | None = None) -> int:
    """End all sessions of the user except one; returns how many."""
    return len(await tx.fetch(END_OTHERS, user_id, exclude))
