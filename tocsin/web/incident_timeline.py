"""What happened with an incident, in order: opened, told, acknowledged, snoozed, resolved; and what still waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain.deliveries import ONGOING_EVENTS
from tocsin.domain.incidents import Incident
from tocsin.integrations import base
from tocsin.storage.delivery.acknowledgements import RAN_OUT, Entry
from tocsin.storage.delivery.deliveries import Delivery
from tocsin.web.render import lasting

COLOURS = {"delivered": "ok", "dead": "bad", "suppressed": ""}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; `at` is None for what waits.

    `until` is shown after the title, `detail` below it, with times as reasons have them; `colour` is a CSS class.
    """

    at: datetime | None
    title: str
    colour: str = ""
    href: str = ""
    detail: str = ""
    until: datetime | None = None


def steps(
    incident: Incident,
    found: Sequence[Delivery],
    acknowledged: Sequence[Entry],
    names: Mapping[UUID, str],
    silence: str | None,
) -> list[Step]:
    """Oldest first; what has not happened yet comes last, by its turn. `silence` is the name of `silenced_by`."""
    happened = [_opened(incident, silence), *map(_acknowledged, acknowledged)]
    happened += [_told(each, names) for each in found if each.finished_at]
    if incident.snoozed_at and incident.snooze_until:
        happened.append(Step(incident.snoozed_at, "Snoozed", until=incident.snooze_until))
    happened.sort(key=lambda step: step.at or incident.created_at)
    if incident.closed_at:
        by = f", by: {incident.resolved_by}" if incident.resolved_by else ""
        end = Step(incident.closed_at, f"Resolved{by}", "ok")
        place = next((n for n, step in enumerate(happened) if step.at and step.at > incident.closed_at), len(happened))
        happened.insert(place, end)
    waiting = sorted((each for each in found if not each.finished_at), key=lambda each: each.due_at or each.created_at)
    return happened + [_told(each, names) for each in waiting]


def latency(delivery: Delivery) -> float | None:
    """Seconds from its creation to its delivery, if it was delivered."""
    if delivery.status != "delivered" or delivery.finished_at is None:
        return None
    return float((delivery.finished_at - delivery.created_at).total_seconds())


def _opened(incident: Incident, silence: str | None) -> Step:
    if incident.silenced_by is None:
        return Step(incident.created_at, "Opened", "bad")
    href = f"/silences/{ids.public(ids.SILENCE, incident.silenced_by)}" if silence else ""
    title = f"Opened, during the silence {silence}" if silence else "Opened, during a silence that was deleted"
    return Step(incident.created_at, title, "bad", href)


def _acknowledged(entry: Entry) -> Step:
    if not entry.taken_back:
        return Step(entry.at, f"{entry.by} has it", "ok", until=entry.until)
    if entry.by == RAN_OUT:
        return Step(entry.at, "Nobody has it any more: the time is over", "warn")
    return Step(entry.at, f"Nobody has it any more, says {entry.by}", "warn")


def _told(delivery: Delivery, names: Mapping[UUID, str]) -> Step:
    """What became of a delivery, or what it waits for."""
    took = latency(delivery)
    words = f"{_event(delivery)}: {delivery.status}" + (f" after {lasting(took)}" if took is not None else "")
    if delivery.reason:
        words += f": {delivery.reason}"
    elif delivery.due_at and delivery.attempt:
        words += f", next attempt at {delivery.due_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if delivery.on_behalf_of is not None:
        words = f"on duty for {names.get(delivery.on_behalf_of, 'a deleted schedule')}: {words}"
    title = names.get(delivery.integration_id, delivery.integration_type)
    colour = COLOURS.get(delivery.status, "warn")
    href = f"/deliveries/{ids.public(ids.DELIVERY, delivery.id)}"
    return Step(delivery.finished_at, title, colour, href, words)


def _event(delivery: Delivery) -> str:
    """What the delivery was about, in a word."""
    if delivery.event in ONGOING_EVENTS and not base.of(delivery.integration_type).repeatable:
        return "restart"
    return delivery.event
