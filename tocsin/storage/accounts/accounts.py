"""Accounts: projects, their tokens, users and their roles in projects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg

from tocsin.domain import ids, inner_loop
from tocsin.storage.channels import attachments
from tocsin.storage.postgres.database import Tx, folded, key
from tocsin.storage.postgres.secrets import Vault, new_token

PROJECT_TOKEN = "tcp_"
USER_TOKEN = "tcu_"
TOKEN_FIELD = "api_token"

Role = Literal["owner", "member", "reader"]


@dataclass(frozen=True, slots=True)
class NewProject:
    """A project with its token in clear: for its creator or its owner."""

    id: UUID
    name: str
    plan: str
    api_token: str


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    name: str
    plan: str
    owner: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OwnProject:
    """A project as its user sees it. Readers do not see the token, which may do everything."""

    id: UUID
    name: str
    plan: str
    api_token: str | None
    is_current: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class User:
    id: UUID
    email: str
    name: str
    password_hash: str | None
    verified: bool
    operator: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """Whom a token belongs to. A user without any project has no `project_id`; a project's token has no `user_id`."""

    user_id: UUID | None
    project_id: UUID | None
    plan: str
    role: Role


# --------------------------------------------------------------------------------------------------------- projects

INSERT_PROJECT = """
INSERT INTO projects (id, name, plan, owner_id, token_hash, token_sealed, made_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

INSERT_MEMBER = """
INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, $3)
"""

PROJECTS = f"""
SELECT p.id, p.name, p.plan, u.email, p.created_at FROM projects p LEFT JOIN users u ON u.id = p.owner_id
WHERE p.id <> '{inner_loop.PROJECT}' ORDER BY p.id
"""

SET_PLAN = """
UPDATE projects SET plan = $2, updated_at = now() WHERE id = $1 RETURNING name
"""

MADE_BY = "SELECT id FROM projects WHERE made_by = $1 ORDER BY id FOR UPDATE"
SET_PROJECT_NAME = "UPDATE projects SET name = $2, updated_at = now() WHERE id = $1 RETURNING true"

SET_TOKEN = """
UPDATE projects SET token_hash = $2, token_sealed = $3, updated_at = now() WHERE id = $1 RETURNING name, plan
"""

PROJECTS_OF_USER = """
SELECT p.id, p.name, p.plan, p.created_at, p.updated_at,
       CASE WHEN m.role <> 'reader' THEN p.token_sealed END AS sealed,
       p.id = first_value(p.id) OVER (
           ORDER BY (p.id = u.current_project_id) IS TRUE DESC, m.created_at, p.id
       ) AS current
FROM members m JOIN projects p ON p.id = m.project_id JOIN users u ON u.id = m.user_id
WHERE m.user_id = $1
ORDER BY m.created_at, p.id
"""

SWITCH = """
UPDATE users u SET current_project_id = $2, updated_at = now()
WHERE u.id = $1 AND EXISTS (SELECT FROM members m WHERE m.user_id = $1 AND m.project_id = $2)
RETURNING true
"""


async def create_project(tx: Tx, vault: Vault, name: str, plan: str, owner_email: str | None = None) -> NewProject:
    """A project with a fresh token; with an owner, that user (created if needed) and the system integration too."""
    return await create_project_of(tx, vault, name, plan, await _invited(tx, owner_email) if owner_email else None)


async def create_project_of(
    tx: Tx, vault: Vault, name: str, plan: str, owner: User | None, *, made_by: UUID | None = None
) -> NewProject:
    """A project of that owner; `made_by` is the user who creates it for themselves, None for the operator."""
    project_id, token = ids.new(), new_token(PROJECT_TOKEN)
    sealed = vault.seal(project_id, project_id, TOKEN_FIELD, token.encode())
    owner_id, token_hash = owner and owner.id, vault.token_hash(token)
    await tx.execute(INSERT_PROJECT, project_id, name, plan, owner_id, token_hash, sealed, made_by)
    if owner is not None:
        await tx.execute(INSERT_MEMBER, project_id, owner.id, "owner")
        await attachments.create_system(tx, project_id, owner.email)
    return NewProject(project_id, name, plan, token)


async def _invited(tx: Tx, email: str) -> User:
    """The user for an address that others gave. Whoever registered with it and never verified it may be a stranger, so
    their password no longer works; the link in the verification mail lets its reader choose a new one.
    """
    user = await ensure_user(tx, email)
    if await tx.fetchval(FORGET_PASSWORD, user.id):
        await tx.execute(SIGN_OUT, user.id)
    return user


async def hold_project(tx: Tx, project_id: UUID) -> bool:
    """Whether it exists; if so, it is locked against deletion until the transaction ends."""
    return bool(await tx.fetchval("SELECT true FROM projects WHERE id = $1 FOR KEY SHARE", project_id))


async def list_projects(tx: Tx) -> list[Project]:
    """All projects, oldest first."""
    return [
        Project(key(row["id"]), row["name"], row["plan"], row["email"], row["created_at"])
        for row in await tx.fetch(PROJECTS)
    ]


async def set_plan(tx: Tx, project_id: UUID, plan: str) -> str | None:
    """The project's name, or None where there is no such project."""
    name: str | None = await tx.fetchval(SET_PLAN, project_id, plan)
    return name


async def project_name(tx: Tx, project_id: UUID) -> str | None:
    """None where there is no such project."""
    name: str | None = await tx.fetchval("SELECT name FROM projects WHERE id = $1", project_id)
    return name


async def projects_made_by(tx: Tx, user_id: UUID) -> list[UUID]:
    """Projects that the user created for themselves, locked until the transaction ends."""
    return [key(row["id"]) for row in await tx.fetch(MADE_BY, user_id)]


async def set_project_name(tx: Tx, project_id: UUID, name: str) -> bool:
    """False where there is no such project."""
    return bool(await tx.fetchval(SET_PROJECT_NAME, project_id, name))


async def rotate_token(tx: Tx, vault: Vault, project_id: UUID) -> NewProject | None:
    """A new token in place of the old one. API processes may accept the old one for `TOKEN_CACHE_SECONDS` more."""
    token = new_token(PROJECT_TOKEN)
    sealed = vault.seal(project_id, project_id, TOKEN_FIELD, token.encode())
    row = await tx.fetchrow(SET_TOKEN, project_id, vault.token_hash(token), sealed)
    return NewProject(project_id, row["name"], row["plan"], token) if row else None


async def projects_of(tx: Tx, vault: Vault, user_id: UUID) -> list[OwnProject]:
    """The user's projects in the order of joining; the current one is the one chosen, else the first."""
    return [
        OwnProject(
            id=key(row["id"]),
            name=row["name"],
            plan=row["plan"],
            api_token=row["sealed"] and vault.open(row["id"], row["id"], TOKEN_FIELD, row["sealed"]).decode(),
            is_current=row["current"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
        for row in await tx.fetch(PROJECTS_OF_USER, user_id)
    ]


async def switch(tx: Tx, user_id: UUID, project_id: UUID) -> bool:
    """Make it the user's current project; False where the user is not in it."""
    return bool(await tx.fetchval(SWITCH, user_id, project_id))


# ----------------------------------------------------------------------------------------------------------- tokens

PROJECT_OF_TOKEN = """
SELECT id, plan FROM projects WHERE token_hash = ANY($1::bytea[])
"""

USER_OF_TOKEN = """
SELECT t.user_id, p.project_id, p.plan, p.role
FROM user_tokens t
JOIN users u ON u.id = t.user_id
LEFT JOIN LATERAL (
    SELECT m.project_id, m.role, p.plan FROM members m JOIN projects p ON p.id = m.project_id
    WHERE m.user_id = t.user_id
    ORDER BY (m.project_id = u.current_project_id) IS TRUE DESC, m.created_at, m.project_id LIMIT 1
) p ON true
WHERE t.hash = ANY($1::bytea[]) AND t.expires_at > now()
"""

DELETE_USER_TOKEN = """
DELETE FROM user_tokens WHERE hash = ANY($1::bytea[]) RETURNING true
"""


async def caller_of_token(tx: Tx, vault: Vault, token: str) -> TokenOwner | None:
    """Whose token it is, now; None for an unknown token. A user acts on the current project."""
    hashes = vault.token_hashes(token)
    if token.startswith(USER_TOKEN):
        row = await tx.fetchrow(USER_OF_TOKEN, hashes)
        if row is None:
            return None
        project_id = key(row["project_id"]) if row["project_id"] else None
        return TokenOwner(key(row["user_id"]), project_id, row["plan"] or "free", row["role"] or "reader")
    row = await tx.fetchrow(PROJECT_OF_TOKEN, hashes)
    return TokenOwner(None, key(row["id"]), row["plan"], "owner") if row else None


async def sign_out(tx: Tx, vault: Vault, token: str) -> bool:
    """Revoke the user's token; False if it was not valid."""
    return bool(await tx.fetchval(DELETE_USER_TOKEN, vault.token_hashes(token)))


# ------------------------------------------------------------------------------------------------------------ users

USER_COLUMNS = (
    "id, email, name, password_hash, email_verified_at IS NOT NULL AS verified, operator, "
    "created_at, updated_at"
)

USER_BY_EMAIL = f"""
SELECT {USER_COLUMNS} FROM users WHERE {folded("email")} = {folded("$1::text")}
"""
USER_BY_ID = f"SELECT {USER_COLUMNS} FROM users WHERE id = $1"

INSERT_USER = f"""
INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, $4)
ON CONFLICT ({folded("email")}) DO NOTHING
RETURNING {USER_COLUMNS}
"""

HOLD = """
SELECT true FROM users WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2 FOR NO KEY UPDATE
"""

FORGET_PASSWORD = """
UPDATE users SET password_hash = NULL WHERE id = $1 AND email_verified_at IS NULL AND NOT operator RETURNING true
"""

# A separate statement, after the one that locks the user: so it sees sign-ins committed while that one waited.
SIGN_OUT = "DELETE FROM user_tokens WHERE user_id = $1"

VERIFY = f"""
UPDATE users SET email_verified_at = now(), updated_at = now()
WHERE id = $1 AND email_verified_at IS NULL AND {folded("email")} = {folded("$2::text")}
RETURNING true
"""

SET_PASSWORD = """
WITH used AS (DELETE FROM operator_links WHERE user_id = $1)
UPDATE users SET password_hash = $2, updated_at = now() WHERE id = $1
"""

SET_NAME = "UPDATE users SET name = $2, updated_at = now() WHERE id = $1"

ANY_PROJECT = f"SELECT FROM projects WHERE id <> '{inner_loop.PROJECT}'"
ANYBODY = f"SELECT EXISTS (SELECT FROM users) OR EXISTS ({ANY_PROJECT})"
FIRST_OPERATOR = f"""
INSERT INTO users (id, email, name, password_hash, operator)
SELECT $1, $2, 'Operator', $3, true WHERE NOT EXISTS (SELECT FROM users) AND NOT EXISTS ({ANY_PROJECT})
ON CONFLICT ({folded("email")}) DO NOTHING
RETURNING id
"""


async def ensure_user(tx: Tx, email: str) -> User:
    """The user with that address (`same_address`), created if there is none."""
    while True:
        user = await user_by_email(tx, email) or await create_user(tx, email)
        if user:
            return user


async def create_user(tx: Tx, email: str, name: str = "", password_hash: str | None = None) -> User | None:
    """A new user, unverified; None where the address is taken."""
    row = await tx.fetchrow(INSERT_USER, ids.new(), email, name, password_hash)
    return _user(row) if row else None


async def user_by_email(tx: Tx, email: str) -> User | None:
    row = await tx.fetchrow(USER_BY_EMAIL, email)
    return _user(row) if row else None


async def user_by_id(tx: Tx, user_id: UUID, *, lock: bool = False) -> User | None:
    """`lock`: locked until the transaction ends."""
    row = await tx.fetchrow(f"{USER_BY_ID} FOR UPDATE" if lock else USER_BY_ID, user_id)
    return _user(row) if row else None


async def hold(tx: Tx, checked: User) -> bool:
    """Whether the password is still the one that was checked; if so, it is locked until the transaction ends.

    Hashing a password takes long. Whatever is written because it was right needs this first, in the same
    transaction, else somebody with the old one could sign in after a new one was chosen. The user is locked before
    anything else, limits too, to avoid deadlocks.
    """
    return bool(await tx.fetchval(HOLD, checked.id, checked.password_hash))


async def verify(tx: Tx, user_id: UUID, email: str) -> bool:
    """Mark the address as verified; False if it was already, or if the user has another address by now."""
    return bool(await tx.fetchval(VERIFY, user_id, email))


async def set_password(tx: Tx, user_id: UUID, password_hash: str) -> None:
    """Set another password; the caller ends the sessions that began with the old one."""
    await tx.execute(SET_PASSWORD, user_id, password_hash)


async def set_name(tx: Tx, user_id: UUID, name: str) -> None:
    await tx.execute(SET_NAME, user_id, name)


async def create_operator(
    tx: Tx, vault: Vault, email: str, password_hash: str | None, project_name: str
) -> NewProject | None:
    """The first account and its paid project, on an installation that has neither; None where it has.

    The operator's address is a name to sign in with, so the project has no owner and no system integration.
    """
    operator_id = await tx.fetchval(FIRST_OPERATOR, ids.new(), email, password_hash)
    if operator_id is None:
        return None
    project = await create_project(tx, vault, project_name, "paid")
    await tx.execute(INSERT_MEMBER, project.id, operator_id, "owner")
    return project


def _user(row: asyncpg.Record) -> User:
    return User(
        id=key(row["id"]),
        email=row["email"],
        name=row["name"],
        password_hash=row["password_hash"],
        verified=row["verified"],
        operator=row["operator"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
