"""What an integration type is: the smallest contract that the API and the engine need.

Each file next to this one is one type. `send` never sees the database, and the engine never sees what it delivers. A
type that keeps state between attempts returns True from `needs_permit`: the engine then calls it before each attempt
(`before_send`) and after it (`after_attempt`), each in a short transaction; none is open during a send.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal
from uuid import UUID

from tocsin.domain import discovery
from tocsin.domain.deliveries import Failed, Finish, Outcome, Retry, Suppressed
from tocsin.domain.errors import Detail, forbidden_state, invalid
from tocsin.domain.incidents import Notification
from tocsin.settings import Settings
from tocsin.storage.channels.integrations import Integration, Sendable
from tocsin.storage.channels.restarts import RESTART_LIMITS, Limits
from tocsin.storage.delivery.leases import LostDelivery
from tocsin.storage.delivery.queue import Job
from tocsin.storage.postgres.database import Tx
from tocsin.storage.postgres.secrets import Vault
from tocsin.transports.apprise.workers import Workers
from tocsin.transports.http import Http
from tocsin.transports.slack import Slack
from tocsin.transports.sms import SmsSender
from tocsin.transports.smtp import Mailer
from tocsin.transports.ssh import Ssh
from tocsin.transports.telegram import Telegram

MASK = "********"
UNSAFE = "unsafe"
"""In the receipt of a `Failed`: it was not sent, because it must not be sent twice, and could have been."""


@dataclass(frozen=True, slots=True)
class Transports:
    """The transports that a type may use, and the installation's public URL."""

    http: Http
    mail: Mailer
    public_url: str
    ssh: Ssh | None = None
    sms: SmsSender | None = None
    slack: Slack | None = None
    telegram: Telegram | None = None
    apprise: Workers | None = None
    restart_limits: Limits = RESTART_LIMITS


@dataclass(frozen=True, slots=True)
class Permit:
    """What `before_send` granted to an attempt: its context, and how to pass the point of no return.

    After `pass_point_of_no_return` returned None nothing is retried, whatever happens. Where it returns an
    outcome, that is the end of the attempt: send nothing.
    """

    context: Mapping[str, Any]
    pass_point_of_no_return: Callable[[], Awaitable[Outcome | None]]


async def _no_permit() -> Outcome | None:
    return Suppressed("this type sends by permit only")


NO_PERMIT = Permit({}, _no_permit)


@dataclass(frozen=True, slots=True)
class Creator:
    """Who creates an integration, as far as its type needs to know."""

    project_id: UUID
    plan: str
    production: bool


FieldKind = Literal[
    "text", "url", "email", "tel", "number", "password", "lines", "list", "choice", "json", "pairs", "template",
    "members",
]


@dataclass(frozen=True, slots=True)
class Field:
    """One setting as a form asks for it. `kind` is an input's type in HTML; `lines` is a text of several lines, `list`
    are values between commas, `choice` is one of `options` (each with its label), `json` is any JSON value, `template`
    is a template of several lines, `pairs` are names and values, one `Name: value` a line,
    `members` are integrations in their order. Optional fields that are
    left empty are not part of the settings. Those that are `folded` are for whoever wants more than the usual.
    """

    name: str
    label: str
    kind: FieldKind = "text"
    hint: str = ""
    placeholder: str = ""
    required: bool = True
    options: tuple[tuple[str, str], ...] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """What is sent for one event, to be shown. Secrets are masked; `headers` are those of the settings."""

    event: str
    body: str
    method: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class IntegrationType(ABC):
    """One type of integration. Settings are plain JSON values; those named in `secret_settings` are encrypted at rest.

    `settings` given to `send`, `default_name` and `public_settings` always result from an earlier `parse`.
    """

    type: ClassVar[str]
    """The specification's name, such as `Integrations::WebhookIntegration`."""
    label: ClassVar[str]
    """Its name for people."""
    about: ClassVar[str] = ""
    """What it does, in one sentence, for the choice of a type."""
    fields: ClassVar[tuple[Field, ...]] = ()
    """The form of its settings; none if an integration is created in another way."""
    form_page: ClassVar[str] = ""
    """The page below `/integrations` that asks for its settings, for a type whose form depends on more than itself."""
    verification_field: ClassVar[Field | None] = None
    """The field of the code that verifies the address, asked for in a second step in production."""
    test_label: ClassVar[str] = "Send a test"
    """The text of its test button."""
    for_people: ClassVar[bool] = False
    """People read it: an opening that was never delivered is merged into the resolve."""
    why_no_flood: ClassVar[str] = ""
    """Why its flood control cannot be set although people read it."""
    repeatable: ClassVar[bool] = True
    """Sending twice does no harm, so an attempt with an unknown outcome is retried."""
    editable: ClassVar[bool] = True
    """Whether its settings may be changed after it was created."""
    secret_settings: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that are encrypted at rest."""
    internal_settings: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that are the service's own, and never part of a response."""
    host_setting: ClassVar[str] = ""
    """The setting that names a host to call, if the type has one."""
    inner: ClassVar[bool] = False
    """It is the service's own: nobody can create one, or sees one."""
    signing_setting: ClassVar[str | None] = None
    """The setting that holds the secret that signs notifications, if the type has one."""

    async def consult(
        self, given: Mapping[str, Any], stored: Mapping[str, Any] | None, apprise: Workers
    ) -> Mapping[str, Any]:
        """Hook before `parse`, outside of any transaction: what was given, with what only others know about it.

        Raises `Refused`.
        """
        return given

    @abstractmethod
    def parse(self, given: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings to store, from what a caller gave (and, on a change, from what is stored).

        Raises `Refused` (422) naming each field as `settings.<name>`. Unknown fields are ignored.
        """

    async def look_up(self, settings: Mapping[str, Any], configured: Settings) -> dict[str, Any]:
        """The settings of a new integration, completed by what its far end says of them. Called outside a transaction.

        Raises `Refused` (422 as `parse`; 503 if the far end cannot be asked).
        """
        return dict(settings)

    @abstractmethod
    def default_name(self, settings: Mapping[str, Any]) -> str:
        """The integration's name until its owner renames it."""

    def payload(self, notification: Notification) -> str:
        """What is sent for it, for the delivery log: nothing secret; empty if nothing is sent."""
        return ""

    def preview(
        self, settings: Mapping[str, Any], notification: Notification, public_url: str, *, reveal: bool = False
    ) -> Preview:
        """What these settings make of it, nothing sent. `reveal` shows the settings' headers in clear: only for whoever
        has just sent them.
        """
        return Preview(notification.event, self.payload(notification))

    @abstractmethod
    async def send(
        self, settings: Mapping[str, Any], notification: Notification, transports: Transports,
        permit: Permit = NO_PERMIT,
    ) -> Outcome:
        """One attempt. Ends within `ATTEMPT_TIMEOUT` seconds; expected failures are returned as `Failed`."""

    def unready(self, settings: Mapping[str, Any]) -> str | None:
        """Why nothing can be sent yet, although it was created; None if it can."""
        return None

    async def before_create(self, tx: Tx, vault: Vault, creator: Creator, given: Mapping[str, Any]) -> None:  # noqa: B027  (optional hook)
        """Hook in the transaction that creates an integration from what was `given`. Raises `Refused`."""

    async def before_change(self, tx: Tx, found: Integration, settings: Mapping[str, Any]) -> None:  # noqa: B027  (optional hook)
        """Hook in the transaction that changes the settings of a locked integration. Raises `Refused`."""

    def needs_permit(self, to: Sendable) -> bool:
        """Whether attempts there need a permit: `before_send` and `after_attempt` are called for them."""
        return False

    async def before_send(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], transports: Transports
    ) -> Mapping[str, Any] | Suppressed | Failed:
        """Hook before each attempt: returns the permit's context, or why nothing is sent (now)."""
        return {}

    async def before_point_of_no_return(
        self, tx: Tx, job: Job, settings: Mapping[str, Any], context: Mapping[str, Any]
    ) -> Suppressed | None:
        """Hook in the transaction that commits the point of no return: a last reason not to send, or None."""
        return None

    async def after_attempt(  # noqa: B027
        self, tx: Tx, job: Job, settings: Mapping[str, Any], outcome: Outcome, then: Retry | Finish
    ) -> None:
        """Hook after each attempt that had a permit, in the transaction that records its result."""

    async def on_lost(self, tx: Tx, lost: LostDelivery) -> None:  # noqa: B027  (optional hook)
        """Hook after an engine died past the point of no return: the delivery has just ended, its outcome unknown."""

    def wants_details(self, settings: Mapping[str, Any]) -> bool:
        """Whether its notifications say what the incident's reporter says besides: then they are read for it."""
        return False

    def hears_acknowledgements(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is told that somebody has an incident (the event `acknowledged`)."""
        return False

    def host(self, settings: Mapping[str, Any]) -> str | None:
        """The host that the setting `host_setting` says to call; None if only the operator's hosts are called."""
        return None

    def rotate_secret(self, settings: Mapping[str, Any], now: float) -> dict[str, Any]:
        """The settings with a new `signing_setting` secret; `now` is Unix time. Only for types that have one."""
        raise forbidden_state(f"A {self.label} integration has no secret to rotate")

    def public_settings(self, settings: Mapping[str, Any], *, reveal: bool) -> dict[str, Any]:
        """The settings as responses show them: nothing internal, and secrets masked unless `reveal`."""
        return {
            field: value if reveal or field not in self.secret_settings else MASK
            for field, value in settings.items()
            if field not in self.internal_settings
        }


@cache
def every() -> Mapping[str, IntegrationType]:
    """Every type next to this file, by the specification's name: a new file is a new type, nothing else to edit."""
    found = discovery.kinds(__name__.rpartition(".")[0], IntegrationType)  # type: ignore[type-abstract]
    return {each.type: each for each in sorted(found, key=lambda each: each.type)}


@cache
def types() -> Mapping[str, IntegrationType]:
    """Those of them that anybody can create."""
    return {name: each for name, each in every().items() if not each.inner}


def of(type_name: str) -> IntegrationType:
    """The type of that name, or 422 with the names of those that exist."""
    known = types()
    if type_name not in known:
        message = f"{type_name!r} is not a known type; use one of: {', '.join(known)}"
        raise invalid(message, Detail("type", message))
    return known[type_name]


def display_name(integration: Integration) -> str:
    """The display name of an integration: the one that its owner gave, else its type's default."""
    return integration.name or of(integration.type).default_name(integration.settings)
