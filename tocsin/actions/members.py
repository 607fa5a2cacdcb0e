"""Members of a project: invited, joined, given another role, removed. Owners decide; at least one owner stays."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions import limits
from tocsin.actions.base import OWNERS, PEOPLE, READERS, Actor, Change, action, own
from tocsin.domain.errors import forbidden_state
from tocsin.storage.accounts import accounts
from tocsin.storage.accounts import members as stored
from tocsin.storage.accounts.accounts import Role
from tocsin.storage.accounts.members import Invitation, Member
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.channels import mail_limits
from tocsin.storage.postgres.database import Tx

INVITATIONS = Limit(30, 3600)
"""Per person: each is a mail to somebody who may not want it."""

VERIFY_FIRST = "Verify your own address first, by the link that was mailed to you; your account page sends it again"
ENOUGH_TODAY = "The daily limit is reached: at most {what} a day (UTC)"


@action("invited member", by=OWNERS)
async def invite(tx: Tx, actor: Actor, email: str, role: Role) -> tuple[Invitation, Change]:
    """Invite the owner of the address, for a week; the caller sends the mail.

    Raises `Refused`: 422 if they are a member already, the actor's own address is not verified, or the daily mail limit
    is reached; 429.
    """
    by = own(actor)
    inviting = await accounts.user_by_id(tx, by)
    if inviting is None or not (inviting.verified or inviting.operator):
        raise forbidden_state(VERIFY_FIRST)
    made = await stored.invite(tx, actor.project_id, email, role, by=by)
    await limits.take(tx, actor, f"invitations by {by}", INVITATIONS, limits.TOO_MANY)
    if used_up := await mail_limits.invite(tx, actor.project_id, email):
        raise forbidden_state(ENOUGH_TODAY.format(what=used_up))
    return made, Change(email, {"role": role})


@action("withdrew invitation", by=OWNERS)
async def withdraw(tx: Tx, actor: Actor, invitation_id: UUID) -> tuple[str, Change]:
    """The invited address. Raises `Refused` (404)."""
    email = await stored.withdraw(tx, actor.project_id, invitation_id)
    return email, Change(email)


@action("joined project", by=PEOPLE)
async def join(tx: Tx, actor: Actor, invitation: Invitation) -> tuple[None, Change]:
    """The project becomes the user's current one, and the invitation is used up.

    The caller has verified that the invited address is the user's.
    """
    await stored.accept(tx, invitation, own(actor))
    return None, Change(invitation.project_name, project_id=invitation.project_id)


@action("changed role", by=OWNERS)
async def set_role(tx: Tx, actor: Actor, user_id: UUID, role: Role) -> tuple[Member, Change]:
    """Raises `Refused`: 404, or 422 if the project would have no owner left."""
    member = await stored.set_role(tx, actor.project_id, user_id, role)
    return member, Change(member.email, {"role": role})


@action("removed member", by=OWNERS)
async def remove(tx: Tx, actor: Actor, user_id: UUID) -> tuple[Member, Change]:
    """Raises as `set_role` does."""
    member = await stored.remove(tx, actor.project_id, user_id)
    return member, Change(member.email)


@action("left project", by=READERS)
async def leave(tx: Tx, actor: Actor, project_name: str) -> tuple[None, Change]:
    """Everybody may leave. Raises `Refused` (422) if the project would have no owner left."""
    await stored.remove(tx, actor.project_id, own(actor))
    return None, Change(project_name)
