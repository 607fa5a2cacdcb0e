"""The pages that need no signing in: what this is, the verification of an address, the end of a mail subscription."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

import asyncpg
from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask

from tocsin.actions import integrations, people
from tocsin.actions.base import anybody, system
from tocsin.actions.letters import send_verification
from tocsin.domain import accounts as rules
from tocsin.domain.errors import Refused
from tocsin.storage.accounts import accounts, links, passwords
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.links import Verification
from tocsin.storage.postgres.database import transaction
from tocsin.storage.postgres.secrets import Vault
from tocsin.web.render import page
from tocsin.web.session import (
    AnyRequest,
    Person,
    Service,
    asker,
    fields,
    network,
    no_session,
    open_fields,
    redirect,
    signed_in,
)

_static = resources.files("tocsin").joinpath("web/static")


@get("/", include_in_schema=False)
async def landing(request: AnyRequest) -> Response[str]:
    """The first page: the console for who is signed in, a few words for who is not."""
    if await signed_in(request):
        return redirect("/incidents")
    return page("landing.html", None, title="Welcome")


@get("/static/tocsin.css", include_in_schema=False)
async def stylesheet() -> Response[bytes]:
    return _asset("tocsin.css", "text/css")


@get("/static/console.js", include_in_schema=False)
async def script() -> Response[bytes]:
    return _asset("console.js", "text/javascript")


@cache
def _content(name: str) -> bytes:
    return _static.joinpath(name).read_bytes()


def _asset(name: str, kind: str) -> Response[bytes]:
    headers = {"Cache-Control": "no-cache", "ETag": f'"{hashlib.sha256(_content(name)).hexdigest()[:16]}"'}
    return Response(_content(name), media_type=kind, headers={**headers, "X-Content-Type-Options": "nosniff"})


# ---------------------------------------------------------------------------------------------------- verify-email


@get("/verify-email", include_in_schema=False)
async def verify_email(request: AnyRequest, service: Service, token: str = "") -> Response[str]:
    """Opened from the mail by a person, or by a program that looks at links: changes nothing."""
    if not token:
        return _message("Verify your mail address", "Tell us the address, and we send you the link.", form="ask")
    person = await signed_in(request)
    async with service.pool.acquire() as tx:
        meant = await _meant(tx, service.vault, token)
    return _ask(meant, person, token) if isinstance(meant, User) else meant


@post("/verify-email/confirm", include_in_schema=False, status_code=200)
async def confirm(request: AnyRequest, service: Service) -> Response[str]:
    """The button of whoever is signed in to that very account: the password stays, and so do the sessions."""
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
    return _message("Thank you", f"{meant.email} is verified now; alerts may go there.", on="/")


@post("/verify-email/password", include_in_schema=False, status_code=200)
async def choose_password(request: AnyRequest, service: Service) -> Response[str]:
    """The password of whoever reads the account's mail, in place of the one before: whoever made the account is out."""
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
    password_hash = await passwords.hash_of(password, asker(request))
    async with transaction(service.pool) as tx:
        now = await accounts.user_by_id(tx, meant.id, lock=True)
        if now != meant or not await people.choose_password(
            tx, system(), service.vault, meant, password_hash, network(request)
        ):
            return _message("Nothing was changed", "Something was changed elsewhere meanwhile.", status=422)
    answer = _message("Thank you", f"{meant.email} is verified now, and your password is set.", on="/sign-in")
    answer.cookies.append(no_session(service))
    return answer


@post("/verify-email", include_in_schema=False, status_code=200)
async def send_again(request: AnyRequest, service: Service) -> Response[str]:
    """Sends the link again, to the address of an old link or to one typed in; never tells who has an account."""
    form = await open_fields(request)
    async with transaction(service.pool) as tx:
        user = await _awaiting(tx, service.vault, form)
        user = await people.ask_for_mail(tx, anybody(), "verification mails", network(request), user)
    response = _message("Look into your mailbox", "If that address waits to be verified, a mail is on its way to it.")
    if user:
        response.background = BackgroundTask(send_verification, service, user)
    return response


async def _meant(tx: asyncpg.Connection, vault: Vault, token: str) -> User | Response[str]:
    """The account that a link can still verify, or a page that says why it verifies none.

    Once the address is verified and there is a password, a link has done all that it can do.
    """
    said = links.read_verification(vault, token)
    user = await _user(tx, said) if said else None
    if said is None or user is None:
        return _broken(form="ask" if said is None else "")
    if user.verified and (said.expired or user.password_hash is not None):
        return _message("Already verified", f"{user.email} was verified before; alerts may go there.", on="/")
    if said.expired:
        return _message(
            "This link is too old",
            f"It was good for three days. We can send a new one to {user.email}.",
            form="resend", token=token, status=410,
        )
    return user


def _ask(user: User, person: Person | None, token: str, error: str = "") -> Response[str]:
    """The form that verifies the address: one button for whoever is signed in to the account, else a new password."""
    mine = person is not None and person.user_id == user.id and user.password_hash is not None
    return page(
        "verify_email.html", person if mine else None, title="Verify your mail address",
        status_code=422 if error else 200, user=user, mine=mine, token=token, error=error,
    )


async def _user(tx: asyncpg.Connection, said: Verification) -> User | None:
    """The user that a link speaks of, if the address is still the same."""
    user = await accounts.user_by_id(tx, said.user_id)
    return user if user and rules.same_address(user.email) == rules.same_address(said.email) else None


async def _awaiting(tx: asyncpg.Connection, vault: Vault, form: Mapping[str, str]) -> User | None:
    """The unverified user that an old link, or an address, stands for."""
    if token := form.get("token"):
        said = links.read_verification(vault, token)
        user = await _user(tx, said) if said else None
    else:
        try:
            user = await accounts.user_by_email(tx, rules.address("email", form.get("email", "")))
        except Refused:
            return None
    return None if user is None or user.verified else user


# ----------------------------------------------------------------------------------------------------- unsubscribe


@get("/unsubscribe", include_in_schema=False)
async def ask_unsubscribe(service: Service, token: str = "") -> Response[str]:
    """Opened by a person, or by a program that looks at links: changes nothing."""
    if links.read_unsubscribe(service.vault, token) is None:
        return _broken()
    return _message(
        "Stop these mails?",
        "No more alerts will be sent by this mail integration. The people of its project see that, and can undo it.",
        form="unsubscribe", token=token,
    )


@post("/unsubscribe", include_in_schema=False, status_code=200)
async def unsubscribe(service: Service, token: str = "") -> Response[str]:
    """By the button, or by a mail program in one click (RFC 8058): the integration is disabled."""
    integration_id = links.read_unsubscribe(service.vault, token)
    if integration_id is None:
        return _broken()
    async with transaction(service.pool) as tx:
        await integrations.unsubscribe(tx, system(name="a reader of its mails"), integration_id)
    return _message("Done", "This mail integration sends nothing any more.")


# ----------------------------------------------------------------------------------------------------------- pages


def _broken(form: str = "") -> Response[str]:
    said = "Some part of it may be missing; please copy it from the mail in whole."
    if form:
        said += " Or have a new one sent."
    return _message("This link does not work", said, form=form, status=400)


def _message(
    title: str, *paragraphs: str, form: str = "", token: str = "", on: str = "", status: int = 200
) -> Response[str]:
    return page(
        "message.html", None, title=title, status_code=status, paragraphs=paragraphs, form=form, token=token, on=on
    )


routes = [
    landing, stylesheet, script, verify_email, confirm, choose_password, send_again, ask_unsubscribe, unsubscribe,
]  # fmt: skip
