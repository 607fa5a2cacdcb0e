"""Verifying an email address by a link in an email: opening it changes nothing, the buttons on its page do."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask

from tocsin.actions import people
from tocsin.actions.account_mail import send_verification
from tocsin.actions.base import anybody, system
from tocsin.domain import accounts as rules
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import accounts, links, passwords
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.links import Verification
from tocsin.storage.postgres.database import transaction
from tocsin.storage.postgres.secrets import Vault
from tocsin.web import messages
from tocsin.web.render import broken, message, page
from tocsin.web.session import (
    AnyRequest,
    Person,
    Service,
    fields,
    network,
    no_session,
    open_fields,
    requester,
    signed_in,
)


@get("/verify-email", include_in_schema=False)
async def verify_email(request: AnyRequest, service: Service, token: str = "") -> Response[str]:
    """May be opened by a person or by a link scanner: changes nothing."""
    if not token:
        return message("Verify your email address", "Enter your address, and we will send you the link.", form="ask")
    person = await signed_in(request)
    async with service.pool.acquire() as tx:
        meant = await _meant(tx, service.vault, token)
    return _ask(meant, person, token) if isinstance(meant, User) else meant


@post("/verify-email/confirm", include_in_schema=False, status_code=200)
async def confirm(request: AnyRequest, service: Service) -> Response[str]:
    """The button for somebody signed in to that account: password and sessions stay."""
    person = await signed_in(request)
    form = await fields(request, person) if person else await open_fields(request)
    token = form.get("token", "")
    async with transaction(service.pool) as tx:
        meant = await _meant(tx, service.vault, token)
        if not isinstance(meant, User):
            return meant
        if person is None or person.user_id != meant.id or meant.password_hash is None:
            return _ask(meant, person, token)
        await people.verify(tx, person.actor, meant)
    return message("Thank you", f"{meant.email} is now verified; notifications can go there.", on="/")


@post("/verify-email/password", include_in_schema=False, status_code=200)
async def choose_password(request: AnyRequest, service: Service) -> Response[str]:
    """Whoever receives the account's email sets its password; whoever created the account is signed out."""
    form = await open_fields(request)
    token = form.get("token", "")
    async with service.pool.acquire() as tx:
        meant = await _meant(tx, service.vault, token)
    if not isinstance(meant, User):
        return meant
    try:
        password = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
    except Refused as refusal:
        return _ask(meant, None, token, refusal.message)
    password_hash = await passwords.hash_of(password, requester(request))
    async with transaction(service.pool) as tx:
        now = await accounts.user_by_id(tx, meant.id, lock=True)
        if now != meant or not await people.choose_password(
            tx, system(), service.vault, meant, password_hash, network(request)
        ):
            return message("Nothing was changed", "The account was changed elsewhere meanwhile.", status=422)
    answer = message("Thank you", f"{meant.email} is now verified, and your password is set.", on="/sign-in")
    answer.cookies.append(no_session(service))
    return answer


@post("/verify-email", include_in_schema=False, status_code=200)
async def send_again(request: AnyRequest, service: Service) -> Response[str]:
    """Sends the link again, to the address of an old link or to one typed in; never reveals who has an account."""
    form = await open_fields(request)
    async with transaction(service.pool) as tx:
        user = await _awaiting(tx, service.vault, form)
        user = await people.ask_for_mail(tx, anybody(), "verification mails", network(request), user)
    response = message(messages.CHECK_YOUR_EMAIL, "If that address needs to be verified, an email is on its way.")
    if user:
        response.background = BackgroundTask(send_verification, service, user)
    return response


async def _meant(tx: asyncpg.Connection, vault: Vault, token: str) -> User | Response[str]:
    """The account that a link can still verify, or a page that says why it cannot.

    Once the address is verified and there is a password, there is nothing left for the link to do.
    """
    verification = links.read_verification(vault, token)
    user = await _user(tx, verification) if verification else None
    if verification is None or user is None:
        return broken(form="ask" if verification is None else "")
    if user.verified and (verification.expired or user.password_hash is not None):
        return message("Already verified", f"{user.email} is already verified; notifications can go there.", on="/")
    if verification.expired:
        return message(
            "This link has expired",
            f"It was valid for three days. We can send a new one to {user.email}.",
            form="resend", token=token, status=410,
        )
    return user


def _ask(user: User, person: Person | None, token: str, error: str = "") -> Response[str]:
    """The form that verifies the address: a button if signed in to the account, else a new password."""
    mine = person is not None and person.user_id == user.id and user.password_hash is not None
    return page(
        "verify_email.html", person if mine else None, title="Verify your email address",
        status_code=422 if error else 200, user=user, mine=mine, token=token, error=error,
    )


async def _user(tx: asyncpg.Connection, verification: Verification) -> User | None:
    """The user of a link, if the address is still the same."""
    user = await accounts.user_by_id(tx, verification.user_id)
    return user if user and rules.same_address(user.email) == rules.same_address(verification.email) else None


async def _awaiting(tx: asyncpg.Connection, vault: Vault, form: Mapping[str, str]) -> User | None:
    """The unverified user of an old link or an address."""
    if token := form.get("token"):
        verification = links.read_verification(vault, token)
        user = await _user(tx, verification) if verification else None
    else:
        try:
            user = await accounts.user_by_email(tx, rules.address("email", form.get("email", "")))
        except Refused:
            return None
    return None if user is None or user.verified else user


routes = [verify_email, confirm, choose_password, send_again]
