"""Network monitors: their configuration, and how they are doing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from tocsin.domain import ids
from tocsin.domain import monitors as domain
from tocsin.domain.dependencies import Written
from tocsin.domain.incidents import ResolveRequest
from tocsin.domain.monitors import MonitorConfig, Target
from tocsin.domain.percentiles import Percentiles
from tocsin.domain.registrations import Registration
from tocsin.domain.resources.network_monitor import RESOURCE as NETWORK_MONITOR
from tocsin.storage.channels import attachments
from tocsin.storage.delivery import flapping, incidents
from tocsin.storage.monitoring import checks, deletion, domains, places
from tocsin.storage.notifying import dependencies, depends_on
from tocsin.storage.notifying.dependencies import Parent
from tocsin.storage.postgres.database import Tx, key
from tocsin.storage.postgres.secrets import Vault

if TYPE_CHECKING:
    from asyncpg import Record

UPTIME_DAYS = 30
TIMES_OVER = timedelta(hours=24)
"""How far back the response times are looked at of which a monitor has percentiles."""

Sort = Literal["status", "created_at"]

WANTED = (
    "name, url, check_type, interval, timeout, confirmations, recoveries, options, sealed, paused, domain, locations"
)
SEALED_FIELD = "options"

NUMBER = "UPDATE projects SET monitors_made = monitors_made + 1 WHERE id = $1 RETURNING monitors_made"

INSERT = f"""
INSERT INTO network_monitors (id, project_id, number, {WANTED})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""

# A fraction of a second of difference keeps monitors that were created together from always being due together.
INSERT_STATE = f"""
INSERT INTO monitor_states (monitor_id, due_at)
VALUES ($1, CASE WHEN $2 THEN 'infinity' WHEN NOT $3 THEN {places.NOT_HERE}
                 ELSE now() + make_interval(secs => 0.5 * random()) END)
"""

# Hours that are rolled up count by their sums, later checks one by one.
#
# What is only found beside the verdict (a certificate that ends soon) does not make a site one that is down.
SEEN = f"""
CROSS JOIN LATERAL (
    SELECT 100.0 * sum(ok)::float8 / nullif(sum(total), 0)::float8 AS uptime
    FROM (
        SELECT h.total, h.ok FROM checks_hourly h
        WHERE h.monitor_id = m.id AND h.at >= date_trunc('hour', now() - interval '{UPTIME_DAYS} days')
          AND h.at < (SELECT upto FROM rollups WHERE name = 'checks')
        UNION ALL
        SELECT count(*), count(*) FILTER (WHERE c.ok) FROM checks c
        WHERE c.monitor_id = m.id AND NOT c.unreachable AND c.at >= greatest(
            (SELECT upto FROM rollups WHERE name = 'checks'),
            date_trunc('hour', now() - interval '{UPTIME_DAYS} days')
        ) AND c.at <= now()
    ) counted
) u
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(o.incident_id ORDER BY o.incident_id), '{{}}') AS open_incidents,
           coalesce(bool_or(NOT o.type = ANY ('{{{",".join(sorted(domain.BESIDE))}}}')), false) AS failing
    FROM ongoing o WHERE o.resource_id = m.id
) o
"""

MONITOR = f"""
SELECT m.id, m.project_id, m.number, {WANTED}, m.depends_on, m.created_at, m.updated_at,
       m.last_check_at, m.last_response_ms, u.uptime, o.open_incidents, o.failing
"""

ONE = f"""
{MONITOR}
FROM (
    SELECT m.*, s.last_check_at, s.last_response_ms
    FROM network_monitors m JOIN monitor_states s ON s.monitor_id = m.id
    WHERE m.id = $2 AND m.project_id = $1
) m
{SEEN}
"""

FOUND = """
WHERE m.project_id = $1
  AND ($2 = '' OR position(lower($2) IN lower(m.name)) > 0 OR position(lower($2) IN lower(m.url)) > 0)
"""

COUNT = f"SELECT count(*) FROM network_monitors m {FOUND}"

LIST = f"""
{MONITOR}
FROM (
    SELECT m.*, s.last_check_at, s.last_response_ms, row_number() OVER () AS place
    FROM (
        SELECT m.*,
               CASE WHEN NOT $3 THEN 0
                    WHEN m.paused THEN 3
                    WHEN EXISTS (SELECT FROM ongoing o WHERE o.resource_id = m.id) THEN (m.depends_on <> '[]')::int
                    ELSE 2
               END AS rank
        FROM network_monitors m {FOUND}
        ORDER BY rank, m.number DESC LIMIT $4 OFFSET $5
    ) m
    CROSS JOIN LATERAL (SELECT * FROM monitor_states WHERE monitor_id = m.id LIMIT 1) s
) m
{SEEN}
ORDER BY m.place
"""

CHANGING = f"SELECT id, project_id, {WANTED} FROM network_monitors WHERE id = $2 AND project_id = $1 FOR UPDATE"

UPDATE = """
UPDATE network_monitors
SET name = $2, url = $3, check_type = $4, interval = $5, timeout = $6, confirmations = $7, recoveries = $8,
    options = $9, sealed = $10, paused = $11, domain = $12, locations = $13, updated_at = now()
WHERE id = $1
"""

START_ANEW = f"""
UPDATE monitor_states
SET failures = 0, successes = 0, last_problem = NULL,
    due_at = CASE WHEN $2 THEN 'infinity' WHEN NOT $3 THEN {places.NOT_HERE} ELSE now() END
WHERE monitor_id = $1
"""

LOCK_STATE = "SELECT 1 FROM monitor_states WHERE monitor_id = $1 FOR UPDATE"
DELETE = "DELETE FROM network_monitors WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Monitor:
    """A monitor and its status. `uptime` is percent over 30 days, `last_response_ms` milliseconds; None: unknown.

    `explained_by`: those that are down and explain its incidents. `percentiles`: of its response times over
    `TIMES_OVER`; only in `one`, as is the `registration` of its domain, if that is watched.
    `seen_from`: what each of its places saw last.
    """

    id: UUID
    project_id: UUID
    number: int
    wanted: MonitorConfig
    created_at: datetime
    updated_at: datetime
    last_check_at: datetime | None
    last_response_ms: float | None
    uptime: float | None
    open_incidents: Sequence[UUID]
    depends_on: Written = field(default_factory=list)
    explained_by: Sequence[Parent] = ()
    percentiles: Percentiles | None = None
    seen_from: Sequence[places.Seen] = ()
    failing: bool = False
    registration: Registration | None = None

    @property
    def status(self) -> str:
        checked = self.last_check_at is not None and self.uptime != 0
        return domain.status(
            paused=self.wanted.paused, checked=checked, incidents=self.failing,
            explained=bool(self.explained_by),
        )  # fmt: skip


async def create(
    tx: Tx, vault: Vault, project_id: UUID, wanted: MonitorConfig, secret: Collection[str] = ()
) -> UUID:
    """Create a monitor; its first check follows at once. Returns its key. Options named in `secret` are encrypted."""
    new = ids.new()
    number = await tx.fetchval(NUMBER, project_id)
    await tx.execute(INSERT, new, project_id, number, *_columns(vault, project_id, new, wanted, secret))
    await tx.execute(INSERT_STATE, new, wanted.paused, wanted.checked_here)
    if wanted.domain is not None:
        await domains.watch(tx, wanted.domain)
    if wanted.locations is not None:
        await places.start_anew(tx, new, wanted.locations)
    await attachments.attach_new_resource(tx, project_id, new)
    return new


async def one(tx: Tx, vault: Vault, project_id: UUID, monitor_id: UUID) -> Monitor | None:
    """The project's monitor with that key."""
    row = await tx.fetchrow(ONE, project_id, monitor_id)
    if row is None:
        return None
    now = datetime.now(UTC)
    times = await checks.percentiles_of(tx, [monitor_id], now - TIMES_OVER, now)
    registration = await domains.one(tx, row["domain"]) if row["domain"] is not None else None
    found = replace(_monitor(row, vault), percentiles=times.get(monitor_id), registration=registration)
    if found.wanted.locations is not None:
        found = replace(found, seen_from=await places.of_locations(tx, monitor_id, found.wanted.locations))
    return (await _explained(tx, [found]))[0]


async def list_(
    tx: Tx, project_id: UUID, *, search: str, sort: Sort, limit: int, offset: int
) -> tuple[list[Monitor], int]:
    """A page of the project's monitors, and how many there are in all.

    `search` is a part of name or URL in whatever case. By `status`: those with incidents, then those without, then the
    paused; always the newest first among equals.
    """
    total = await tx.fetchval(COUNT, project_id, search)
    rows = await tx.fetch(LIST, project_id, search, sort == "status", limit, offset) if offset < total else []
    return await _explained(tx, [_monitor(row) for row in rows]), total


async def _explained(tx: Tx, found: Sequence[Monitor]) -> list[Monitor]:
    why = await dependencies.explanations(tx, [each.id for each in found if each.open_incidents and each.depends_on])
    return [replace(each, explained_by=why.get(each.id, ())) for each in found]


async def changing(tx: Tx, vault: Vault, project_id: UUID, monitor_id: UUID) -> MonitorConfig | None:
    """The configuration of the project's monitor, locked until the transaction ends."""
    row = await tx.fetchrow(CHANGING, project_id, monitor_id)
    return row and _wanted(row, vault)


async def change(
    tx: Tx, vault: Vault, project_id: UUID, monitor_id: UUID, before: MonitorConfig, after: MonitorConfig,
    secret: Collection[str] = (),
) -> None:  # fmt: skip
    """Change a monitor that `changing` has locked.

    A change that concerns the checks restarts them, at once. Pausing resolves its incidents: no check would do so.
    """
    await tx.execute(UPDATE, monitor_id, *_columns(vault, project_id, monitor_id, after, secret))
    if replace(after, name=before.name, domain=before.domain) != before:
        await tx.execute(START_ANEW, monitor_id, after.paused, after.checked_here)
        if before.locations is not None or after.locations is not None:
            await places.start_anew(tx, monitor_id, after.locations)
    if before.domain is not None and after.domain != before.domain:
        await domains.unwatch(tx, project_id, monitor_id)
    if after.domain is not None:
        await domains.watch(tx, after.domain)
    if after.paused and not before.paused:
        await flapping.forget(tx, monitor_id)
        await incidents.resolve(tx, [ResolveRequest(project_id, monitor_id, None, "The monitor was paused")])


async def delete(tx: Tx, project_id: UUID, monitor_id: UUID) -> bool:
    """Delete a monitor, resolving its incidents. Returns whether it existed. Retention drops its checks."""
    await depends_on.lock(tx, project_id)
    if await tx.fetchrow(CHANGING, project_id, monitor_id) is None:
        return False
    await tx.execute(LOCK_STATE, monitor_id)
    await flapping.forget(tx, monitor_id)
    await deletion.forget(tx, project_id, NETWORK_MONITOR, monitor_id)
    await tx.execute(DELETE, monitor_id)
    return True


def _columns(
    vault: Vault, project_id: UUID, monitor_id: UUID, wanted: MonitorConfig, secret: Collection[str]
) -> tuple[object, ...]:
    """In the order of `WANTED`."""
    target = wanted.target
    shown, sealed = vault.split(project_id, monitor_id, SEALED_FIELD, target.options, secret)
    return (
        wanted.name, target.url, target.check_type, wanted.interval, target.timeout, wanted.confirmations,
        wanted.recoveries, shown, sealed, wanted.paused, wanted.domain, wanted.locations,
    )  # fmt: skip


def target_of(row: Record, vault: Vault | None) -> Target:
    """Without its secret options where there is no `vault`."""
    options, why = row["options"], None
    if vault is not None and row["sealed"] is not None:
        options, why = vault.join(key(row["project_id"]), key(row["id"]), SEALED_FIELD, options, row["sealed"])
    return Target(row["url"], row["check_type"], row["timeout"], options, why)


def _wanted(row: Record, vault: Vault | None) -> MonitorConfig:
    locations = row["locations"]
    return MonitorConfig(
        row["name"], target_of(row, vault), row["interval"], row["confirmations"], row["recoveries"], row["paused"],
        row["domain"], None if locations is None else tuple(locations),
    )  # fmt: skip


def _monitor(row: Record, vault: Vault | None = None) -> Monitor:
    return Monitor(
        id=key(row["id"]),
        project_id=key(row["project_id"]),
        number=row["number"],
        wanted=_wanted(row, vault),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_check_at=row["last_check_at"],
        last_response_ms=row["last_response_ms"],
        uptime=row["uptime"],
        open_incidents=[key(incident) for incident in row["open_incidents"]],
        failing=row["failing"],
        depends_on=row["depends_on"],
    )
