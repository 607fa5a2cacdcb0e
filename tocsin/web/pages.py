"""The pages that need no signing in: what this is, the verification of an address, the end of a mail subscription."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

import asyncpg
from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask

from tocsin.domain import accounts as rules
from tocsin.domain import ids
from tocsin.domain.errors import Refused
from tocsin.storage import accounts, audit, health, links, passwords, throttle
from tocsin.storage.accounts import User
from tocsin.storage.links import Verification
from tocsin.storage.secrets import Vault
from tocsin.storage.throttle import Limit
from tocsin.web.post import send_verification
from tocsin.web.render import page
from tocsin.web.session import AnyRequest, Service, open_fields, redirect, signed_in

MAILS_PER_USER = Limit(3, 3600)
MAILS_PER_ADDRESS = Limit(20, 3600)
UNSUBSCRIBED = "unsubscribed by its reader"

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
async def verify_email(service: Service, token: str = "") -> Response[str]:
    """Opened from the mail: the address is its reader's from now on."""
    if not token:
        return _message("Verify your mail address", "Tell us the address, and we send you the link.", form="ask")
    said = links.read_verification(service.vault, token)
    if said is None:
        return _broken(form="ask")
    async with service.pool.acquire() as tx, tx.transaction():
        now_verified = not said.expired and await accounts.verify(tx, said.user_id, said.email)
        user = await _user(tx, said)
    if user is None:
        return _broken()
    if not user.verified:
        return _message(
            "This link is too old",
            f"It was good for three days. We can send a new one to {user.email}.",
            form="resend", token=token, status=410,
        )
    title = "Thank you" if now_verified else "Already verified"
    text = f"{user.email} {'is verified now' if now_verified else 'was verified before'}; alerts may go there."
    if user.password_hash is None and not said.expired:
        return _message(title, text, form="password", token=token)
    return _message(title, text)


@post("/verify-email", include_in_schema=False, status_code=200)
async def send_again(request: AnyRequest, service: Service) -> Response[str]:
    """Sends the link again, to the address of an old link or to one typed in; never tells who has an account."""
    form = await open_fields(request)
    sender = f"verification mails for {request.client.host if request.client else 'nobody'}"
    async with service.pool.acquire() as tx, tx.transaction():
        if await throttle.take(tx, sender, MAILS_PER_ADDRESS):
            return _message("Too many mails", "Please wait a while before you ask for another one.", status=429)
        user = await _awaiting(tx, service.vault, form)
        if user and await throttle.take(tx, f"verification mails to {user.id}", MAILS_PER_USER):
            user = None
    response = _message("Look into your mailbox", "If that address waits to be verified, a mail is on its way to it.")
    if user:
        response.background = BackgroundTask(send_verification, service, user)
    return response


@post("/verify-email/password", include_in_schema=False, status_code=200)
async def choose_password(request: AnyRequest, service: Service) -> Response[str]:
    """The first password of an account that was made without one, by whoever reads the account's mail."""
    form = await open_fields(request)
    token = form.get("token", "")
    said = links.read_verification(service.vault, token)
    if said is None or said.expired:
        return _broken()
    try:
        password = rules.password("password", form.get("password", ""), form.get("password_confirmation", ""))
    except Refused as refusal:
        return _message("That cannot be your password", refusal.message + ".", form="password", token=token, status=422)
    password_hash = await passwords.hash_of(password)
    async with service.pool.acquire() as tx, tx.transaction():
        user = await _user(tx, said)
        chosen = user is not None and user.verified and await accounts.choose_password(tx, user.id, password_hash)
    if not chosen:
        return _message("Nothing was changed", "This account has a password already.", status=422)
    return _message("Your password is set", "You can sign in with it from now on.")


async def _user(tx: asyncpg.Connection, said: Verification) -> User | None:
    """The user that a link speaks of, if the address is still the same."""
    user = await accounts.user_by_id(tx, said.user_id)
    return user if user and user.email.lower() == said.email.lower() else None


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
    async with service.pool.acquire() as tx, tx.transaction():
        disabled = await health.disable(tx, integration_id, UNSUBSCRIBED, for_good=True)
        if disabled:
            project_id, name = disabled
            details = {"uuid": ids.public(ids.INTEGRATION, integration_id)}
            await audit.note(tx, project_id, "a reader of its mails", "unsubscribed from integration", name, details)
    return _message("Done", "This mail integration sends nothing any more.")


# ----------------------------------------------------------------------------------------------------------- pages


def _broken(form: str = "") -> Response[str]:
    said = "Some part of it may be missing; please copy it from the mail in whole."
    if form:
        said += " Or have a new one sent."
    return _message("This link does not work", said, form=form, status=400)


def _message(title: str, *paragraphs: str, form: str = "", token: str = "", status: int = 200) -> Response[str]:
    return page(
        "message.html", None, title=title, status_code=status, paragraphs=paragraphs, form=form, token=token
    )


routes = [landing, stylesheet, script, verify_email, send_again, choose_password, ask_unsubscribe, unsubscribe]
