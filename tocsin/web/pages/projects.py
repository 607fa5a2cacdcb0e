"""The projects of whoever is signed in, and invitations to others."""

from __future__ import annotations

from litestar import Response, get, post

from tocsin.actions import members as joining
from tocsin.actions import people
from tocsin.actions import projects as actions
from tocsin.actions.base import person as as_person
from tocsin.actions.base import system
from tocsin.actions.people import settled
from tocsin.domain import accounts as rules
from tocsin.domain import names
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import accounts, members, passwords
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.members import Invitation
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.pages.sign_in import begin
from tocsin.web.render import message, page
from tocsin.web.session import AnyRequest, Person, Service, Viewer, fields, open_fields, redirect, requester, signed_in


@get("/projects", include_in_schema=False)
async def show(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    return await _page(request, person, service)


async def _page(request: AnyRequest, person: Person, service: Service, error: str = "") -> Response[str]:
    async with service.pool.acquire() as tx:
        invited = await members.invitations_to(tx, person.email) if person.verified else []
    viewer = Viewer(person, person.current, person.csrf, request) if person.current else person
    return page(
        "projects.html", viewer, title="Projects", status_code=422 if error else 200, invited=invited, error=error,
        makes=actions.may_create(person.actor, service.settings.registration),
    )


@post("/projects", include_in_schema=False)
async def make(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    """Creates a project: for the operator, and for everybody if registration is open."""
    form = await fields(request, person)
    try:
        name = names.checked("name", form.get("name", ""))
    except Refused as refused:
        return await _page(request, person, service, refused.details[0].message)
    plan, registration = service.settings.default_plan, service.settings.registration
    async with transaction(service.pool) as tx:
        await actions.create(tx, person.actor, service.vault, name, plan, registration=registration)
    return redirect("/integrations", messages.PROJECT_MADE.format(name=name))


# ------------------------------------------------------------------------------------------------------ invitations


@post("/projects/join", include_in_schema=False)
async def join(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    """By somebody who is signed in and whose address is verified."""
    form = await fields(request, person)
    async with transaction(service.pool) as tx:
        invited = await members.invitations_to(tx, person.email) if person.verified else []
        invitation = next((each for each in invited if each.id.hex == form.get("invitation")), None)
        if invitation is None:
            return _over()
        await joining.join(tx, person.actor, invitation)
    return redirect("/overview", messages.JOINED.format(name=invitation.project_name))


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
    """By somebody signed in to the account with that address. If there is none, or it was never verified (so that a
    stranger may have created it): by whoever received the email, with a name and a password.
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
        async with transaction(service.pool) as tx:
            await people.verify(tx, person.actor, user)
            await joining.join(tx, person.actor, invitation)
        return redirect("/overview", messages.JOINED.format(name=invitation.project_name))
    if settled(user):
        return _invitation(invitation, token, person, user)
    try:
        name = names.checked("name", form.get("name", ""))
        password = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
    except Refused as refused:
        errors = {each.field: each.message for each in refused.details}
        return _invitation(invitation, token, person, user, form.get("name", ""), errors)
    password_hash = await passwords.hash_of(password, requester(request))
    async with transaction(service.pool) as tx:
        found = await people.take_over_invited(tx, system(), service.vault, invitation.email, name, password_hash)
        if found is None:
            return _invitation(invitation, token, person, await accounts.user_by_email(tx, invitation.email))
        await joining.join(tx, as_person(found.id), invitation)
    return await begin(request, service, found, "/overview") or redirect("/sign-in")


def _invitation(
    invitation: Invitation, token: str, person: Person | None, user: User | None, name: str = "",
    errors: dict[str, str] | None = None,
) -> Response[str]:
    made = user is not None and user.password_hash is not None
    mine = person is not None and user is not None and made and person.user_id == user.id
    return page(
        "invitation.html", person, title=messages.INVITED, status_code=422 if errors else 200, invitation=invitation,
        token=token, settled=settled(user), mine=mine, made=made, name=name, errors=errors or {}, roles=messages.ROLES,
    )


def _over() -> Response[str]:
    return message(messages.LINK_OVER, messages.INVITATION_OVER, on="/", status=410)


routes = [show, make, join, look, accept]
