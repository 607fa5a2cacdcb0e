"""SMS limits: bursts to one number are summarized in one message, and each day has a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from tocsin.domain import ids
from tocsin.domain import phones as numbers
from tocsin.domain.deliveries import Suppressed
from tocsin.storage.channels import phones
from tocsin.storage.delivery import health, queue
from tocsin.storage.delivery.queue import Content, Job, QueueEntry
from tocsin.storage.postgres.database import Tx, key

BURST = 10
BURST_MINUTES = 5
"""With more incidents in so many minutes to one number, one message summarizes the rest."""
GROUP_WAIT = 60
"""How many seconds a summary waits for more incidents."""
DAY_PER_NUMBER = 50
DAY_PER_PROJECT = 200
"""Maximum messages in 24 hours."""
NAMED = 20
"""Maximum incidents that a summary names; more would not fit anyway."""

KNOWN = "SELECT sent, summary_id FROM sms WHERE delivery_id = $1"

DAY = """
SELECT (SELECT count(*) FROM sms WHERE number = $1 AND sent AND at > now() - interval '1 day') AS to_number,
       (SELECT count(*) FROM sms WHERE project_id = $2 AND sent AND at > now() - interval '1 day') AS of_project
"""

# Incidents that this number was notified of lately, in whatever way, and whether this one had its own message.
RECENT = f"""
SELECT count(DISTINCT incident_id) FILTER (WHERE incident_id <> $2) AS others,
       coalesce(bool_or(incident_id = $2 AND sent), false) AS already_sent
FROM sms WHERE number = $1 AND incident_id IS NOT NULL AND at > now() - interval '{BURST_MINUTES} min'
"""

NOTE = """
WITH old AS (
    DELETE FROM sms WHERE delivery_id IN (
        SELECT delivery_id FROM sms WHERE at < now() - interval '2 days' LIMIT 100 FOR UPDATE SKIP LOCKED)
)
INSERT INTO sms (delivery_id, project_id, number, incident_id, at, sent, summary_id)
VALUES ($1, $2, $3, $4, now(), $5, $6) ON CONFLICT (delivery_id) DO NOTHING
"""

UNSENT = "UPDATE sms SET sent = false WHERE delivery_id = $1"

OPEN_SUMMARY = """
SELECT s.delivery_id FROM sms_summaries s JOIN outstanding o ON o.id = s.delivery_id
WHERE s.number = $1 AND s.project_id = $2 AND s.closed_at IS NULL
ORDER BY s.due_at DESC LIMIT 1
"""

ADD_SUMMARY = f"""
INSERT INTO sms_summaries (delivery_id, project_id, number, due_at)
SELECT $1, $2, $3, greatest(now() + interval '{GROUP_WAIT} s',
                            max(due_at) + interval '{BURST_MINUTES} min')
FROM sms_summaries WHERE number = $3 AND project_id = $2
RETURNING due_at
"""

PUT_OFF = "UPDATE outstanding SET due_at = $2 WHERE id = $1"

CLOSE_SUMMARY = "UPDATE sms_summaries SET closed_at = coalesce(closed_at, now()) WHERE delivery_id = $1 RETURNING true"

SUMMARY = f"""
SELECT count(DISTINCT t.incident_id) AS count,
       count(DISTINCT t.incident_id) FILTER (WHERE i.closed_at IS NULL) AS ongoing,
       (array_agg(DISTINCT i.type || ' on ' || i.resource_name))[1:{NAMED}] AS names
FROM sms t
LEFT JOIN LATERAL (SELECT * FROM incidents WHERE id = t.incident_id LIMIT 1) i ON true
WHERE t.summary_id = $1
"""

TELL_ONCE = """
INSERT INTO sms_limit_notices AS t (subject, at) VALUES ($1, now())
ON CONFLICT (subject) DO UPDATE SET at = now() WHERE t.at < now() - interval '1 day'
RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """A burst: how many incidents, how many of them are ongoing, and some of them as `cpu on web-1`."""

    count: int
    ongoing: int
    names: Sequence[str]


async def check(tx: Tx, job: Job, number: str) -> Mapping[str, Summary] | Suppressed:
    """Whether a delivery may go to a number: an empty mapping, or a `summary` to send, or why not.

    A delivery that was allowed once is allowed on every further attempt.
    """
    await phones.hold(tx, job.project_id, number)
    summary = await _summary(tx, job.id)
    if await tx.fetchrow(KNOWN, job.id) is None:
        refused = await _limit(tx, job, number)
        if refused is None and summary is None:
            refused = await _burst(tx, job, number)
        if refused is not None:
            return refused
        await tx.execute(NOTE, job.id, job.project_id, number, job.content.incident_id, True, None)
    return {} if summary is None else {"summary": summary}


async def unsent(tx: Tx, delivery_id: UUID) -> None:
    """The provider rejected it, and no further attempt follows: it does not count for the day."""
    await tx.execute(UNSENT, delivery_id)


async def _limit(tx: Tx, job: Job, number: str) -> Suppressed | None:
    """The daily limit for this number or this project. Its people are notified by another way, once a day."""
    day = await tx.fetchrow(DAY, number, job.project_id)
    if day["to_number"] >= DAY_PER_NUMBER:
        whose, most = f"to {numbers.display(number)}", DAY_PER_NUMBER
    elif day["of_project"] >= DAY_PER_PROJECT:
        whose, most = "for this project", DAY_PER_PROJECT
    else:
        return None
    if await tx.fetchval(TELL_ONCE, f"{job.project_id} {whose}"):
        message = (
            f"No more text messages {whose} for now: the limit of {most} in 24 hours is reached. "
            "Incidents are still sent to the other integrations and appear in the list of incidents."
        )
        await health.notify_people(tx, job.project_id, message, exclude=job.integration_id)
    return Suppressed(f"the limit of {most} text messages {whose} in 24 hours is reached")


async def _burst(tx: Tx, job: Job, number: str) -> Suppressed | None:
    """Above so many incidents at once, an entry in the summary instead of a message."""
    incident = job.content.incident_id
    if incident is None:
        return None
    recent = await tx.fetchrow(RECENT, number, incident)
    if recent["already_sent"] or recent["others"] < BURST:
        return None
    summary = await tx.fetchval(OPEN_SUMMARY, number, job.project_id)
    summary = key(summary) if summary else await _new_summary(tx, job, number)
    if summary is None:
        return Suppressed("integration deleted")
    await tx.execute(NOTE, job.id, job.project_id, number, incident, False, summary)
    return Suppressed(
        f"more than {BURST} incidents in {BURST_MINUTES} minutes to {number}: "
        f"{ids.public(ids.DELIVERY, summary)} summarizes them"
    )


async def _new_summary(tx: Tx, job: Job, number: str) -> UUID | None:
    """A notice that waits for what it summarizes; None if the integration no longer exists."""
    to = (await queue.recipients(tx, [job.integration_id])).get(job.integration_id)
    if to is None:
        return None
    now: datetime = await tx.fetchval("SELECT now()")
    content = Content(None, "", "Tocsin", "", "notice", f"A summary of more than {BURST} incidents", now, None)
    # Marked as failing, so that it is not handed off to an engine at once.
    [new] = await queue.put(tx, [QueueEntry(replace(to, failing=True), "notice", content)])
    due_at = await tx.fetchval(ADD_SUMMARY, new, job.project_id, number)
    await tx.execute(PUT_OFF, new, due_at)
    return new


async def _summary(tx: Tx, delivery_id: UUID) -> Summary | None:
    """What this delivery summarizes, closed to further incidents from now on; None if it is no summary."""
    if not await tx.fetchval(CLOSE_SUMMARY, delivery_id):
        return None
    row = await tx.fetchrow(SUMMARY, delivery_id)
    return Summary(row["count"], row["ongoing"], [name for name in row["names"] or () if name])
