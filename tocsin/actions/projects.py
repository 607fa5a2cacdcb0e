"""Projects: created by people for themselves, by a command for others, on the first start; renamed, put on a plan."""

from __future__ import annotations

from uuid import UUID

from tocsin.actions import limits
from tocsin.actions.base import OPERATOR, OWNERS, PEOPLE, SYSTEM, Actor, Change, action, own, unrecorded
from tocsin.domain.errors import Refused, not_found
from tocsin.storage.accounts import accounts, operator
from tocsin.storage.accounts.accounts import NewProject
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

NO_PROJECTS = "New projects are created by the operator of this installation"
PER_PERSON = Limit(10, 86_400)
"""Maximum projects of one person who is not the operator: each has limits of its own."""


def may_create(actor: Actor, registration: str) -> bool:
    """Whether the actor may create projects of their own."""
    return actor.role == "operator" or registration == "open"


@action("made project", by=PEOPLE)
async def create(
    tx: Tx, actor: Actor, vault: Vault, name: str, plan: str, *, registration: str, first: bool = False
) -> tuple[NewProject, Change]:
    """A project of the actor's own, which becomes their current one.

    The operator's are paid, and without limit; others may create some beside their `first` if `registration` is open.
    Raises `Refused` (403, 429).
    """
    owner = await accounts.user_by_id(tx, own(actor))
    assert owner is not None
    if actor.role == "operator":
        plan, made_by = "paid", None
    elif may_create(actor, registration):
        if not first:
            await limits.take(tx, actor, f"projects of {owner.id}", PER_PERSON, limits.TOO_MANY)
        made_by = owner.id
    else:
        raise Refused(403, "forbidden", NO_PROJECTS)
    made = await accounts.create_project_of(tx, vault, name, plan, owner, made_by=made_by)
    await accounts.switch(tx, owner.id, made.id)
    return made, Change(name, {"plan": plan}, made.id)


@action("made project", by=OPERATOR)
async def create_for(
    tx: Tx, actor: Actor, vault: Vault, name: str, plan: str, owner_email: str | None
) -> tuple[NewProject, Change]:
    """A project owned by the user with that address, or without an owner."""
    made = await accounts.create_project(tx, vault, name, plan, owner_email)
    return made, Change(made.name, {"plan": made.plan}, made.id)


@unrecorded("the installation begins with it", by=SYSTEM)
async def create_first(tx: Tx, actor: Actor, vault: Vault, name: str) -> NewProject | None:
    """The operator's account and their first project; None if there is one already."""
    return await accounts.create_operator(tx, vault, operator.UNSET, None, name)


@action("renamed project", by=OWNERS)
async def rename(tx: Tx, actor: Actor, name: str) -> tuple[None, Change | None]:
    before = await accounts.project_name(tx, actor.project_id)
    if name == before:
        return None, None
    await accounts.set_project_name(tx, actor.project_id, name)
    return None, Change(name)


@action("changed the plan", by=OPERATOR)
async def set_plan(tx: Tx, actor: Actor, plan: str) -> tuple[str, Change]:
    """The project's name. Raises `Refused` (404)."""
    name = await accounts.set_plan(tx, actor.project_id, plan)
    if name is None:
        raise not_found("project")
    return name, Change(name, {"plan": plan})


@unrecorded("it concerns nobody else", by=PEOPLE)
async def switch(tx: Tx, actor: Actor, project_id: UUID | None) -> None:
    """From now on the actor acts on that project. Raises `Refused` (404) if they are not a member."""
    if project_id is None or not await accounts.switch(tx, own(actor), project_id):
        raise not_found("project")
