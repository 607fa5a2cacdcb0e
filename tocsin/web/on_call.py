"""What pages show of on-call schedules: who is on duty now, the next two weeks, gaps, who takes over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from tocsin.domain import ids, notifying, on_call
from tocsin.domain.on_call import TYPE, DutySpan, Schedule
from tocsin.integrations import base
from tocsin.storage.channels import integrations
from tocsin.storage.channels.integrations import Integration
from tocsin.storage.notifying import feed_addresses, on_call_gaps
from tocsin.storage.notifying import on_call as stored
from tocsin.storage.postgres.database import Tx
from tocsin.web.session import Service, Viewer

MOST = 500
"""Integrations that are offered to take turns."""
COLOURS = 6
GONE = "a deleted integration"


@dataclass(frozen=True, slots=True)
class Row:
    """A span in words, by the clock of the schedule's zone. `x` and `width` are per mille of the two weeks."""

    name: str
    starts: str
    ends: str
    override: bool
    now: bool
    x: int
    width: int
    colour: int


@dataclass(frozen=True, slots=True)
class OverrideRow:
    id: str
    name: str
    starts: str
    ends: str


@dataclass(frozen=True, slots=True)
class Duty:
    """Of one schedule; `until` is when who is on duty may change."""

    on_duty: str | None
    until: str | None
    timezone: str
    rows: Sequence[Row]
    warning: str | None
    overrides: Sequence[OverrideRow]
    feed_url: str
    default_from: str
    default_until: str


async def duty_of(tx: Tx, service: Service, viewer: Viewer, found: Integration) -> Duty:
    """What the page of an on-call integration shows."""
    now = datetime.now(UTC)
    schedule = (await stored.schedule(tx, [found.id]))[found.id]
    zone = ZoneInfo(schedule.timezone)
    spans = on_call.spans(schedule, now, now + on_call.AHEAD)
    gaps = await on_call_gaps.ahead(tx, schedule, now)
    overrides = [each for each in await stored.overrides(tx, viewer.project_id, found.id) if each.ends_at > now]
    names = await _names(tx, service, viewer, notifying.members(schedule))
    feed = await stored.feed(tx, found.id)
    assert feed is not None
    duty, changes = on_call.on_duty(schedule, now), on_call.next_handover(schedule, now)
    hour = now.astimezone(zone).replace(minute=0, second=0, microsecond=0, tzinfo=None) + timedelta(hours=1)
    return Duty(
        on_duty=names.get(duty, GONE) if duty else None,
        until=moment(changes, zone) if changes else None,
        timezone=schedule.timezone,
        rows=[_row(each, schedule, names, now, zone) for each in spans],
        warning=on_call_gaps.words(schedule, gaps, names) if gaps else None,
        overrides=[
            OverrideRow(
                ids.public(ids.OVERRIDE, each.id), names.get(each.integration_id, GONE), moment(each.starts_at, zone),
                moment(each.ends_at, zone),
            )
            for each in overrides
        ],
        feed_url=feed_addresses.address(service.vault, service.public_url, found.id, feed.number),
        default_from=hour.isoformat(timespec="minutes"),
        default_until=(hour + timedelta(days=1)).isoformat(timespec="minutes"),
    )  # fmt: skip


async def on_duty_now(
    tx: Tx, service: Service, viewer: Viewer, shown: Sequence[Integration]
) -> dict[UUID, str]:
    """Who is on duty at this moment, for those of these that are on-call integrations."""
    now = datetime.now(UTC)
    schedules = await stored.schedule(tx, [each.id for each in shown if each.type == TYPE])
    duties = {id_: on_call.on_duty(each, now) for id_, each in schedules.items()}
    names = await _names(tx, service, viewer, {each for each in duties.values() if each})
    return {id_: names.get(each, GONE) if each else "nobody" for id_, each in duties.items()}


async def to_choose_from(tx: Tx, service: Service, viewer: Viewer) -> list[tuple[str, str]]:
    """The integrations of the project that may take turns: identifiers and names."""
    found = [
        each for each in await integrations.list_(tx, service.vault, viewer.project_id)
        if each.type != TYPE and base.of(each.type).repeatable
    ]  # fmt: skip
    return [(ids.public(ids.INTEGRATION, each.id), base.display_name(each)) for each in found[:MOST]]


def moment(at: datetime, zone: ZoneInfo) -> str:
    """`Mon 30 Nov, 09:00`"""
    return f"{at.astimezone(zone):%a %d %b, %H:%M}"


async def _names(tx: Tx, service: Service, viewer: Viewer, keys: Collection[UUID]) -> dict[UUID, str]:
    found = await integrations.these(tx, service.vault, viewer.project_id, keys)
    return {each.id: base.display_name(each) for each in found}


def _row(each: DutySpan, schedule: Schedule, names: Mapping[UUID, str], now: datetime, zone: ZoneInfo) -> Row:
    x, end = (round((at - now) / on_call.AHEAD * 1000) for at in (each.starts_at, each.ends_at))
    members = [*dict.fromkeys((*schedule.integrations, *(other.integration for other in schedule.overrides)))]
    return Row(
        names.get(each.integration, GONE), moment(each.starts_at, zone), moment(each.ends_at, zone), each.override,
        each.starts_at <= now, x, max(end - x, 1), members.index(each.integration) % COLOURS,
    )  # fmt: skip
