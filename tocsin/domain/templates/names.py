"""The names that templates know, and what each stands for in a notification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from tocsin.domain import names
from tocsin.domain.alerts import MAX_DETAILS
from tocsin.domain.deliveries import Event
from tocsin.domain.incidents import MAX_MESSAGE_LENGTH, Notification, format_duration
from tocsin.domain.templates.language import DETAILS, SECRETS
from tocsin.domain.templates.parts import OMIT, TEXT_OF_NUMBER, TEXT_OF_TIME, Value, Values

EVENTS: tuple[Event, ...] = tuple(event for event in get_args(Event) if event != "notice")
"""What a machine is told of; notices are for people."""

MAX_NAME_LENGTH, MAX_WORD_LENGTH, MAX_URL_LENGTH = 255, 100, 2048
"""Characters that are left of names, of words, and of addresses."""
TITLES = {"opened": "Incident", "reminder": "Still ongoing", "resolved": "Resolved", "test": "Test"}


@dataclass(frozen=True, slots=True)
class Name:
    """One name: what it stands for, and the most characters of it."""

    about: str
    longest: int


NAMES: Mapping[str, Name] = {
    "resource_name": Name("the server's hostname, the monitor's name", MAX_NAME_LENGTH),
    "resource_url": Name("the monitor's URL, or the page of the server", MAX_URL_LENGTH),
    "resource_type": Name("`Server`, `NetworkMonitor` and so on", MAX_WORD_LENGTH),
    "incident_type": Name("`cpu`, `timeout` and so on", MAX_NAME_LENGTH),
    "incident_status": Name("`ongoing` or `resolved`", MAX_WORD_LENGTH),
    "incident_duration": Name("whole seconds, a number; none while it is ongoing", TEXT_OF_NUMBER),
    "incident_message": Name("what is wrong, in up to 2,000 characters", MAX_MESSAGE_LENGTH),
    "message": Name("the same", MAX_MESSAGE_LENGTH),
    "title": Name("the event, the type and the resource in one line", 3 * MAX_NAME_LENGTH + MAX_WORD_LENGTH),
    "event": Name(f"{', '.join(f'`{event}`' for event in EVENTS)}", MAX_WORD_LENGTH),
    "severity": Name("`critical`, `warning` or `info`", MAX_WORD_LENGTH),
    "incident_uuid": Name("`INC…`; none in a test", MAX_WORD_LENGTH),
    "incident_url": Name("the page of the incident; of all incidents in a test", MAX_URL_LENGTH),
    "started_at": Name("a time", TEXT_OF_TIME),
    "closed_at": Name("a time; none while it is ongoing", TEXT_OF_TIME),
    "duration": Name("how long it lasted, in words; empty while it is ongoing", MAX_WORD_LENGTH),
    "delivery_uuid": Name("`DLV…`, the same for every attempt", MAX_WORD_LENGTH),
    "acknowledged_by": Name("who has it, in the event `acknowledged`; none in others", MAX_NAME_LENGTH),
    DETAILS: Name(
        "what its reporter says besides, as JSON, and `details.labels.job` one of it; none if nothing", MAX_DETAILS
    ),
    "acknowledge_url": Name("where somebody can acknowledge it; none where that cannot be", MAX_URL_LENGTH),
}


def values(notification: Notification, public_url: str, secrets: Mapping[str, str]) -> Values:
    """What the names stand for. `public_url` is the installation's; `secrets` are the integration's own."""
    kind, resource = notification.incident_type[:MAX_NAME_LENGTH], notification.resource_name[:MAX_NAME_LENGTH]
    message = notification.message[:MAX_MESSAGE_LENGTH]
    by = notification.acknowledged_by and notification.acknowledged_by[:MAX_NAME_LENGTH]
    beginning = f"{by} has it" if by else TITLES.get(notification.event, notification.event.capitalize())
    about = resource if notification.event == "test" else f"{kind} on {resource}"
    page = f"/incidents/{notification.incident_id}" if notification.incident_id else "/incidents"
    found: dict[str, Value] = {
        "resource_name": resource,
        "resource_url": notification.resource_url[:MAX_URL_LENGTH],
        "resource_type": notification.resource_type,
        "incident_type": kind,
        "incident_status": notification.status,
        "incident_duration": notification.duration,
        "incident_message": message,
        "message": message,
        "title": names.line(f"{beginning}: {about}"),
        "event": notification.event,
        "severity": notification.severity,
        "incident_uuid": notification.incident_id,
        "incident_url": f"{public_url}{page}"[:MAX_URL_LENGTH],
        "started_at": notification.started_at,
        "closed_at": notification.closed_at,
        "duration": "" if notification.duration is None else format_duration(notification.duration),
        "delivery_uuid": notification.delivery_id,
        "acknowledged_by": by,
        "acknowledge_url": getattr(notification, "acknowledge_url", None),
        "omit": OMIT,
        DETAILS: notification.details,
    }
    for name, secret in secrets.items():
        found[f"{SECRETS}.{name}"] = secret
    return found


def samples(now: datetime, public_url: str) -> list[Notification]:
    """One notification for each event, as an example of it."""
    return [_sample(event, now, public_url) for event in EVENTS]


def _sample(event: Event, now: datetime, public_url: str) -> Notification:
    is_test = event == "test"
    began = now - timedelta(minutes=12, seconds=5)
    return Notification(
        delivery_id="DLV123",
        event=event,
        incident_id=None if is_test else "INC123",
        resource_type="NetworkMonitor",
        resource_name="Test notification" if is_test else "My Website",
        resource_url=f"{public_url}/integrations" if is_test else "https://example.com",
        incident_type="test" if is_test else "timeout",
        message="This is a test notification from Tocsin. Nothing is wrong." if is_test else
        'Request timeout after 30 seconds\nThe server said "busy"',
        started_at=began,
        closed_at=now if event == "resolved" else None,
        acknowledged_by="Ann" if event == "acknowledged" else None,
    )
