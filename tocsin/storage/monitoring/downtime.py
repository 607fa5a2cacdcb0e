"""Servers that have stopped reporting. A report only writes when it came; the check moves its own next time.

So the index of due checks changes once per downtime threshold, not with each report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.domain import servers as domain
from tocsin.domain.incidents import OpenRequest
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.storage.delivery import behind, incidents, openings
from tocsin.storage.monitoring import families
from tocsin.storage.postgres.database import Tx, key

BREAK = 10.0
"""Seconds without a heartbeat of an API process after which missing reports mean nothing: nobody could report."""

RECORD_API_ALIVE = """
WITH away AS (
    INSERT INTO outages (began, ended)
    SELECT seen_at, now() FROM api_heartbeat
    WHERE extract(epoch FROM now() - seen_at) > $1
    ON CONFLICT DO NOTHING
)
INSERT INTO api_heartbeat AS l (since, seen_at) VALUES (now(), now())
ON CONFLICT (only_row) DO UPDATE
SET since = CASE WHEN abs(extract(epoch FROM now() - l.seen_at)) > $1 THEN now() ELSE l.since END, seen_at = now()
"""

API_ALIVE_SINCE = """
SELECT greatest(since, now() - make_interval(secs => $2::float8)) FROM api_heartbeat
WHERE abs(extract(epoch FROM now() - seen_at)) <= $1
"""

DUE = """
SELECT s.id, s.project_id, (s.alerts->'downtime'->>'after')::float8 AS after, now() - greatest(t.seen_at, $2) AS silent
FROM (
    SELECT server_id, seen_at FROM server_states WHERE downtime_check_at <= now()
    ORDER BY downtime_check_at LIMIT $1 FOR UPDATE SKIP LOCKED
) t
JOIN servers s ON s.id = t.server_id
"""

LOOK_AT = """
UPDATE server_states t
SET downtime_check_at = CASE g.wait WHEN 'infinity' THEN 'infinity'::timestamptz
                                   ELSE now() + make_interval(secs => g.wait) END
FROM unnest($1::uuid[], $2::float8[]) AS g (id, wait)
WHERE t.server_id = g.id AND t.server_id = ANY ($1)
"""


@dataclass(frozen=True, slots=True)
class DowntimeCheck:
    """How many servers were due for a check, and how many of them are down."""

    due: int
    silent: int


async def record_api_alive(tx: Tx) -> None:
    """Record that reports are accepted now. After a break, all downtime counts from now, and the break is on record.

    A clock that jumped, either way, is a break too.
    """
    await tx.execute(RECORD_API_ALIVE, BREAK)


async def api_alive_since(tx: Tx, back_for: float | None = None) -> datetime | None:
    """Since when everybody could report without a break; None while nobody can. At most `back_for` seconds ago."""
    since: datetime | None = await tx.fetchval(API_ALIVE_SINCE, BREAK, back_for)
    return since


async def check_servers(
    tx: Tx, limit: int, *, public_url: str, back_for: float | None = None
) -> DowntimeCheck:
    """Check up to `limit` servers that may be down, and open `downtime` for those that are.

    Nothing is checked while no API process accepts reports, and downtime counts at most from when this machine had a
    way out again, `back_for` seconds ago. Several engines may check at once.
    """
    since = await api_alive_since(tx, back_for)
    if since is None:
        return DowntimeCheck(0, 0)
    waits: dict[UUID, float] = {}
    silent: list[OpenRequest] = []
    for row in await tx.fetch(DUE, limit, since):
        server_id, after, lasts = key(row["id"]), row["after"], row["silent"]
        if after is None:
            waits[server_id] = float("inf")
        elif lasts < timedelta(seconds=after):
            waits[server_id] = after - lasts.total_seconds()
        else:
            waits[server_id] = after
            message = domain.downtime_message(after)
            silent.append(OpenRequest(key(row["project_id"]), SERVER.type, server_id, "downtime", message))
    await _open(tx, silent, public_url)
    if waits:
        await tx.execute(LOOK_AT, list(waits), list(waits.values()))
    return DowntimeCheck(len(waits), len(silent))


async def _open(tx: Tx, requests: Sequence[OpenRequest], public_url: str) -> None:
    lasting = await incidents.ongoing_types(tx, [opening.resource_id for opening in requests])
    new = [opening for opening in requests if opening.type not in lasting[opening.resource_id]]
    if new:
        down = [opening.resource_id for opening in new]
        await families.ask_parents(tx, down)
        await behind.hold(tx, down)
        await openings.open(tx, new, public_url=public_url)
        await families.explain(tx, down)
