"""Restarts of machines: the intent, the point of no return, the limits across all integrations that name one target,
and whether the machine came back.

A target is a host and a port. If two names turn out to be one address, they are one target from then on. A row is
written before the connection is opened and outlives its integration, so that deleting one removes no limit.

Before a login only the project's own restarts count: whoever merely names a machine blocks nobody and learns nothing.
Restarts of other projects count once the login has worked, without revealing whose they were, or when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.delivery.queue import LASTING, Job
from tocsin.storage.notifying import silences
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

TOO_LATE = timedelta(minutes=30)
"""How long after an incident opened (or a person ordered it) a restart may still start."""

WATCH = timedelta(minutes=10)
"""How long a machine is watched for its return."""

KEEP = "2 days"

HOLD = "SELECT pg_advisory_xact_lock(hashtextextended('restart ' || $1, 0))"

INTEND = """
INSERT INTO restarts (delivery_id, project_id, integration_id, incident_id, target, begun_at)
VALUES ($1, $2, $3, $4, $5, now())
ON CONFLICT (delivery_id) DO UPDATE
SET target = excluded.target, reached = NULL, boot_id = NULL, begun_at = now(), sent_at = NULL, look_at = NULL
"""

# An attempt is running exactly as long as its delivery is leased; afterwards it blocks nobody. Another
# project's counts only past the point of no return, which comes after its login.
UNDER_WAY = f"""
SELECT EXISTS (SELECT FROM restarts r JOIN outstanding o ON o.id = r.delivery_id AND o.status = 'sending'
               WHERE (r.target = ANY($2::text[]) OR r.reached = ANY($2)) AND r.delivery_id <> $1
                 AND o.event IN {LASTING} AND o.leased_until > now()
                 AND (r.project_id = $3 OR $4 AND r.sent_at IS NOT NULL))
"""

SENT = """
SELECT sent_at, project_id = $4 AS own FROM restarts
WHERE (target = ANY($2::text[]) OR reached = ANY($2)) AND delivery_id <> $1
  AND sent_at > now() - make_interval(secs => greatest($3::float8, 86400))
ORDER BY sent_at DESC
"""

SITUATION = """
SELECT i.closed_at, i.snoozed_at, i.snooze_until,
       i.created_at + make_interval(secs => coalesce(a.after, 0)) AS created_at, i.type, i.severity, i.resource_id,
       now() AS now,
       o.redelivery_of IS NOT NULL AS ordered, o.created_at AS ordered_at,
       EXISTS (SELECT FROM restarts r WHERE r.incident_id = o.incident_id AND r.integration_id = o.integration_id
                 AND r.delivery_id <> o.id AND r.sent_at IS NOT NULL) AS had_one
FROM outstanding o JOIN incidents i ON i.id = o.incident_id
LEFT JOIN attachments a ON a.resource_id = i.resource_id AND a.integration_id = o.integration_id
WHERE o.id = $1
"""

MARK_SENT = "UPDATE restarts SET sent_at = now(), reached = $2, boot_id = $3 WHERE delivery_id = $1 RETURNING true"

WITHDRAW = "UPDATE restarts SET sent_at = NULL WHERE delivery_id = $1"

TARGET = """
SELECT coalesce((SELECT target FROM restarts WHERE delivery_id = $1),
                (SELECT settings->>'ip' || ':' || (settings->>'port') FROM integrations WHERE id = $2))
"""

WATCH_IT = """
UPDATE restarts SET look_at = now() WHERE delivery_id = $1 AND sent_at IS NOT NULL
RETURNING delivery_id, project_id, integration_id, incident_id, target, boot_id, sent_at, silent_at
"""

TAKE = """
UPDATE restarts SET look_at = now() + make_interval(secs => $2)
WHERE delivery_id IN (SELECT delivery_id FROM restarts WHERE look_at <= now()
                      ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING delivery_id, project_id, integration_id, incident_id, target, boot_id, sent_at, silent_at
"""

SILENT = "UPDATE restarts SET silent_at = coalesce(silent_at, now()) WHERE delivery_id = $1"

CLOSE = "UPDATE restarts SET look_at = NULL WHERE delivery_id = $1 AND look_at IS NOT NULL RETURNING true"

REMARK = """
UPDATE finished SET reason = CASE WHEN reason IS NULL THEN $2 ELSE reason || '; ' || $2 END WHERE id = $1
"""

# Reports of the incident's own server after it was seen unreachable.
REPORTED = f"""
SELECT EXISTS (SELECT FROM incidents i JOIN server_states s ON s.server_id = i.resource_id
               WHERE i.id = $1 AND i.resource_type = '{SERVER.type}' AND s.seen_at > $2)
"""

PIN = """
UPDATE integrations
SET settings = (settings - 'offered_host_key') || jsonb_build_object('host_key', $2::text), version = version + 1
WHERE id = $1 AND NOT settings ? 'host_key' AND settings->>'ip' = $3 AND (settings->>'port')::int = $4
"""

OFFERED = """
UPDATE integrations SET settings = settings || jsonb_build_object('offered_host_key', $2::text), version = version + 1
WHERE id = $1 AND settings ? 'host_key' AND settings->>'offered_host_key' IS DISTINCT FROM $2
"""

USE_UP = """
INSERT INTO restarts (delivery_id, project_id, integration_id, incident_id, target, begun_at, sent_at)
SELECT new_id(), o.project_id, i.id, o.incident_id, '', now(), now()
FROM ongoing o JOIN integrations i ON i.project_id = o.project_id AND NOT i.repeatable
"""

FORGET = f"DELETE FROM restarts WHERE begun_at < now() - interval '{KEEP}' AND look_at IS NULL"


@dataclass(frozen=True, slots=True)
class Limits:
    """Minimum seconds between two restarts of one target, and maximum restarts in 24 hours."""

    cooldown: float = 900.0
    daily: int = 3


RESTART_LIMITS = Limits()
"""The defaults."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The state of a delivery's incident. `ordered`: a person sent it again; `had_one`: it had a restart before.

    `created_at` is when it became this integration's matter: `after` its beginning, as its attachment says.
    """

    closed_at: datetime | None
    snoozed_at: datetime | None
    snooze_until: datetime | None
    created_at: datetime
    type: str
    severity: str
    resource_id: UUID
    now: datetime
    ordered: bool
    ordered_at: datetime
    had_one: bool

    def objection(self) -> str | None:
        """Why nothing may be restarted for it (any more), or None."""
        if self.closed_at is not None:
            return "the incident was resolved before the restart began; nothing was restarted"
        if self.snooze_until and self.snooze_until > self.now and not self._snoozed_before_the_order:
            return "the incident is snoozed; nothing was restarted"
        if self.now - (self.ordered_at if self.ordered else self.created_at) > TOO_LATE:
            return "the incident began more than 30 minutes ago; a restart that late needs a person who orders it"
        if self.had_one and not self.ordered:
            return "this incident has had its restart; another one needs a person who orders it"
        return None

    @property
    def _snoozed_before_the_order(self) -> bool:
        return self.ordered and self.snoozed_at is not None and self.snoozed_at < self.ordered_at


@dataclass(frozen=True, slots=True)
class WatchedReboot:
    """A restart whose machine has not been seen again yet."""

    delivery_id: UUID
    project_id: UUID
    integration_id: UUID
    incident_id: UUID | None
    target: str
    boot_id: str | None
    sent_at: datetime
    silent_at: datetime | None


async def hold(tx: Tx, targets: Sequence[str]) -> None:
    """Lock the decision about a restart of these until the transaction ends."""
    for each in sorted(set(targets)):
        await tx.execute(HOLD, each)


async def use_up(tx: Tx) -> None:
    """Each incident that lasts may have had its restart, and gets no other unless a person orders it."""
    await tx.execute(USE_UP)


async def situation(tx: Tx, delivery_id: UUID) -> Situation | None:
    """The state of the incident of an outstanding delivery; None if either no longer exists."""
    row = await tx.fetchrow(SITUATION, delivery_id)
    return row and Situation(**row)


async def silence(tx: Tx, job: Job, situation: Situation) -> str | None:
    """The silence that forbids a restart now, unless a person ordered it; or None."""
    if situation.ordered:
        return None
    spans = await silences.spans_over(
        tx, job.project_id, situation.resource_id, situation.now, situation.now + timedelta(seconds=1),
        [job.integration_id],
    )  # fmt: skip
    for span in spans:
        if span.silences(job.integration_id, situation.type, situation.severity):
            return f'silence "{span.name}" until {span.ends_at:%Y-%m-%dT%H:%M:%SZ}; nothing was restarted'
    return None


async def under_way(tx: Tx, job: Job, targets: Sequence[str], *, logged_in: bool) -> bool:
    """Whether another delivery's restart of one of these targets is under way. Call `hold` first."""
    return bool(await tx.fetchval(UNDER_WAY, job.id, list(targets), job.project_id, logged_in))


async def limit_reached(tx: Tx, job: Job, targets: Sequence[str], limits: Limits, *, logged_in: bool) -> str | None:
    """The cooldown or the daily limit that forbids another restart now; or None. Call `hold` first.

    With the time it ends if the project's own restarts reach it; restarts of others are described in general terms.
    """
    rows = await tx.fetch(SENT, job.id, list(targets), limits.cooldown, job.project_id)
    now = await tx.fetchval("SELECT now()")
    if own := _barred([row["sent_at"] for row in rows if row["own"]], now, targets[0], limits):
        return own
    if logged_in and _barred([row["sent_at"] for row in rows], now, targets[0], limits):
        return not_for_now(targets[0])
    return None


def not_for_now(target: str) -> str:
    """The message if another project's restart blocks this one."""
    return f"{target} was restarted as often as is allowed for now; nothing was restarted, try again later"


def _barred(sent: Sequence[datetime], now: datetime, target: str, limits: Limits) -> str | None:
    if sent and sent[0] + timedelta(seconds=limits.cooldown) > now:
        again = sent[0] + timedelta(seconds=limits.cooldown)
        return f"cooldown: {target} was restarted at {_moment(sent[0])}; not again before {_moment(again)}"
    day = [each for each in sent if each > now - timedelta(days=1)]
    if len(day) >= limits.daily:
        times = "once" if limits.daily == 1 else f"{limits.daily} times"
        again = day[limits.daily - 1] + timedelta(days=1) if limits.daily else now + timedelta(days=1)
        return (
            f"daily limit: {target} was restarted {times} within 24 hours, the most that is allowed; "
            f"not again before {_moment(again)}"
        )
    return None


async def intend(tx: Tx, job: Job, target: str) -> None:
    """Record the intent, before anything is connected."""
    await tx.execute(INTEND, job.id, job.project_id, job.integration_id, job.content.incident_id, target)


async def mark_sent(tx: Tx, delivery_id: UUID, reached: str, boot_id: str | None) -> bool:
    """Record that from now on the command may have been sent. False if there is no intent on record."""
    return await tx.fetchval(MARK_SENT, delivery_id, reached, boot_id) is not None


async def withdraw(tx: Tx, delivery_id: UUID) -> None:
    """Record that the command was not sent after all."""
    await tx.execute(WITHDRAW, delivery_id)


async def target_of(tx: Tx, delivery_id: UUID, integration_id: UUID) -> str:
    """The machine that a delivery is about, as far as it is on record."""
    return await tx.fetchval(TARGET, delivery_id, integration_id) or "a machine"


async def watch(tx: Tx, delivery_id: UUID) -> WatchedReboot | None:
    """Watch for the machine's return. None if nothing was sent."""
    row = await tx.fetchrow(WATCH_IT, delivery_id)
    return row and _watched(row)


async def take_watched(tx: Tx, limit: int, pause: float) -> list[WatchedReboot]:
    """Those that are due for a probe; no other engine gets them for `pause` seconds."""
    return [_watched(row) for row in await tx.fetch(TAKE, limit, pause)]


async def mark_unreachable(tx: Tx, delivery_id: UUID) -> None:
    """Record that the machine does not answer."""
    await tx.execute(SILENT, delivery_id)


async def end_watch(tx: Tx, delivery_id: UUID, remark: str) -> bool:
    """Stop watching, and record `remark` with the delivery; False if another engine has ended it."""
    if await tx.fetchval(CLOSE, delivery_id) is None:
        return False
    await tx.execute(REMARK, delivery_id, remark)
    return True


async def reported_since(tx: Tx, incident_id: UUID, moment: datetime) -> bool:
    """Whether the agent of the incident's server has reported after that time."""
    return bool(await tx.fetchval(REPORTED, incident_id, moment))


async def pin(tx: Tx, integration_id: UUID, host_key: str, ip: str, port: int) -> None:
    """Pin the host key of first use, if none is pinned and the integration still names that target."""
    await tx.execute(PIN, integration_id, host_key, ip, port)


async def note_offered(tx: Tx, integration_id: UUID, host_key: str) -> None:
    """Store the different host key that was offered, for a person to judge."""
    await tx.execute(OFFERED, integration_id, host_key)


async def forget_old(tx: Tx) -> None:
    """Delete what no limit needs any more."""
    await tx.execute(FORGET)


def _watched(row: Record) -> WatchedReboot:
    keys = {"delivery_id", "project_id", "integration_id", "incident_id"}
    values: dict[str, Any] = {name: key(value) if value and name in keys else value for name, value in row.items()}
    return WatchedReboot(**values)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
