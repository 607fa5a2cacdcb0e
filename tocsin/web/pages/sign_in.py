"""Signing in, signing out, and switching between projects."""

from __future__ import annotations

import math
import re

from litestar import Response, get, post

from tocsin.actions import account_mail, projects, sign_ins
from tocsin.actions.base import anybody
from tocsin.domain import ids
from tocsin.storage.accounts import passwords
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.passwords import Requester
from tocsin.storage.accounts.sign_ins import SignInAttempt
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
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
    network,
    no_session,
    open_fields,
    redirect,
    session_cookie,
    signed_in,
)

FIRST_PAGE = "/overview"


@get("/sign-in", include_in_schema=False)
async def ask(request: AnyRequest, next: str = "", done: str = "") -> Response[str]:
    if await signed_in(request):
        return redirect(next or FIRST_PAGE)
    message = flash(request)
    return _form(next, notice=messages.SIGN_IN_NOTICES.get(done, message[0] if message else ""))


@post("/sign-in", include_in_schema=False, status_code=200)
async def sign_in(request: AnyRequest, service: Service) -> Response[str]:
    """Rate limited by network and by account, together with signing in through the API."""
    form = await open_fields(request)
    email, password, back = form.get("email", "").strip(), form.get("password", ""), form.get("next", "")
    async with transaction(service.pool) as tx:
        attempt = await sign_ins.begin(tx, anybody(), service.vault, email, network(request))
        requester = Requester(attempt.network, attempt.known, request.receive)
        if not attempt.wait:
            passwords.expect_room(requester)
    if attempt.wait:
        problem = messages.TOO_MANY_ATTEMPTS.format(minutes=math.ceil(attempt.wait / 60))
        answer = _form(back, email, problem=problem, status=429)
        answer.headers["Retry-After"] = str(math.ceil(attempt.wait))
        if attempt.warn and attempt.user:
            account_mail.later(account_mail.send_failed_sign_ins(service, attempt.user))
        return answer
    # No connection is held while the password is hashed.
    user = attempt.user
    if not await passwords.matches(user.password_hash if user else None, password, requester) or user is None:
        return _form(back, email, problem=messages.NOT_KNOWN, status=422)
    begun = await begin(request, service, user, back or FIRST_PAGE, attempt)
    return begun or _form(back, email, problem=messages.NOT_KNOWN, status=422)


async def begin(
    request: AnyRequest, service: Service, user: User, to: str, attempt: SignInAttempt | None = None
) -> Response[str] | None:
    """Starts a session in place of the current one and redirects to `to`; `attempt` is the successful one, None if a
    link let them in. Returns None if the password has been changed meanwhile.
    """
    label = browser(request.headers.get("user-agent", ""))
    async with transaction(service.pool) as tx:
        token = await sign_ins.create_session(
            tx, anybody(), service.vault, user, network(request), good=attempt,
            before=cookie(request, cookie_name(service)), label=label,
        )  # fmt: skip
    if token is None:
        return None
    return redirect(local(to), cookies=[session_cookie(service, token)])


@post("/sign-out", include_in_schema=False)
async def sign_out(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    """Then redirects to the page in `next`, such as an invitation for somebody else."""
    form = await fields(request, person)
    async with transaction(service.pool) as tx:
        await sign_ins.end(tx, person.actor, person.session_id)
    return redirect(form.get("next") or "/sign-in?done=out", cookies=[no_session(service)])


@post("/projects/switch", include_in_schema=False)
async def switch(request: AnyRequest, person: Person, service: Service) -> Response[str]:
    form = await fields(request, person)
    project_id = ids.parse(ids.PROJECT, form.get("project", ""))
    async with transaction(service.pool) as tx:
        await projects.switch(tx, person.actor, project_id)
    return redirect(FIRST_PAGE)


def _form(back: str, email: str = "", *, notice: str = "", problem: str = "", status: int = 200) -> Response[str]:
    return page(
        "sign_in.html", None, title="Sign in", status_code=status, next=back, email=email, notice=notice,
        problem=problem,
    )


_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox", "Firefox"), ("Chrom", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "an iPhone"), ("iPad", "an iPad"), ("Windows", "Windows"), ("Mac OS", "a Mac"),
    ("CrOS", "a Chromebook"), ("Linux", "Linux"),
)  # fmt: skip


def browser(user_agent: str) -> str:
    """The browser that somebody signs in with, in words: "Firefox on Linux"."""
    name = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if name:
        return f"{name} on {system}" if system else name
    return re.sub(r"[^\x20-\x7e]", "", user_agent)[:60] or "an unknown program"


routes = [ask, sign_in, sign_out, switch]
