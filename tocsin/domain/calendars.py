"""Calendar feeds (RFC 5545): who is on duty when, for calendar programs that subscribe to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

MAX_EVENTS = 400
REFRESH = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Event:
    """From a time up to another. `uid` stays the same as long as it is the same event."""

    uid: str
    title: str
    starts_at: datetime
    ends_at: datetime
    url: str
    details: str = ""


def written(name: str, events: Iterable[Event], now: datetime) -> bytes:
    """A calendar of that name, with the first `MAX_EVENTS` events; times are in UTC, so that it needs no zones."""
    from icalendar import Calendar, vDuration  # heavy, and not needed until somebody subscribes
    from icalendar import Event as Component

    calendar = Calendar()
    calendar.add("prodid", "-//Tocsin//On-call//EN")
    calendar.add("version", "2.0")
    calendar.add("name", name)  # RFC 7986
    calendar.add("x-wr-calname", name)
    calendar["refresh-interval"] = vDuration(REFRESH, params={"VALUE": "DURATION"})
    for each in islice(events, MAX_EVENTS):
        component = Component()
        component.add("uid", each.uid)
        component.add("dtstamp", now)
        component.add("dtstart", each.starts_at)
        component.add("dtend", each.ends_at)
        component.add("summary", each.title)
        component.add("url", each.url)
        component.add("transp", "TRANSPARENT")
        if each.details:
            component.add("description", each.details)
        calendar.add_component(component)
    return bytes(calendar.to_ical())
