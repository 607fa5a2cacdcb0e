"""Projects of the one who is signed in, and invitations into others'."""

from __future__ import annotations

import math
from uuid import UUID

from litestar import Response, get, post

from tocsin.domain import accounts as rules
from tocsin.domain import names
from tocsin.domain.errors import Refused, too_many
from tocsin.storage import accounts, audit, claims, members, passwords, throttle
from tocsin.storage.accounts import User
from tocsin.storage.database import Tx
from tocsin.storage.members import Invitation
from tocsin.storage.throttle import Limit
from tocsin.web import texts
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Person, Service, Viewer, asker, fields, open_fields, redirect, signed_in
from tocsin.web.sign_in import begin

PROJECTS = Limit(10, 86_400)
"""That one person makes, who is not the operator: each has ceilings of its own."""


@get("/projects", include_in_schema=False)
async def show(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    return await _page(request, person, service)


async def _page(request: AnyRequest, person: Person, service: Service, error: str = "") -> Response[str]:
    async with service.pool.acquire() as tx:
        invited = await members.invitations_to(tx, person.email) if person.verified else []
    viewer = Viewer(person, person.current, person.csrf, request) if person.current else person
    return page(
        "projects.html", viewer, title="Projects", status_code=422 if error else 200, invited=invited, error=error,
        makes=_makes(service, person),
    )


@post("/projects", include_in_schema=False)
async def make(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    """A project of one's own: for the operator, and where anybody may register."""
    form = await fields(request, person)
    if not _makes(service, person):
        raise Refused(403, "forbidden", texts.NO_PROJECTS)
    try:
        name = names.checked("name", form.get("name", ""))
    except Refused as refused:
        return await _page(request, person, service, refused.details[0].message)
    plan = "paid" if person.operator else service.settings.default_plan
    async with service.pool.acquire() as tx, tx.transaction():
        if not person.operator and (wait := await throttle.take(tx, f"projects of {person.user_id}", PROJECTS)):
            raise too_many(texts.TOO_MANY_TRIALS.format(minutes=math.ceil(wait / 60)), wait)
        user = await accounts.user_by_id(tx, person.user_id)
        made_by = None if person.operator else person.user_id
        made = await accounts.create_project_of(tx, service.vault, name, plan, user, made_by=made_by)
        await accounts.switch(tx, person.user_id, made.id)
        await audit.note(tx, made.id, person.email, "made project", name, {"plan": plan})
    return redirect("/integrations", texts.PROJECT_MADE.format(name=name))


def _makes(service: Service, person: Person) -> bool:
    return person.operator or service.settings.registration == "open"


# ------------------------------------------------------------------------------------------------------ invitations


@post("/projects/join", include_in_schema=False)
async def join(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    """By somebody signed in whose address is known to be theirs."""
    form = await fields(request, person)
    async with service.pool.acquire() as tx, tx.transaction():
        invited = await members.invitations_to(tx, person.email) if person.verified else []
        invitation = next((each for each in invited if each.id.hex == form.get("invitation")), None)
        if invitation is None:
            return _over()
        await _enter(tx, invitation, person.user_id)
    return redirect("/incidents", texts.JOINED.format(name=invitation.project_name))


@get("/invitation", include_in_schema=False)
async def look(request: AnyRequest, service: Service, token: str = "") -> Response[str]:
    """Opened from the mail; changes nothing."""
    person = await signed_in(request)
    async with service.pool.acquire() as tx:
        invitation = await members.read(tx, service.vault, token)
        user = await accounts.user_by_email(tx, invitation.email) if invitation else None
    if invitation is None:
        return _over()
    return _invitation(invitation, token, person, user)


@post("/invitation", include_in_schema=False, status_code=200)
async def accept(request: AnyRequest, service: Service) -> Response[str]:
    """By the owner of an account of that address, signed in. Where there is none, or none that anybody has verified
    (a stranger may have made it): with a name and a password, by whoever reads the mail that the link came by.
    """
    person = await signed_in(request)
    form = await fields(request, person) if person else await open_fields(request)
    token = form.get("token", "")
    async with service.pool.acquire() as tx:
        invitation = await members.read(tx, service.vault, token)
        user = await accounts.user_by_email(tx, invitation.email) if invitation else None
    if invitation is None:
        return _over()
    if person and user and person.user_id == user.id and user.password_hash is not None:
        async with service.pool.acquire() as tx, tx.transaction():
            await accounts.verify(tx, user.id, user.email)
            await _enter(tx, invitation, user.id)
        return redirect("/incidents", texts.JOINED.format(name=invitation.project_name))
    if _settled(user):
        return _invitation(invitation, token, person, user)
    try:
        name = names.checked("name", form.get("name", ""))
        password = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
    except Refused as refused:
        errors = {each.field: each.message for each in refused.details}
        return _invitation(invitation, token, person, user, form.get("name", ""), errors)
    password_hash = await passwords.hash_of(password, asker(request))
    async with service.pool.acquire() as tx, tx.transaction():
        user = await accounts.ensure_user(tx, invitation.email)
        user = await accounts.user_by_id(tx, user.id, lock=True)
        if user is None or _settled(user):
            return _invitation(invitation, token, person, user)
        claimed = await claims.claim(tx, service.vault, user.id, invitation.email, password_hash)
        if claimed is None:
            return _over()
        await accounts.set_name(tx, user.id, name)
        await _enter(tx, invitation, user.id)
    return await begin(request, service, claimed, "/incidents") or redirect("/sign-in")


def _settled(user: User | None) -> bool:
    """Whether somebody has shown that the account is theirs, and can get in."""
    return user is not None and user.verified and user.password_hash is not None


async def _enter(tx: Tx, invitation: Invitation, user_id: UUID) -> None:
    await members.accept(tx, invitation, user_id)
    await audit.note(tx, invitation.project_id, user_id, "joined project", invitation.project_name)


def _invitation(
    invitation: Invitation, token: str, person: Person | None, user: User | None, name: str = "",
    errors: dict[str, str] | None = None,
) -> Response[str]:
    made = user is not None and user.password_hash is not None
    mine = person is not None and user is not None and made and person.user_id == user.id
    return page(
        "invitation.html", person, title=texts.INVITED, status_code=422 if errors else 200, invitation=invitation,
        token=token, settled=_settled(user), mine=mine, made=made, name=name, errors=errors or {}, roles=texts.ROLES,
    )


def _over() -> Response[str]:
    return page(
        "message.html", None, title=texts.LINK_OVER, status_code=410, paragraphs=[texts.INVITATION_OVER], form="",
        token="", on="/",
    )


routes = [show, make, join, look, accept]
