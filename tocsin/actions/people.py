"""People's own accounts: registering, verifying an address, names and passwords."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tocsin.actions import integrations, limits, monitors, projects, tokens
from tocsin.actions.base import EVERYBODY, OPERATOR, PEOPLE, SYSTEM, Actor, system, unrecorded
from tocsin.domain import names
from tocsin.domain.accounts import same_address
from tocsin.domain.monitors import MonitorConfig
from tocsin.storage.accounts import accounts, operator, sessions, sign_ins, throttle
from tocsin.storage.accounts.accounts import User
from tocsin.storage.accounts.throttle import Limit
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault

MAILS_PER_USER = Limit(3, 3600)
MAILS_PER_NETWORK = Limit(20, 3600)
LETTERS_ABOUT_ONE = Limit(3, 86_400)
"""To the owner of an address that others register with."""
WAIT = "Please wait a while before you ask for another mail"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Who registers: with a password or without, and with a site to watch from the first day on."""

    email: str
    name: str
    password_hash: str | None
    site: MonitorConfig | None


@dataclass(frozen=True, slots=True)
class Registered:
    """The new user; or None, and the `known` one whose address it is, where they are to be told."""

    user: User | None
    known: User | None = None


@unrecorded("the project that comes with it is on record", by=EVERYBODY)
async def register(tx: Tx, actor: Actor, vault: Vault, new: NewAccount, plan: str) -> Registered:
    """An account with a first project."""
    user = await accounts.create_user(tx, new.email, new.name, new.password_hash)
    if user is None:
        known = await accounts.user_by_email(tx, new.email)
        told = known and await limits.allows(tx, actor, f"letters about {known.id}", LETTERS_ABOUT_ONE)
        return Registered(None, known if told else None)
    person = Actor(actor.project_id, "person", user.id, plan, user.id)
    name = names.cut(f"{user.name or user.email}'s project", names.MAX_LENGTH)
    project = await projects.create(tx, person, vault, name, plan, user)
    if new.site:
        await monitors.create(tx, Actor(project.id, "owner", user.id, plan, user.id), new.site)
    return Registered(user)


@unrecorded("it concerns nobody else", by=PEOPLE)
async def rename(tx: Tx, actor: Actor, user_id: UUID, name: str) -> None:
    await accounts.set_name(tx, user_id, name)


@unrecorded("it concerns nobody else", by=PEOPLE)
async def change_password(
    tx: Tx, actor: Actor, checked: User, password_hash: str, session_id: UUID, tries: str
) -> bool:
    """Another password in place of the one that was looked at: all other sessions end, and the limit of the subject
    `tries` is given back. False where it is not the password any more, or the session is over.
    """
    if not await accounts.hold(tx, checked) or not await sessions.lives(tx, checked.id, session_id):
        return False
    await accounts.set_password(tx, checked.id, password_hash)
    await sessions.end_others(tx, checked.id, session_id)
    await throttle.give_back(tx, tries)
    return True


@unrecorded("it concerns nobody else", by=PEOPLE)
async def verify(tx: Tx, actor: Actor, user: User) -> None:
    """By whoever is signed in to that very account and reads its mail."""
    await accounts.verify(tx, user.id, user.email)


@unrecorded("the tokens that are replaced are on record", by=SYSTEM)
async def take_over(tx: Tx, actor: Actor, vault: Vault, user_id: UUID, email: str, password_hash: str) -> User | None:
    """The account is its mail's reader's from now on: with this password, its address verified, and nobody signed in.

    An account that nobody had verified may have been made by a stranger, so the tokens of the projects that it made
    are replaced too. The user as they are now; None where the account is gone, or has another address by now.
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
    """As `claim`; the new password may then be tried from that network, whatever was tried before."""
    if await take_over(tx, actor, vault, user.id, user.email, password_hash) is None:
        return False
    await sign_ins.reset_limits(tx, vault, user, network)
    return True


@unrecorded("the tokens that are replaced are on record", by=SYSTEM)
async def take_over_invited(
    tx: Tx, actor: Actor, vault: Vault, email: str, name: str, password_hash: str
) -> User | None:
    """The account of an invited address, taken over by whoever reads its mail. None where somebody else was first."""
    user = await accounts.user_by_id(tx, (await accounts.ensure_user(tx, email)).id, lock=True)
    if user is None or settled(user):
        return None
    claimed = await take_over(tx, actor, vault, user.id, email, password_hash)
    await accounts.set_name(tx, user.id, name)
    return claimed


def settled(user: User | None) -> bool:
    """Whether somebody has shown that the account is theirs, and can get in."""
    return user is not None and user.verified and user.password_hash is not None


@unrecorded("a mail changes nothing", by=EVERYBODY)
async def ask_for_mail(tx: Tx, actor: Actor, what: str, network: str, user: User | None) -> User | None:
    """Whether one more of these mails goes to the user; asked for strangers' addresses too. Raises `Refused` (429)."""
    await limits.take(tx, actor, f"{what} for {network}", MAILS_PER_NETWORK, WAIT)
    return user if user and await limits.allows(tx, actor, f"{what} to {user.id}", MAILS_PER_USER) else None


@unrecorded("the integrations that are made are on record", by=SYSTEM)
async def set_up_operator(
    tx: Tx, actor: Actor, vault: Vault, token: str, email: str, name: str, password_hash: str
) -> User | None:
    """Use the operator's link: the account has this address, name and password. None for a used link.

    Raises `Refused` (422) where the address is somebody else's.
    """
    user = await operator.set_up(tx, vault, token, email, name, password_hash)
    if user is not None:
        for project_id in await operator.adopt(tx, user.id):
            await integrations.create_system(tx, system(project_id, email), email)
    return user


@unrecorded("a link by itself changes nothing", by=OPERATOR)
async def operator_link(tx: Tx, actor: Actor, vault: Vault, public_url: str) -> str | None:
    """A link that sets the operator's account up, within an hour, once; None where there is no operator."""
    return await operator.new_link(tx, vault, public_url)
