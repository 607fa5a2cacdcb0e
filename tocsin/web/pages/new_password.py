"""Resetting a forgotten password, by a link in an email that is valid once, for an hour."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask

from tocsin.actions import people
from tocsin.actions.account_mail import send_reset
from tocsin.actions.base import anybody, system
from tocsin.domain import accounts as rules
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import accounts, links, passwords
from tocsin.storage.accounts.accounts import User
from tocsin.storage.postgres.database import transaction
from tocsin.web import messages
from tocsin.web.render import message, page
from tocsin.web.session import AnyRequest, Service, network, no_session, open_fields, redirect, requester


@get("/forgot-password", include_in_schema=False)
async def ask() -> Response[str]:
    return page("forgot_password.html", None, title=messages.FORGOT, error="", email="")


@post("/forgot-password", include_in_schema=False, status_code=200)
async def send(request: AnyRequest, service: Service) -> Response[str]:
    """The response is the same for every address, known or not."""
    form = await open_fields(request)
    given = form.get("email", "")
    try:
        email = rules.address("email", given)
    except Refused as refused:
        error = refused.details[0].message
        return page("forgot_password.html", None, title=messages.FORGOT, status_code=422, error=error, email=given)
    async with transaction(service.pool) as tx:
        user = await accounts.user_by_email(tx, email)
        user = await people.ask_for_mail(tx, anybody(), "new passwords", network(request), user)
    answer = message(messages.CHECK_YOUR_EMAIL, messages.RESET_SENT.format(email=email), on="/sign-in")
    if user:
        answer.background = BackgroundTask(send_reset, service, user)
    return answer


@get("/new-password", include_in_schema=False)
async def choose(service: Service, token: str = "") -> Response[str]:
    user = await _user(service, token)
    return _form(token, user) if user else _over()


@post("/new-password", include_in_schema=False, status_code=200)
async def chosen(request: AnyRequest, service: Service) -> Response[str]:
    """Every session ends, so that whoever knew the old password is signed out. Also verifies the address."""
    form = await open_fields(request)
    token = form.get("token", "")
    user = await _user(service, token)
    if user is None:
        return _over()
    try:
        password = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
    except Refused as refused:
        return _form(token, user, {each.field: each.message for each in refused.details})
    password_hash = await passwords.hash_of(password, requester(request))
    async with transaction(service.pool) as tx:
        now = await accounts.user_by_id(tx, user.id, lock=True)
        if now is None or not links.still_resets(service.vault, token, now):
            return _over()
        await people.choose_password(tx, system(), service.vault, now, password_hash, network(request))
    return redirect("/sign-in?done=password", cookies=[no_session(service)])


async def _user(service: Service, token: str) -> User | None:
    user_id = links.read_reset(service.vault, token)
    if user_id is None:
        return None
    async with service.pool.acquire() as tx:
        user = await accounts.user_by_id(tx, user_id)
    return user if user and links.still_resets(service.vault, token, user) else None


def _form(token: str, user: User, errors: dict[str, str] | None = None) -> Response[str]:
    return page(
        "new_password.html", None, title=messages.NEW_PASSWORD, status_code=422 if errors else 200, token=token,
        email=user.email, errors=errors or {},
    )


def _over() -> Response[str]:
    return message(messages.LINK_OVER, messages.RESET_LINK_OVER, on="/forgot-password", status=410)


routes = [ask, send, choose, chosen]
