"""Signing in, signing out, and switching between projects."""

from __future__ import annotations

import math
import re

from litestar import Response, get, post

from tocsin.domain import ids
from tocsin.domain.errors import not_found
from tocsin.storage import accounts, passwords, sessions, throttle
from tocsin.storage.accounts import User
from tocsin.storage.throttle import Limit
from tocsin.web import texts
from tocsin.web.render import page
from tocsin.web.session import (
    AnyRequest,
    Person,
    Service,
    cookie,
    cookie_name,
    fields,
    flash,
    local,
    no_session,
    open_fields,
    redirect,
    session_cookie,
    signed_in,
)

TRIES_PER_ADDRESS = Limit(30, 300)
TRIES_PER_ACCOUNT = Limit(10, 900)
FIRST_PAGE = "/incidents"


@get("/sign-in", include_in_schema=False)
async def ask(request: AnyRequest, next: str = "", done: str = "") -> Response[str]:
    if await signed_in(request):
        return redirect(next or FIRST_PAGE)
    said = flash(request)
    return _form(next, notice=texts.SIGN_IN_NOTICES.get(done, said[0] if said else ""))


@post("/sign-in", include_in_schema=False, status_code=200)
async def sign_in(request: AnyRequest, service: Service) -> Response[str]:
    """Limited by where it comes from and by account, together with signing in by API."""
    form = await open_fields(request)
    email, password, back = form.get("email", "").strip(), form.get("password", ""), form.get("next", "")
    account = f"sign in as {email.lower()}"
    subjects = {f"sign in from {address(request)}": TRIES_PER_ADDRESS, account: TRIES_PER_ACCOUNT}
    async with service.pool.acquire() as tx, tx.transaction():
        wait = max([await throttle.take(tx, subject, limit) for subject, limit in subjects.items()])
        user = None if wait else await accounts.user_by_email(tx, email)
    if wait:
        return _form(back, email, problem=texts.TOO_MANY_TRIES.format(minutes=math.ceil(wait / 60)), status=429)
    # No connection is held while the password is computed.
    if not await passwords.matches(user.password_hash if user else None, password) or user is None:
        return _form(back, email, problem=texts.NOT_KNOWN, status=422)
    return await begin(request, service, user, back or FIRST_PAGE, forget=account)


async def begin(request: AnyRequest, service: Service, user: User, to: str, forget: str = "") -> Response[str]:
    """A session for the user in place of the one before, and on to the page; `forget` names a limit to give back."""
    old = cookie(request, cookie_name(service))
    async with service.pool.acquire() as tx, tx.transaction():
        if forget:
            await throttle.give_back(tx, forget)
        if old:
            await accounts.sign_out(tx, service.vault, old)
        token = await sessions.begin(tx, service.vault, user.id, browser(request.headers.get("user-agent", "")))
    return redirect(local(to), cookies=[session_cookie(service, token)])


@post("/sign-out", include_in_schema=False)
async def sign_out(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    await fields(request, person)
    async with service.pool.acquire() as tx, tx.transaction():
        await sessions.end(tx, person.user_id, person.session_id)
    return redirect("/sign-in?done=out", cookies=[no_session(service)])


@post("/projects/switch", include_in_schema=False)
async def switch(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    form = await fields(request, person)
    project_id = ids.parse(ids.PROJECT, form.get("project", ""))
    async with service.pool.acquire() as tx, tx.transaction():
        if project_id is None or not await accounts.switch(tx, person.user_id, project_id):
            raise not_found("project")
    return redirect(FIRST_PAGE)


def _form(back: str, email: str = "", *, notice: str = "", problem: str = "", status: int = 200) -> Response[str]:
    return page(
        "sign_in.html", None, title="Sign in", status_code=status, next=back, email=email, notice=notice,
        problem=problem,
    )


def address(request: AnyRequest) -> str:
    return request.client.host if request.client else "nowhere"


_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox", "Firefox"), ("Chrom", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "an iPhone"), ("iPad", "an iPad"), ("Windows", "Windows"), ("Mac OS", "a Mac"),
    ("CrOS", "a Chromebook"), ("Linux", "Linux"),
)  # fmt: skip


def browser(user_agent: str) -> str:
    """The program that somebody signs in with, in words: "Firefox on Linux"."""
    name = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if name:
        return f"{name} on {system}" if system else name
    return re.sub(r"[^\x20-\x7e]", "", user_agent)[:60] or "an unknown program"


routes = [ask, sign_in, sign_out, switch]
