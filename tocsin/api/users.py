"""Users: registering, signing in and out."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from litestar import Request, Response, delete, post
from litestar.background_tasks import BackgroundTask

from tocsin.api.caller import token_in, unauthorized
from tocsin.api.service import Service
from tocsin.api.shapes import seconds
from tocsin.checks import base
from tocsin.domain import accounts as rules
from tocsin.domain import letters, names
from tocsin.domain.errors import Refused, invalid_field
from tocsin.domain.monitors import DEFAULT_TIMEOUT, Target, Wanted
from tocsin.storage import accounts, audit, links, monitors, passwords, throttle
from tocsin.storage.accounts import User
from tocsin.storage.throttle import Limit
from tocsin.transports.guard import Guard
from tocsin.transports.smtp import Mailer, MailRefused

log = structlog.get_logger()

TRIES_PER_ADDRESS = Limit(30, 300)
TRIES_PER_ACCOUNT = Limit(10, 900)
REGISTRATIONS_PER_ADDRESS = Limit(20, 3600)


class NewUser(msgspec.Struct):
    """Who registers. An address alone is enough; a password can then be chosen with the link that is sent to it."""

    email: str
    name: str = ""
    password: str | None = None
    password_confirmation: str | None = None
    first_website: str | None = None


class Registration(msgspec.Struct):
    user: NewUser


class Credentials(msgspec.Struct):
    email: str
    password: str


class SignIn(msgspec.Struct):
    user: Credentials


class UserShape(msgspec.Struct):
    email: str
    name: str
    created_at: str
    updated_at: str


class Registered(msgspec.Struct):
    message: str
    user: UserShape


class SignedIn(msgspec.Struct):
    token: str
    user: UserShape


@post("/api/v1/users", summary="Register", security=[])
async def register(request: Request[Any, Any, Any], data: Registration, service: Service) -> Response[Registered]:
    """Make an account with a first project, and send a link that verifies the address."""
    if service.settings.registration != "open":
        raise Refused(403, "forbidden", "Registration is by invitation; ask whoever runs this installation")
    given = data.user
    site = _first_site(given.first_website.strip(), service) if given.first_website else None
    email = rules.address("email", given.email)
    name = names.checked("name", given.name) if given.name.strip() else ""
    password = given.password
    if password is not None:
        rules.password("password", password, given.password_confirmation)
    await _limit(service, "registering", {f"register from {_address(request)}": REGISTRATIONS_PER_ADDRESS})
    password_hash = None if password is None else await passwords.hash_of(password)
    async with service.pool.acquire() as tx, tx.transaction():
        user = await accounts.create_user(tx, email, name, password_hash)
        if user is None:
            raise invalid_field("email", "has already been taken")
        name = names.cut(f"{user.name or user.email}'s project", names.LONGEST)
        project = await accounts.create_project_of(tx, service.vault, name, service.settings.default_plan, user)
        if site:
            await monitors.create(tx, project.id, site)
        await audit.note(tx, project.id, user.id, "made project", project.name, {"plan": project.plan})
    return Response(
        Registered("User created successfully", _shape(user)),
        status_code=201,
        background=BackgroundTask(_send_verification, service, user),
    )


def _first_site(url: str, service: Service) -> Wanted | None:
    """What to watch from the first day on; people may leave `https://` out. Raises `Refused` (422)."""
    if not url:
        return None
    if "://" not in url:
        url = f"https://{url}"
    try:
        kind = base.of(None, url)
        target = kind.validate(Target(url, kind.check_type, DEFAULT_TIMEOUT))
        Guard(service.settings.allow_networks).check_given(base.host_of(target.url), "url")
    except Refused as refusal:
        said = refusal.details[0].message if refusal.details else refusal.message
        raise invalid_field("first_website", said) from None
    return Wanted(target.url, target)


@post("/api/v1/users/sign_in", summary="Sign in", status_code=200, security=[])
async def sign_in(request: Request[Any, Any, Any], data: SignIn, service: Service) -> SignedIn:
    """A token to act with on the user's current project, good for 30 days."""
    given = data.user
    account = f"sign in as {given.email.strip().lower()}"
    await _limit(
        service, "signing in", {f"sign in from {_address(request)}": TRIES_PER_ADDRESS, account: TRIES_PER_ACCOUNT}
    )
    async with service.pool.acquire() as tx:
        user = await accounts.user_by_email(tx, given.email.strip())
    # No connection is held while the password is computed.
    if not await passwords.matches(user.password_hash if user else None, given.password) or user is None:
        raise unauthorized("The address or the password is wrong")
    async with service.pool.acquire() as tx, tx.transaction():
        await throttle.give_back(tx, account)
        token = await accounts.sign_in(tx, service.vault, user.id)
    return SignedIn(token, _shape(user))


@delete("/api/v1/users/sign_out", summary="Sign out")
async def sign_out(request: Request[Any, Any, Any], service: Service) -> None:
    """The token that this is called with is worth nothing from now on."""
    token = token_in(request.headers.get("authorization"))
    async with service.pool.acquire() as tx, tx.transaction():
        if token is None or not await accounts.sign_out(tx, service.vault, token):
            raise unauthorized("Send the token that you got when signing in: Authorization: Bearer TOKEN")


async def _limit(service: Service, what: str, subjects: dict[str, Limit]) -> None:
    """Raises `Refused` (429) where too much was tried on behalf of any of the subjects."""
    async with service.pool.acquire() as tx, tx.transaction():
        wait = max([await throttle.take(tx, subject, limit) for subject, limit in subjects.items()])
    if wait:
        raise Refused(
            429,
            "too_many_requests",
            f"Too many tries at {what}; try again in {math.ceil(wait)} s",
            headers={"Retry-After": str(math.ceil(wait))},
        )


async def _send_verification(service: Service, user: User) -> None:
    """Runs after the answer: whether mail can be sent is nothing that a stranger is told."""
    settings = service.settings
    link = links.verification(service.vault, service.public_url, user.id, user.email)
    try:
        mailer = Mailer(settings.smtp, settings.email_from, settings.outbox)
        await mailer.send(letters.verification(user.email, link, domain=mailer.domain, now=datetime.now(UTC)))
    except MailRefused as error:
        log.warning("a verification mail could not be sent; it can be asked for at /verify-email", error=str(error))


def _address(request: Request[Any, Any, Any]) -> str:
    return request.client.host if request.client else "nowhere"


def _shape(user: User) -> UserShape:
    return UserShape(user.email, user.name, seconds(user.created_at), seconds(user.updated_at))


routes = [register, sign_in, sign_out]
