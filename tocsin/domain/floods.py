"""Flood control: when people were told of so many incidents in so short a time that the rest is told in one message.

A span begins with the first incident that is told after the last one was over. What is over the limit waits for its
end. A resource of which nothing was told in the span is held back by others' number alone, not by how often they flap.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tocsin.domain.errors import invalid_field

DEFAULT = '{"incidents": 10, "seconds": 300}'
MAX_INCIDENTS = 1_000
MIN_SECONDS, MAX_SECONDS = 1, 86_400


class Flood(msgspec.Struct, frozen=True, gc=False):
    """At most so many incidents are told one by one in a span of so many seconds."""

    incidents: int
    seconds: int


USUAL = Flood(10, 300)
"""`DEFAULT`."""


class Count(msgspec.Struct, frozen=True, gc=False):
    """What was told in the span that ends then: incidents by resource."""

    ends_at: datetime
    told: Mapping[str, int]


def parse(given: object) -> Flood | None:
    """What a caller gave; None is none. Raises `Refused` (422)."""
    if given is None:
        return None
    if not isinstance(given, dict) or not {"incidents", "seconds"} <= given.keys():
        raise invalid_field("flood", 'must be null, or such as {"incidents": 10, "seconds": 300}')
    return Flood(
        _whole("flood.incidents", given["incidents"], 1, MAX_INCIDENTS),
        _whole("flood.seconds", given["seconds"], MIN_SECONDS, MAX_SECONDS),
    )


def _whole(field: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise invalid_field(field, f"must be a whole number from {least} to {most}")
    return value


def flooded_until(flood: Flood | None, count: Count | None, resource: str, now: datetime) -> datetime | None:
    """When the summary goes out that an incident of this resource belongs into; None where it is told by itself."""
    if flood is None or count is None or count.ends_at <= now:
        return None
    so_far = sum(count.told.values()) if resource in count.told else len(count.told)
    return count.ends_at if so_far >= flood.incidents else None


def counted(flood: Flood, count: Count | None, resource: str, now: datetime) -> Count:
    """The count once this resource's incident is told, too."""
    if count is None or count.ends_at <= now:
        return Count(now + timedelta(seconds=flood.seconds), {resource: 1})
    return Count(count.ends_at, {**count.told, resource: count.told.get(resource, 0) + 1})
