"""The viewer's own account: name, password and open sessions."""

from __future__ import annotations

from litestar import Response, get, post

from tocsin.actions import limits, people, sign_ins
from tocsin.domain import accounts as rules
from tocsin.domain import names
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import accounts, passwords, sessions
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Person, Service, Viewer, fields, redirect, requester

ATTEMPTS = Limit(10, 900)
PAGE = "/account"


@get(PAGE, include_in_schema=False)
async def show(viewer: Viewer, service: Service) -> Response[str]:
    return await _page(viewer, service)


async def _page(viewer: Viewer, service: Service, errors: dict[str, str] | None = None) -> Response[str]:
    async with service.pool.acquire() as tx:
        open_now = await sessions.of_user(tx, viewer.user_id)
    return page(
        "account.html", viewer, title="Your account", status_code=422 if errors else 200, sessions=open_now,
        errors=errors or {},
    )


@post("/account/name", include_in_schema=False)
async def rename(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    form = await fields(request, viewer, readers=True)
    try:
        name = names.checked("name", form.get("name", ""))
    except Refused as refused:
        return await _page(viewer, service, {each.field: each.message for each in refused.details})
    async with transaction(service.pool) as tx:
        await people.rename(tx, viewer.actor, name)
    return redirect(PAGE, messages.NAME_SET)


@post("/account/password", include_in_schema=False)
async def change_password(request: AnyRequest, viewer: Viewer, service: Service) -> Response[str]:
    """Needs the old password, with a limit of its own; ends every other session."""
    form = await fields(request, viewer, readers=True)
    subject = f"change the password of {viewer.user_id}"
    async with transaction(service.pool) as tx:
        await limits.take(tx, viewer.actor, subject, ATTEMPTS, messages.TOO_MANY_ATTEMPTS)
        passwords.expect_room(requester(request))
    async with service.pool.acquire() as tx:
        user = await accounts.user_by_id(tx, viewer.user_id)
    if user is None or not await passwords.matches(user.password_hash, form.get("old", ""), requester(request)):
        return await _page(viewer, service, {"old": messages.OLD_PASSWORD})
    try:
        new = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
    except Refused as refused:
        return await _page(viewer, service, {each.field: each.message for each in refused.details})
    password_hash = await passwords.hash_of(new, requester(request))
    async with transaction(service.pool) as tx:
        changed = await people.change_password(tx, viewer.actor, user, password_hash, viewer.session_id, subject)
    if not changed:
        return await _page(viewer, service, {"old": messages.OLD_PASSWORD})
    return redirect(PAGE, messages.PASSWORD_SET)


@post("/account/sessions", include_in_schema=False)
async def end_sessions(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    """Ends the session that the form names, or all but this one."""
    form = await fields(request, person, readers=True)
    name = form.get("session", "")
    async with transaction(service.pool) as tx:
        if name == "others":
            await sign_ins.end_others(tx, person.actor, person.session_id)
        for each in await sessions.of_user(tx, person.user_id):
            if each.id.hex == name:
                await sign_ins.end(tx, person.actor, each.id)
    return redirect(PAGE, messages.SESSION_ENDED)


routes = [show, rename, change_password, end_sessions]
