"""Silences: creating, reading, changing, ending and deleting them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.params import QueryParameter

from tocsin.actions import silences as actions
from tocsin.actions.base import Actor
from tocsin.actions.silences import MAX_NAMED, RecurrenceFields, SilenceFields
from tocsin.api.schemas import Listed, Page, seconds
from tocsin.api.service import Service
from tocsin.domain import ids, silences
from tocsin.domain.resources.base import Resource
from tocsin.storage.notifying import scope
from tocsin.storage.notifying import silences as stored
from tocsin.storage.notifying.silences import Stored
from tocsin.storage.postgres.database import Tx, transaction

LIMIT = 72 * 1024
"""Bytes of a body: its two lists may name a thousand each."""


class SilenceGiven(msgspec.Struct):
    silence: SilenceFields


class SpanShown(msgspec.Struct):
    starts_at: str
    ends_at: str


class SilenceShown(msgspec.Struct):
    """A silence, with its next five spans; the one that lasts is the first of them."""

    uuid: str
    name: str
    state: Literal["planned", "active", "ended"]
    starts_at: str
    ends_at: str | None
    recurrence: RecurrenceFields | None
    resources: list[str] | None
    integrations: list[str] | None
    incident_types: list[str] | None
    severity: str | None
    public: bool
    next: list[SpanShown]
    created_at: str
    updated_at: str


@get("/api/v1/silences", summary="List silences")
async def list_(
    caller: Actor,
    service: Service,
    asked: Page,
    only: Annotated[
        Literal["planned", "active", "ended"] | None, QueryParameter(name="state", description="Only these.")
    ] = None,
) -> Listed[SilenceShown]:
    """The project's silences, newest first, paginated."""
    async with service.pool.acquire() as tx:
        found, total = await stored.list_(
            tx, caller.project_id, state=only, limit=asked.per_page, offset=asked.offset
        )
        shown = await _all_shown(tx, caller, found)
    return Listed(shown, asked.meta(total))


@post("/api/v1/silences", summary="Create a silence", status_code=201, request_max_body_size=LIMIT)
async def create(data: SilenceGiven, caller: Actor, service: Service) -> SilenceShown:
    """While one of its spans lasts, incidents are recorded, and nobody in its scope is notified of them.

    When it ends and an incident lasts, those who are attached are notified then. One that began before is notified of
    its end. Null stands for all; a silence that names integrations only is their quiet hours. `severity` is the worst
    that it silences.

    Recurring spans begin by a rule of RFC 5545 in wall-clock times of the zone: 03:00 stays 03:00 over a change of
    clocks. A time that does not exist is read with the offset before the gap (02:30 becomes 03:30 of the new time), one
    that exists twice is the first. `starts_at` is the first time that counts, and a span only if the rule says so;
    `ends_at`, if given, ends the recurrence. SECONDLY and MINUTELY, more than 1,000 spans a year, and spans that would
    overlap are refused.
    """
    async with transaction(service.pool) as tx:
        made = await actions.create(tx, caller, data.silence)
        return await _shown(tx, caller, made)


@get("/api/v1/silences/{uuid:str}", summary="Get a silence")
async def one(uuid: str, caller: Actor, service: Service) -> SilenceShown:
    """One silence, with its state and its next five spans."""
    async with service.pool.acquire() as tx:
        return await _shown(tx, caller, await actions.existing(tx, caller, ids.key_of(ids.SILENCE, uuid)))


@patch("/api/v1/silences/{uuid:str}", summary="Change a silence", request_max_body_size=LIMIT)
async def change(uuid: str, data: SilenceGiven, caller: Actor, service: Service) -> SilenceShown:
    """Changes what is given. What waits because of it is decided anew."""
    key = ids.key_of(ids.SILENCE, uuid)
    async with transaction(service.pool) as tx:
        return await _shown(tx, caller, await actions.change(tx, caller, key, data.silence))


@post("/api/v1/silences/{uuid:str}/end", summary="End a silence", status_code=200)
async def end(uuid: str, caller: Actor, service: Service) -> SilenceShown:
    """Ends it now, for good; one that has ended is returned as it is. Who was not notified because of it is notified of
    what lasts.
    """
    key = ids.key_of(ids.SILENCE, uuid)
    async with transaction(service.pool) as tx:
        return await _shown(tx, caller, await actions.end(tx, caller, key))


@delete("/api/v1/silences/{uuid:str}", summary="Delete a silence")
async def remove(uuid: str, caller: Actor, service: Service) -> None:
    """Deletes a silence, as if it had been ended."""
    async with transaction(service.pool) as tx:
        await actions.delete(tx, caller, ids.key_of(ids.SILENCE, uuid))


async def _all_shown(tx: Tx, caller: Actor, found: Sequence[Stored]) -> list[SilenceShown]:
    answers = []
    for each in found:
        await asyncio.sleep(0)  # a rule can take some milliseconds
        answers.append(await _shown(tx, caller, each))
    return answers


async def _shown(tx: Tx, caller: Actor, found: Stored) -> SilenceShown:
    silence = found.silence
    named = await scope.named(tx, caller.project_id, silence.resources or (), MAX_NAMED)
    return _as_shown(found, {key: kind for key, (kind, _) in named.items()})


def _as_shown(found: Stored, kinds: Mapping[UUID, Resource]) -> SilenceShown:
    silence, rule = found.silence, found.silence.rule
    recurrence = rule.recurrence
    return SilenceShown(
        uuid=ids.public(ids.SILENCE, found.id),
        name=silence.name,
        state=found.state,
        starts_at=seconds(rule.starts_at),
        ends_at=seconds(rule.ends_at),
        recurrence=RecurrenceFields(recurrence.rrule, recurrence.duration, recurrence.timezone) if recurrence else None,
        resources=None if silence.resources is None else [
            kinds[key].public(key) for key in silence.resources if key in kinds
        ],
        integrations=None if silence.integrations is None else [
            ids.public(ids.INTEGRATION, key) for key in silence.integrations
        ],
        incident_types=None if silence.incident_types is None else [*silence.incident_types],
        severity=silence.severity,
        public=silence.public,
        next=[
            SpanShown(seconds(span.starts_at), seconds(span.ends_at))
            for span in silences.next_spans(rule, datetime.now(UTC))
        ],
        created_at=seconds(found.created_at),
        updated_at=seconds(found.updated_at),
    )  # fmt: skip


routes = [list_, create, one, change, end, remove]
