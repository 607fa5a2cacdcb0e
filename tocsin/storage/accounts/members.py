"""Members and invitations of projects. The rules of roles: owners manage members; at least one owner stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from itsdangerous import BadData

from tocsin.domain.errors import forbidden_state, not_found
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts.accounts import Role
from tocsin.storage.postgres.database import Tx, folded, key
from tocsin.storage.postgres.secrets import Vault

INVITED_FOR_DAYS = 7
_INVITATION = "invitation"


@dataclass(frozen=True, slots=True)
class Member:
    user_id: UUID
    email: str
    name: str
    role: Role
    since: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """`invited_by` is an address, or None if that account was deleted."""

    id: UUID
    project_id: UUID
    project_name: str
    email: str
    role: Role
    invited_by: str | None
    created_at: datetime
    expires_at: datetime


MEMBERS = """
SELECT u.id, u.email, u.name, m.role, m.created_at FROM members m JOIN users u ON u.id = m.user_id
WHERE m.project_id = $1 ORDER BY m.created_at, u.id
"""

INVITATION = """
SELECT i.id, i.project_id, p.name AS project_name, i.email, i.role, u.email AS invited_by, i.created_at, i.expires_at
FROM invitations i JOIN projects p ON p.id = i.project_id LEFT JOIN users u ON u.id = i.invited_by
WHERE i.expires_at > now()
"""
INVITATIONS = f"{INVITATION} AND i.project_id = $1 ORDER BY i.created_at, i.id"
INVITATION_BY_ID = f"{INVITATION} AND i.id = $1"
INVITATIONS_TO = f"""
{INVITATION} AND {folded("i.email")} = {folded("$1::text")} ORDER BY i.created_at, i.id
"""

INVITE = f"""
INSERT INTO invitations (project_id, email, role, invited_by, expires_at)
VALUES ($1, $2, $3, $4, now() + interval '{INVITED_FOR_DAYS} days')
ON CONFLICT (project_id, {folded("email")}) DO UPDATE
SET role = excluded.role, invited_by = excluded.invited_by, created_at = now(), expires_at = excluded.expires_at
RETURNING id
"""
WITHDRAW = "DELETE FROM invitations WHERE project_id = $1 AND id = $2 RETURNING email"

JOIN = """
INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, $3) ON CONFLICT (project_id, user_id) DO NOTHING
"""
IS_MEMBER = f"""
SELECT EXISTS (SELECT FROM members m JOIN users u ON u.id = m.user_id
               WHERE m.project_id = $1 AND {folded("u.email")} = {folded("$2::text")})
"""
# Serializes changes of a project's owners, so that it cannot be left without an owner.
LOCK = "SELECT FROM projects WHERE id = $1 FOR UPDATE"
SET_ROLE = "UPDATE members SET role = $3 WHERE project_id = $1 AND user_id = $2 RETURNING true"
REMOVE = "DELETE FROM members WHERE project_id = $1 AND user_id = $2 RETURNING true"
OTHER_OWNERS = "SELECT EXISTS (SELECT FROM members WHERE project_id = $1 AND user_id <> $2 AND role = 'owner')"
ONE_MEMBER = f"{MEMBERS.partition('ORDER BY')[0]} AND u.id = $2"

IS_OWNER = "SELECT true FROM members WHERE project_id = $1 AND user_id = $2 AND role = 'owner'"


async def holds_as_owner(tx: Tx, project_id: UUID, user_id: UUID) -> bool:
    """Whether the user owns the project, which stays so until the transaction ends."""
    await tx.execute(LOCK, project_id)
    return bool(await tx.fetchval(IS_OWNER, project_id, user_id))


async def members(tx: Tx, project_id: UUID) -> list[Member]:
    """In the order of joining."""
    return [_member(row) for row in await tx.fetch(MEMBERS, project_id)]


async def invitations(tx: Tx, project_id: UUID) -> list[Invitation]:
    """Those that can still be accepted, oldest first."""
    return [_invitation(row) for row in await tx.fetch(INVITATIONS, project_id)]


async def invitations_to(tx: Tx, email: str) -> list[Invitation]:
    """Those to this address that can still be accepted, oldest first."""
    return [_invitation(row) for row in await tx.fetch(INVITATIONS_TO, email)]


async def invite(tx: Tx, project_id: UUID, email: str, role: Role, *, by: UUID | None) -> Invitation:
    """Invite the owner of the address, for a week; a second invitation replaces the first. The caller sends the mail.

    Raises `Refused` (422) if they are a member already.
    """
    if await tx.fetchval(IS_MEMBER, project_id, email):
        raise forbidden_state(f"{email} is in this project already; change the role below")
    invitation_id = await tx.fetchval(INVITE, project_id, email, role, by)
    return _invitation(await tx.fetchrow(INVITATION_BY_ID, invitation_id))


async def withdraw(tx: Tx, project_id: UUID, invitation_id: UUID) -> str:
    """Withdraw the invitation. Returns its address. Raises `Refused` (404)."""
    email: str | None = await tx.fetchval(WITHDRAW, project_id, invitation_id)
    if email is None:
        raise not_found("invitation")
    return email


async def accept(tx: Tx, invitation: Invitation, user_id: UUID) -> None:
    """Add the user to the project, which becomes the current one, and use up the invitation.

    The caller has verified that the invited address is the user's.
    """
    if not await tx.fetchval(WITHDRAW, invitation.project_id, invitation.id):
        raise not_found("invitation")
    await tx.execute(JOIN, invitation.project_id, user_id, invitation.role)
    await accounts.switch(tx, user_id, invitation.project_id)


async def set_role(tx: Tx, project_id: UUID, user_id: UUID, role: Role) -> Member:
    """Raises `Refused`: 404 if not a member, 422 if the project would have no owner left."""
    await _keep_an_owner(tx, project_id, user_id, role)
    if not await tx.fetchval(SET_ROLE, project_id, user_id, role):
        raise not_found("member")
    return _member(await tx.fetchrow(ONE_MEMBER, project_id, user_id))


async def remove(tx: Tx, project_id: UUID, user_id: UUID) -> Member:
    """Raises as `set_role` does."""
    await _keep_an_owner(tx, project_id, user_id, None)
    row = await tx.fetchrow(ONE_MEMBER, project_id, user_id)
    if row is None or not await tx.fetchval(REMOVE, project_id, user_id):
        raise not_found("member")
    return _member(row)


async def _keep_an_owner(tx: Tx, project_id: UUID, user_id: UUID, role: Role | None) -> None:
    await tx.execute(LOCK, project_id)
    if role != "owner" and not await tx.fetchval(OTHER_OWNERS, project_id, user_id):
        raise forbidden_state("A project needs an owner; make somebody else an owner first")


def link(vault: Vault, public_url: str, invitation: Invitation) -> str:
    """The link in the invitation's mail."""
    return f"{public_url}/invitation?token={vault.signer(_INVITATION).dumps(invitation.id.hex)}"


async def read(tx: Tx, vault: Vault, token: str) -> Invitation | None:
    """The invitation behind a link, or None if it is expired, used, withdrawn or unknown."""
    try:
        invitation_id = UUID(hex=vault.signer(_INVITATION).loads(token))
    except (BadData, UnicodeError, ValueError, TypeError, AttributeError):
        return None
    row = await tx.fetchrow(INVITATION_BY_ID, invitation_id)
    return _invitation(row) if row else None


def _member(row: asyncpg.Record) -> Member:
    user_id, email, name, role, since = row
    return Member(key(user_id), email, name, role, since)


def _invitation(row: asyncpg.Record) -> Invitation:
    invitation_id, project_id, *rest = row
    return Invitation(key(invitation_id), key(project_id), *rest)
