"""Users: registering, signing in and out."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, delete, post
from litestar.background_tasks import BackgroundTask

from tocsin.actions import account_mail, limits, people, sign_ins
from tocsin.actions.base import anybody
from tocsin.actions.people import NewAccount
from tocsin.api.authentication import token_in, unauthorized
from tocsin.api.schemas import seconds
from tocsin.api.service import Service
from tocsin.checks import base
from tocsin.domain import accounts as rules
from tocsin.domain import clients, names
from tocsin.domain.errors import Refused, invalid_field, too_many
from tocsin.domain.monitors import DEFAULT_TIMEOUT, MonitorConfig, Target
from tocsin.storage.accounts import passwords
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.passwords import Requester
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import transaction
from tocsin.transports.guard import Guard

REGISTRATIONS_PER_NETWORK = Limit(20, 3600)
TOO_MANY = "Too many attempts to register; try again in {seconds} s"
NOT_KNOWN = "The address or the password is wrong"


class NewUser(msgspec.Struct):
    """Who registers. An address alone is enough; a password can then be chosen through the link that is sent to it."""

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
    """Create an account with a first project, and send a link that verifies the address

    An address that has an account already gets the same response, and its owner is notified by mail.
    """
    people.require_open(service.settings.registration)
    given = data.user
    site = _first_site(given.first_website.strip(), service) if given.first_website else None
    email = rules.address("email", given.email)
    name = names.checked("name", given.name) if given.name.strip() else ""
    password = given.password
    if password is not None:
        rules.password("password", password, given.password_confirmation)
    requester = Requester(_network(request, service), False, request.receive)
    async with transaction(service.pool) as tx:
        await limits.take(tx, anybody(), f"register from {requester.network}", REGISTRATIONS_PER_NETWORK, TOO_MANY)
        if password is not None:
            passwords.expect_room(requester)
    password_hash = None if password is None else await passwords.hash_of(password, requester)
    newcomer = NewAccount(email, name, password_hash, site)
    async with transaction(service.pool) as tx:
        made = await people.register(
            tx, anybody(), service.vault, newcomer, service.settings.default_plan,
            registration=service.settings.registration,
        )  # fmt: skip
    now, user = seconds(datetime.now(UTC)), made.user
    task = BackgroundTask(account_mail.send_verification, service, user) if user else None
    if made.known:
        task = BackgroundTask(account_mail.send_already_registered, service, made.known)
    shown = _shape(user) if user else UserShape(email, name, now, now)
    return Response(Registered("User created successfully", shown), status_code=201, background=task)


def _first_site(url: str, service: Service) -> MonitorConfig | None:
    """The first monitor; people may omit `https://`. Raises `Refused` (422)."""
    if not url:
        return None
    if "://" not in url:
        url = f"https://{url}"
    try:
        kind = base.of(None, url)
        target = kind.validate(Target(url, kind.check_type, DEFAULT_TIMEOUT))
        if (host := kind.host(target)) is not None:
            Guard(service.settings.allow_networks).check_given(host, "url")
    except Refused as refusal:
        message = refusal.details[0].message if refusal.details else refusal.message
        raise invalid_field("first_website", message) from None
    return MonitorConfig(target.url, target)


@post("/api/v1/users/sign_in", summary="Sign in", status_code=200, security=[])
async def sign_in(request: Request[Any, Any, Any], data: SignIn, service: Service) -> SignedIn:
    """A token that acts on the user's current project, valid for 30 days."""
    given = data.user
    async with transaction(service.pool) as tx:
        attempt = await sign_ins.begin(tx, anybody(), service.vault, given.email, _network(request, service))
        requester = Requester(attempt.network, attempt.known, request.receive)
        if not attempt.wait:
            passwords.expect_room(requester)
    if attempt.wait:
        if attempt.warn and attempt.user:
            account_mail.later(account_mail.send_failed_sign_ins(service, attempt.user))
        seconds_left = math.ceil(attempt.wait)
        raise too_many(f"Too many attempts to sign in; try again in {seconds_left} s", attempt.wait)
    # No connection is held while the password is computed.
    user = attempt.user
    if not await passwords.matches(user.password_hash if user else None, given.password, requester) or user is None:
        raise unauthorized(NOT_KNOWN)
    async with transaction(service.pool) as tx:
        token = await sign_ins.create_token(tx, anybody(), service.vault, attempt)
    if token is None:
        raise unauthorized(NOT_KNOWN)
    return SignedIn(token, _shape(user))


@delete("/api/v1/users/sign_out", summary="Sign out")
async def sign_out(request: Request[Any, Any, Any], service: Service) -> None:
    """Revokes the token that authenticates this call."""
    token = token_in(request.headers.get("authorization"))
    async with transaction(service.pool) as tx:
        if token is None or not await sign_ins.end_token(tx, anybody(), service.vault, token):
            raise unauthorized("Send the token that you got when signing in: Authorization: Bearer TOKEN")


def _network(request: Request[Any, Any, Any], service: Service) -> str:
    return clients.network_of(request.scope, service.settings.trusted_proxies)


def _shape(user: User) -> UserShape:
    return UserShape(user.email, user.name, seconds(user.created_at), seconds(user.updated_at))


routes = [register, sign_in, sign_out]
