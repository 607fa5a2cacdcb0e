"""Alerts of sources: each with its incident while it is firing, and one query for those that nobody mentions any more.

What one body says, and what others say at the same time, is one transaction. Locks are taken in one order: sources,
alerts by source and key, what is ongoing, deliveries; new incidents come last, also in the order of their keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from tocsin.domain import alerts as domain
from tocsin.domain import requests
from tocsin.domain.alerts import Alert, Known, Step
from tocsin.domain.incidents import AT_ONCE, Opened, OpenRequest, ResolveRequest
from tocsin.domain.resources.source import RESOURCE as SOURCE
from tocsin.storage.delivery import behind, incidents, openings, severities
from tocsin.storage.delivery.incidents import IncidentKey
from tocsin.storage.monitoring.downtime import API_ALIVE_SINCE, BREAK
from tocsin.storage.postgres.database import Tx, columns, key

LISTENING = timedelta(minutes=4)
"""How long we must have been listening before silence means anything: as long as Prometheus lets an alert last."""
SEEN_EVERY = 5
"""Seconds after which it is noted again that a source has sent something."""
SAID_SO = "Its source said that it is over"
NO_LONGER = "It was no longer reported"

# Whoever is about to be noted is never waited for: nothing is locked before, so there is no order to keep.
HOLD = f"""
WITH seen AS (
    UPDATE sources SET last_body_at = now() WHERE id IN (
        SELECT id FROM sources WHERE id = ANY($1::uuid[])
          AND (last_body_at IS NULL OR last_body_at < now() - interval '{SEEN_EVERY} s')
        FOR NO KEY UPDATE SKIP LOCKED
    )
)
SELECT id, stale_after, now() AS now FROM sources WHERE id = ANY($1::uuid[]) ORDER BY id FOR KEY SHARE
"""

KNOWN = """
SELECT a.source_id, a.dedup_key, a.incident_id, a.type, a.digest, a.starts_at, i.id IS NULL AS gone, i.closed_at
FROM alerts a
LEFT JOIN LATERAL (SELECT id, closed_at FROM incidents WHERE id = a.incident_id LIMIT 1) i ON true
WHERE (a.source_id, a.dedup_key) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
ORDER BY a.source_id, a.dedup_key FOR UPDATE OF a
"""

STORE = """
INSERT INTO alerts AS a (source_id, dedup_key, incident_id, type, digest, starts_at, ends_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bytea[], $6::timestamptz[], $7::timestamptz[])
ORDER BY 1, 2
ON CONFLICT (source_id, dedup_key) DO UPDATE
SET incident_id = excluded.incident_id, digest = excluded.digest, ends_at = excluded.ends_at,
    type = CASE WHEN a.incident_id = excluded.incident_id THEN a.type ELSE excluded.type END,
    starts_at = CASE WHEN a.incident_id = excluded.incident_id THEN least(a.starts_at, excluded.starts_at)
                     ELSE excluded.starts_at END
"""

FORGET = """
DELETE FROM alerts WHERE (source_id, dedup_key) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
"""

HOLD_ONGOING = """
SELECT o.incident_id
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS g(resource_id, type, dedup_key)
JOIN ongoing o ON o.resource_id = g.resource_id AND o.type = g.type AND o.dedup_key = g.dedup_key
ORDER BY o.resource_id, o.type, o.dedup_key FOR UPDATE OF o
"""

# Rows in `ongoing` are locked before incidents, as in a resolve.
RETELL = """
WITH locked AS (
    SELECT o.incident_id, g.message, g.url, g.details
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
        AS g(resource_id, type, dedup_key, message, url, details)
    JOIN ongoing o ON o.resource_id = g.resource_id AND o.type = g.type AND o.dedup_key = g.dedup_key
    ORDER BY o.resource_id, o.type, o.dedup_key FOR UPDATE OF o
)
UPDATE incidents i
SET message = l.message, resource_url = coalesce(l.url, i.resource_url), details = l.details, updated_at = now()
FROM locked l WHERE i.id = l.incident_id
"""

OVER = """
SELECT a.source_id, a.dedup_key, a.type, a.incident_id, s.project_id
FROM (
    SELECT * FROM alerts WHERE ends_at <= now() ORDER BY ends_at LIMIT $1 FOR UPDATE SKIP LOCKED
) a
JOIN sources s ON s.id = a.source_id
"""


# What was resolved here and is not ended by its source is of no use once its incident is history.
FORGET_OLD = """
DELETE FROM alerts a WHERE ends_at IS NULL
  AND NOT EXISTS (SELECT FROM ongoing o
                  WHERE o.resource_id = a.source_id AND o.type = a.type AND o.dedup_key = a.dedup_key)
  AND NOT EXISTS (SELECT FROM incidents WHERE id = a.incident_id)
"""


class Mention(NamedTuple):
    """One alert of a body, and the number of the body."""

    body: int
    source_id: UUID
    project_id: UUID
    alert: Alert
    origin: str | None

    @property
    def key(self) -> tuple[UUID, str]:
        return self.source_id, self.alert.dedup_key


@dataclass(frozen=True, slots=True)
class Taken:
    """The alerts of one body."""

    source_id: UUID
    project_id: UUID
    alerts: Sequence[Alert]
    origin: str | None = field(default_factory=requests.current)


@dataclass(slots=True)
class Became:
    """What became of a body's alerts: how many opened an incident, changed one, were as before, resolved one, or meant
    nothing; and the incidents that are to be acknowledged. `gone`: its source was deleted meanwhile.
    """

    opened: int = 0
    changed: int = 0
    ongoing: int = 0
    resolved: int = 0
    nothing: int = 0
    to_acknowledge: list[UUID] = field(default_factory=list)
    gone: bool = False


class Stored(NamedTuple):
    """An alert that is stored, and its incident."""

    incident_id: UUID
    known: Known


async def take(tx: Tx, bodies: Sequence[Taken], *, public_url: str) -> list[Became]:
    """Take the alerts of bodies, in order: all of them in the caller's transaction."""
    rows = await tx.fetch(HOLD, list({each.source_id for each in bodies}))
    stale = {key(row["id"]): row["stale_after"] for row in rows}
    results = [Became(gone=each.source_id not in stale) for each in bodies]
    left = [
        Mention(number, body.source_id, body.project_id, alert, body.origin)
        for number, body in enumerate(bodies)
        for alert in body.alerts
        if not results[number].gone
    ]
    while left:
        now, left = _round(left, results)
        await _take(tx, now, results, stale, rows[0]["now"], public_url)
    return results


def _round(given: Sequence[Mention], results: list[Became]) -> tuple[dict[tuple[UUID, str], Mention], list[Mention]]:
    """Each alert once, and what is left for a later round: what says something else of an alert than was said before.
    Mentions that only repeat are one.
    """
    now: dict[tuple[UUID, str], Mention] = {}
    later: list[Mention] = []
    put_off: set[tuple[UUID, str]] = set()
    for each in given:
        first = now.get(each.key)
        if first is None:
            now[each.key] = each
        elif each.key in put_off or each.alert.status != first.alert.status:
            put_off.add(each.key)
            later.append(each)
        else:
            results[each.body].ongoing += 1
            now[each.key] = first._replace(alert=domain.merged(first.alert, each.alert))
    return now, later


async def _take(
    tx: Tx, mentions: dict[tuple[UUID, str], Mention], results: list[Became], stale: dict[UUID, int | None],
    now: datetime, public_url: str,
) -> None:  # fmt: skip
    stored = await _known(tx, mentions)
    steps: dict[Step, list[Mention]] = {step: [] for step in Step}
    for place, each in mentions.items():
        found = stored.get(place)
        steps[domain.judge(each.alert, found and found.known)].append(each)
    await _hold(tx, steps, stored)
    for part in _parts(sorted(steps[Step.RESOLVE], key=lambda each: _place(each, stored))):
        await _resolve(tx, part, stored, results)
    incident_of = {place: each.incident_id for place, each in stored.items()}
    changed = steps[Step.CHANGE] + await _open(tx, steps[Step.OPEN], incident_of, results, public_url)
    await _retell(tx, changed, stored)
    firing = steps[Step.OPEN] + steps[Step.CHANGE] + steps[Step.PUSH_ON]
    for part in _parts(firing):
        await tx.execute(STORE, *columns([
            (
                *each.key, incident_of[each.key], each.alert.type, each.alert.digest, each.alert.starts_at or now,
                _ends(each.alert, stale[each.source_id], now),
            )
            for each in part
        ]))  # fmt: skip
        await asyncio.sleep(0)
    for each in steps[Step.CHANGE]:
        results[each.body].changed += 1
    for each in steps[Step.PUSH_ON]:
        results[each.body].ongoing += 1
    for each in steps[Step.NOTHING]:
        results[each.body].nothing += 1
    for each in steps[Step.ACKNOWLEDGE]:
        results[each.body].to_acknowledge.append(incident_of[each.key])


async def _known(tx: Tx, mentions: dict[tuple[UUID, str], Mention]) -> dict[tuple[UUID, str], Stored]:
    rows = await tx.fetch(KNOWN, *map(list, zip(*mentions, strict=True)))
    return {
        (key(row["source_id"]), row["dedup_key"]): Stored(
            key(row["incident_id"]),
            Known(row["type"], row["digest"], row["starts_at"],
                  row["starts_at"] if row["gone"] else row["closed_at"]),
        )
        for row in rows
    }  # fmt: skip


async def _hold(tx: Tx, steps: dict[Step, list[Mention]], stored: dict[tuple[UUID, str], Stored]) -> None:
    """Lock all that several statements are going to change, unless it is only one that does."""
    ended, changed, opened = steps[Step.RESOLVE], steps[Step.CHANGE], steps[Step.OPEN]
    if changed or (ended and opened) or len(ended) > AT_ONCE:
        places = [_place(each, stored) for each in (*ended, *changed)]
        rows = await tx.fetch(HOLD_ONGOING, *map(list, zip(*places, strict=True)))
        await behind.lock_deliveries(tx, [key(row["incident_id"]) for row in rows], behind.NO_OTHERS)


def _place(each: Mention, stored: dict[tuple[UUID, str], Stored]) -> IncidentKey:
    """Where its incident is, or will be, in the order in which they are locked."""
    kind = stored[each.key].known.type if each.key in stored else each.alert.type
    return IncidentKey(each.source_id, kind, each.alert.dedup_key)


async def _resolve(
    tx: Tx, mentions: Sequence[Mention], stored: dict[tuple[UUID, str], Stored], results: list[Became]
) -> None:
    ended = await incidents.resolve(tx, [
        ResolveRequest(
            each.project_id, each.source_id, stored[each.key].known.type, SAID_SO, stored[each.key].incident_id,
            each.alert.dedup_key, each.origin,
        )
        for each in mentions
    ])  # fmt: skip
    for each, found in zip(mentions, ended, strict=True):
        if found:
            results[each.body].resolved += 1
        else:
            results[each.body].nothing += 1
    await tx.execute(FORGET, *map(list, zip(*[each.key for each in mentions], strict=True)))


async def _open(
    tx: Tx, mentions: Sequence[Mention], incident_of: dict[tuple[UUID, str], UUID], results: list[Became],
    public_url: str,
) -> list[Mention]:  # fmt: skip
    """Open their incidents, and put their keys into `incident_of`. Returns those that were ongoing all the same."""
    were: list[Mention] = []
    for part in _parts(sorted(mentions, key=lambda each: (each.source_id, each.alert.type, each.alert.dedup_key))):
        [answers] = await openings.open_batches(
            tx, [[_request(each) for each in part]], public_url=public_url, raising=False
        )
        for each, answer in zip(part, answers, strict=True):
            assert isinstance(answer, Opened)  # its source is locked
            incident_of[each.key] = answer.incident.id
            if answer.new:
                results[each.body].opened += 1
            else:
                results[each.body].ongoing += 1
                were.append(each)
    return were


def _request(each: Mention) -> OpenRequest:
    alert = each.alert
    return OpenRequest(
        each.project_id, SOURCE.type, each.source_id, alert.type, alert.message, severity=alert.severity,
        dedup_key=alert.dedup_key, url=alert.url, details=alert.details, origin=each.origin,
    )  # fmt: skip


async def _retell(tx: Tx, mentions: Sequence[Mention], stored: dict[tuple[UUID, str], Stored]) -> None:
    """What is told of an alert has changed: its incident says so, and is raised where it is worse."""
    if not mentions:
        return
    places = {_place(each, stored): each.alert for each in mentions}
    found = await incidents.ongoing(tx, places)
    await severities.raise_(tx, found, {place: alert.severity for place, alert in places.items()})
    await tx.execute(RETELL, *columns([
        (*place, alert.message, alert.url, alert.details) for place, alert in places.items()
    ]))  # fmt: skip


def _ends(alert: Alert, stale_after: int | None, now: datetime) -> datetime | None:
    if alert.ends_at is not None or stale_after is None:
        return alert.ends_at
    return now + timedelta(seconds=stale_after)


def _parts(mentions: Sequence[Mention]) -> Iterator[list[Mention]]:
    rest = iter(mentions)
    while part := list(islice(rest, AT_ONCE)):
        yield part


async def end_over(tx: Tx, limit: int, *, back_for: float | None = None) -> int:
    """Resolve up to `limit` incidents of alerts that should have been mentioned again by now. Returns how many.

    None before somebody has listened for `LISTENING`, and this machine could be reached for as long (`back_for`
    seconds): until then a source may just not have come through.
    """
    since = await tx.fetchval(API_ALIVE_SINCE, BREAK, back_for)
    if since is None or await tx.fetchval("SELECT now() - $1::timestamptz < $2", since, LISTENING):
        return 0
    rows = sorted(await tx.fetch(OVER, limit), key=lambda row: (key(row["source_id"]), row["dedup_key"]))
    if rows:
        await incidents.resolve(tx, [
            ResolveRequest(
                key(row["project_id"]), key(row["source_id"]), row["type"], NO_LONGER, key(row["incident_id"]),
                row["dedup_key"],
            )
            for row in rows
        ])  # fmt: skip
        await tx.execute(FORGET, [row["source_id"] for row in rows], [row["dedup_key"] for row in rows])
    return len(rows)


async def forget_old(tx: Tx) -> None:
    """Forget alerts whose incidents are no longer on record."""
    await tx.execute(FORGET_OLD)
