"""What an action is: who acts, what their role allows, and the audit log entry that it always writes.

An action is a coroutine that takes the caller's transaction, the `Actor` and a request in domain values. It raises
`Refused`, and knows no HTTP, form, template or command line. `docs/roles.md` says who may do what.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from uuid import UUID

from tocsin.domain.errors import Refused
from tocsin.storage import audit
from tocsin.storage.accounts import members
from tocsin.storage.postgres.database import Tx

Role = Literal["owner", "member", "reader", "operator", "person", "anybody", "system"]
"""The first three are roles in a project. `operator`: runs the installation. `person`: a signed-in user, in a
matter of their own; `anybody`: not signed in. `system`: Tocsin itself, or an external service that has authenticated.
"""

SYSTEM: frozenset[Role] = frozenset({"system"})
OPERATOR: frozenset[Role] = SYSTEM | {"operator"}
OWNERS: frozenset[Role] = OPERATOR | {"owner"}
MEMBERS: frozenset[Role] = OWNERS | {"member"}
READERS: frozenset[Role] = MEMBERS | {"reader"}
PEOPLE: frozenset[Role] = READERS | {"person"}
EVERYBODY: frozenset[Role] = PEOPLE | {"anybody"}

INSTALLATION = UUID(int=0)
"""Stands for the whole installation, if an actor acts on no project."""

READERS_ONLY_READ = "You may read this project, but not change it; ask its owner for another role"
OWNERS_ONLY = "Only owners of the project may do that; ask one of them"
OPERATORS_ONLY = "That is for whoever runs this installation"
PEOPLE_ONLY = "Only a user can do that, not a token of a project"

P = ParamSpec("P")
R = TypeVar("R")
Way = TypeVar("Way")
"""A transaction, or a shared group commit."""


class Actor:
    """Who acts, on which project. A project's own API token acts as an owner. Immutable by convention.

    `name` is their name in the audit log: a user's key or address, `audit.API_TOKEN` or `audit.OPERATOR`.
    """

    # No dataclass: the API's framework would inspect one, field by field, for each handler.

    __slots__ = ("name", "plan", "project_id", "role", "user_id")

    def __init__(
        self, project_id: UUID, role: Role, name: UUID | str, plan: str = "free", user_id: UUID | None = None
    ) -> None:
        self.project_id = project_id
        self.role = role
        self.name = name
        self.plan = plan
        self.user_id = user_id


def operator(project_id: UUID = INSTALLATION) -> Actor:
    """The operator, through a command."""
    return Actor(project_id, "operator", audit.OPERATOR)


def person(user_id: UUID) -> Actor:
    """A user in a matter of their own."""
    return Actor(INSTALLATION, "person", user_id, user_id=user_id)


def anybody() -> Actor:
    """Somebody who is not signed in."""
    return Actor(INSTALLATION, "anybody", "somebody")


def system(project_id: UUID = INSTALLATION, name: UUID | str = "Tocsin") -> Actor:
    """Tocsin itself, or by its `name` an external service that has authenticated."""
    return Actor(project_id, "system", name)


@dataclass(frozen=True, slots=True)
class Change:
    """What an action did, for the audit log: the subject's display name, with plain details and never a secret."""

    subject: str
    details: Mapping[str, Any] = field(default_factory=dict)
    project_id: UUID | None = None
    """Whose log it goes to, where that is not the actor's project."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `recorded` is its label in the audit log; if it is None, `because` says why."""

    name: str
    roles: frozenset[Role]
    recorded: str | None
    because: str = ""


ACTIONS: dict[str, Action] = {}
"""Every action of the loaded modules, by its name (`monitors.create`)."""

Do = Callable[Concatenate[Tx, Actor, P], Awaitable[tuple[R, Change | None]]]
Act = Callable[Concatenate[Tx, Actor, P], Awaitable[R]]


def action(recorded: str, *, by: frozenset[Role] = MEMBERS) -> Callable[[Do[P, R]], Act[P, R]]:
    """Decorates a coroutine that returns its result and the `Change`, or None if nothing was changed.

    The entry is written in the same transaction, so neither exists without the other.
    """

    def decorate(do: Do[P, R]) -> Act[P, R]:
        _register(do, by, recorded)

        @wraps(do)
        async def act(tx: Tx, actor: Actor, /, *args: P.args, **named: P.kwargs) -> R:
            await _allow(tx, actor, by)
            result, change = await do(tx, actor, *args, **named)
            if change is not None:
                project_id = change.project_id or actor.project_id
                log = None if project_id == INSTALLATION else project_id
                await audit.note(tx, log, actor.name, recorded, change.subject, change.details)
            return result

        return act

    return decorate


def unrecorded(
    because: str, *, by: frozenset[Role] = MEMBERS
) -> Callable[[Callable[Concatenate[Way, Actor, P], Awaitable[R]]], Callable[Concatenate[Way, Actor, P], Awaitable[R]]]:
    """Decorates a coroutine that writes no entry; `because` says why. What owners alone may do is always recorded."""
    assert by != OWNERS

    def decorate(
        do: Callable[Concatenate[Way, Actor, P], Awaitable[R]]
    ) -> Callable[Concatenate[Way, Actor, P], Awaitable[R]]:
        _register(do, by, None, because)

        @wraps(do)
        async def act(way: Way, actor: Actor, /, *args: P.args, **named: P.kwargs) -> R:
            require(actor, by)
            return await do(way, actor, *args, **named)

        return act

    return decorate


def own(actor: Actor) -> UUID:
    """The user that the actor is, for what people may do to their own account only. Raises `Refused` (403)."""
    if actor.user_id is None:
        raise Refused(403, "forbidden", PEOPLE_ONLY)
    return actor.user_id


def require(actor: Actor, roles: Collection[Role]) -> None:
    """Raises `Refused` (403) if the actor's role is none of these."""
    if actor.role not in roles:
        message = OPERATORS_ONLY if roles == OPERATOR else OWNERS_ONLY if actor.role == "member" else READERS_ONLY_READ
        raise Refused(403, "forbidden", message)


async def _allow(tx: Tx, actor: Actor, roles: frozenset[Role]) -> None:
    require(actor, roles)
    if roles != OWNERS or actor.user_id is None:
        return
    if not await members.holds_as_owner(tx, actor.project_id, actor.user_id):  # the current role, locked
        raise Refused(403, "forbidden", OWNERS_ONLY)


def _register(do: Callable[..., Any], roles: frozenset[Role], recorded: str | None, because: str = "") -> None:
    name = f"{do.__module__.rpartition('.')[2]}.{do.__name__}"
    ACTIONS[name] = Action(name, roles, recorded, because)
