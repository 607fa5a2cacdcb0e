"""People's own accounts: registering, verifying an address, names and passwords."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.actions import integrations, limits, monitors, projects, tokens
from tocsin.actions.base import EVERYBODY, OPERATOR, PEOPLE, SYSTEM, Actor, own, person, system, unrecorded
from tocsin.domain import names
from tocsin.domain.accounts import same_address
from tocsin.domain.errors import Refused, not_found
from tocsin.domain.monitors import MonitorConfig
from tocsin.storage.accounts import accounts, operator, sessions, sign_ins, throttle
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

MAILS_PER_USER = Limit(3, 3600)
MAILS_PER_NETWORK = Limit(20, 3600)
LETTERS_ABOUT_ONE = Limit(3, 86_400)
"""Mails to the owner of an address that others register with."""
WAIT = "Please wait a while before you ask for another mail"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Who registers: with a password or without, and with a first site to monitor."""

    email: str
    name: str
    password_hash: str | None
    site: MonitorConfig | None


@dataclass(frozen=True, slots=True)
class Registered:
    """The new user; or None, and the `known` one whose address it is, if they are to be notified."""

    user: User | None
    known: User | None = None


def require_open(registration: str) -> None:
    """Raises `Refused` (403) unless strangers may register here."""
    if registration != "open":
        raise Refused(403, "forbidden", "Registration is by invitation; ask the operator of this installation")


@unrecorded("the project that comes with it is on record", by=EVERYBODY)
async def register(
    tx: Tx, actor: Actor, vault: Vault, new: NewAccount, plan: str, *, registration: str
) -> Registered:
    """An account with a first project."""
    require_open(registration)
    user = await accounts.create_user(tx, new.email, new.name, new.password_hash)
    if user is None:
        known = await accounts.user_by_email(tx, new.email)
        notified = known and await limits.allows(tx, actor, f"letters about {known.id}", LETTERS_ABOUT_ONE)
        return Registered(None, known if notified else None)
    name = names.cut(f"{user.name or user.email}'s project", names.MAX_LENGTH)
    project = await projects.create(tx, person(user.id), vault, name, plan, registration=registration, first=True)
    if new.site:
        await monitors.create(tx, Actor(project.id, "owner", user.id, plan, user.id), vault, new.site)
    return Registered(user)


@unrecorded("it concerns nobody else", by=PEOPLE)
async def rename(tx: Tx, actor: Actor, name: str) -> None:
    await accounts.set_name(tx, own(actor), name)


@unrecorded("it concerns nobody else", by=PEOPLE)
async def change_password(
    tx: Tx, actor: Actor, checked: User, password_hash: str, session_id: UUID, tries: str
) -> bool:
    """Another password in place of the one that was checked: all other sessions end, and the limit of the subject
    `tries` is reset. False if the password has changed meanwhile, or the session has ended.
    """
    if checked.id != own(actor):
        raise not_found("user")
    if not await accounts.hold(tx, checked) or not await sessions.lives(tx, checked.id, session_id):
        return False
    await accounts.set_password(tx, checked.id, password_hash)
    await sessions.end_others(tx, checked.id, session_id)
    await throttle.give_back(tx, tries)
    return True


@unrecorded("it concerns nobody else", by=PEOPLE)
async def verify(tx: Tx, actor: Actor, user: User) -> None:
    """The signed-in user of the account has opened the link from its mail."""
    if user.id != own(actor):
        raise not_found("user")
    await accounts.verify(tx, user.id, user.email)


@unrecorded("the tokens that are replaced are on record", by=SYSTEM)
async def take_over(tx: Tx, actor: Actor, vault: Vault, user_id: UUID, email: str, password_hash: str) -> User | None:
    """Give the account to the reader of its mail: with this password, its address verified, and all sessions ended.

    An unverified account may have been created by a stranger, so the tokens of the projects that it created
    are replaced too. Returns the user; None if the account was deleted, or has another address by now.
    """
    user = await accounts.user_by_id(tx, user_id, lock=True)
    if user is None or same_address(user.email) != same_address(email):
        return None
    await accounts.set_password(tx, user_id, password_hash)
    await sessions.end_others(tx, user_id)
    if not user.verified:
        await accounts.verify(tx, user_id, email)
        for project_id in await accounts.projects_made_by(tx, user_id):
            await tokens.rotate(tx, system(project_id, user_id), vault)
    return await accounts.user_by_id(tx, user_id)


@unrecorded("the tokens that are replaced are on record", by=SYSTEM)
async def choose_password(tx: Tx, actor: Actor, vault: Vault, user: User, password_hash: str, network: str) -> bool:
    """As `take_over`; and reset the limits, so that the new password works from that network."""
    if await take_over(tx, actor, vault, user.id, user.email, password_hash) is None:
        return False
    await sign_ins.reset_limits(tx, vault, user, network)
    return True


@unrecorded("the tokens that are replaced are on record", by=SYSTEM)
async def take_over_invited(
    tx: Tx, actor: Actor, vault: Vault, email: str, name: str, password_hash: str
) -> User | None:
    """The account of an invited address, taken over by the reader of its mail. None if somebody else was first."""
    user = await accounts.user_by_id(tx, (await accounts.ensure_user(tx, email)).id, lock=True)
    if user is None or settled(user):
        return None
    claimed = await take_over(tx, actor, vault, user.id, email, password_hash)
    if claimed is not None:
        await accounts.set_name(tx, user.id, name)
    return claimed


def settled(user: User | None) -> bool:
    """Whether the account is verified, and has a way to sign in."""
    return user is not None and user.verified and user.password_hash is not None


@unrecorded("a mail changes nothing", by=EVERYBODY)
async def ask_for_mail(tx: Tx, actor: Actor, what: str, network: str, user: User | None) -> User | None:
    """The user if one more of these mails may be sent; call it for unknown addresses too. Raises `Refused` (429)."""
    await limits.take(tx, actor, f"{what} for {network}", MAILS_PER_NETWORK, WAIT)
    return user if user and await limits.allows(tx, actor, f"{what} to {user.id}", MAILS_PER_USER) else None


@unrecorded("the integrations that are made are on record", by=SYSTEM)
async def set_up_operator(
    tx: Tx, actor: Actor, vault: Vault, token: str, email: str, name: str, password_hash: str
) -> User | None:
    """Use the operator's link: sets the account's address, name and password. None for a used link.

    Raises `Refused` (422) if the address belongs to another account.
    """
    user = await operator.set_up(tx, vault, token, email, name, password_hash)
    if user is not None:
        for project_id in await operator.adopt(tx, user.id):
            await integrations.create_system(tx, system(project_id, email), email)
    return user


@unrecorded("a link by itself changes nothing", by=OPERATOR)
async def operator_link(tx: Tx, actor: Actor, vault: Vault, public_url: str) -> str | None:
    """A link that sets up the operator's account, valid once, for an hour; None if there is no operator."""
    return await operator.new_link(tx, vault, public_url)
