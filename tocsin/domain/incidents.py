"""Incidents: requests to open and resolve them, their stored state, and the notifications about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from tocsin.domain import names, requests
from tocsin.domain.deliveries import Event

MAX_MESSAGE_LENGTH = 2000
"""Characters, the ellipsis included."""

AT_ONCE = 250
"""Incidents after which the event loop gets a turn: about 10 ms."""

CLOCK = "clock"
DRILL = "drill"
"""The type of a fire drill: it goes through everything, restarts nothing, and everybody is asked to acknowledge it."""
WARNINGS = frozenset({CLOCK, DRILL})
"""Types of incident that are only warnings: nothing has failed that a restart could fix."""


Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""The worst first."""


def at_least(severity: str, least: str) -> bool:
    """Whether `severity` is `least`, or worse."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(least)


class Evidence(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a check saw when it opened the incident. Absent values are omitted from its JSON."""

    request: str | None = None
    request_headers: Mapping[str, str] | None = None
    response: str | None = None
    response_headers: Mapping[str, str] | None = None


class OpenRequest(msgspec.Struct, frozen=True, gc=False):
    """Asks to open an incident of this type for this resource of this project.

    `dedup_key` keeps apart what one resource can have several of at once: a source's alerts, a server's file systems.
    `url` is what it is about, where that is not the resource's own address; `details` is what its reporter says too.
    `origin` is where this comes from (`domain.requests`): from what is being done, unless something else is given.
    """

    project_id: UUID
    resource_type: str
    resource_id: UUID
    type: str
    message: str
    evidence: Evidence | None = None
    severity: Severity = "critical"
    dedup_key: str = ""
    url: str | None = None
    details: Mapping[str, Any] | None = None
    origin: str | None = msgspec.field(default_factory=requests.current)


class ResolveRequest(msgspec.Struct, frozen=True, gc=False):
    """Asks to resolve what is ongoing for a resource: one type, or (None) every type. `by` is who asks.

    Of a type, all are meant, or (`dedup_key`) the one with that key. `only` names the one incident that is meant, where
    another may have taken its place meanwhile. `origin` is as in an `OpenRequest`.
    """

    project_id: UUID
    resource_id: UUID
    type: str | None
    by: str
    only: UUID | None = None
    dedup_key: str | None = None
    origin: str | None = msgspec.field(default_factory=requests.current)


class Incident(msgspec.Struct, frozen=True, gc=False):
    """An incident as it is stored. Name and address of its resource are as of when it opened. The origins
    (`domain.requests`) are those of what opened and resolved it, if a request did.
    """

    id: UUID
    project_id: UUID
    resource_type: str
    resource_id: UUID
    resource_name: str
    resource_url: str
    type: str
    message: str
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    resolved_by: str | None = None
    snoozed_at: datetime | None = None
    snooze_until: datetime | None = None
    request: str | None = None
    request_headers: Mapping[str, str] | None = None
    response: str | None = None
    response_headers: Mapping[str, str] | None = None
    severity: Severity = "critical"
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_until: datetime | None = None
    silenced_by: UUID | None = None
    dedup_key: str = ""
    origin: str | None = None
    resolve_origin: str | None = None


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The ongoing incident; `new` if this call opened it."""

    incident: Incident
    new: bool


class ResourceNotFound(msgspec.Struct, frozen=True, gc=False):
    """The project has no such resource."""


class Notification(msgspec.Struct, frozen=True, gc=False):
    """The content of one delivery. Built from the incident's row; integrations render it into a payload.

    `delivery_id` (`DLV…`) is the same for every attempt. `started_at` and `closed_at` bound the incident; `closed_at`
    is None while it lasts, and always in a notification of its opening. `first_notice_failed` says that the opening
    could not be delivered, so that this one covers both. A test has no incident; a notice has none either and shows its
    `message` to people only. `unsubscribe_url` is where a mail's reader can stop it. `acknowledged_by` is who has the
    incident, in a notification of that; at `acknowledge_url` its reader can take it while it lasts. `details` are what
    its reporter says besides, for integrations that want them.
    """

    delivery_id: str
    event: Event
    incident_id: str | None
    resource_type: str
    resource_name: str
    resource_url: str
    incident_type: str
    message: str
    started_at: datetime
    closed_at: datetime | None = None
    first_notice_failed: bool = False
    unsubscribe_url: str | None = None
    severity: str = "critical"
    acknowledged_by: str | None = None
    acknowledge_url: str | None = None
    details: Mapping[str, Any] | None = None

    @property
    def status(self) -> str:
        return "ongoing" if self.closed_at is None else "resolved"

    @property
    def duration(self) -> int | None:
        """Whole seconds that the incident lasted, or None while it lasts."""
        return None if self.closed_at is None else max(0, int((self.closed_at - self.started_at).total_seconds()))


def truncated_message(message: str) -> str:
    """The message as it is stored: truncated if it is too long, since no incident may be lost for that."""
    return names.cut(message, MAX_MESSAGE_LENGTH)


def format_duration(seconds: float) -> str:
    """A duration for people, in its two largest units: `42 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    left = max(0, int(seconds))
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
