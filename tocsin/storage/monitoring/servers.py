"""Servers and their reports: what an agent sends is stored, judged, and its incidents opened, in one transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tocsin.domain import ids, server_alerts, server_states
from tocsin.domain import servers as domain
from tocsin.domain.dependencies import Written
from tocsin.domain.file_systems import DISK, FileSystem
from tocsin.domain.incidents import OpenRequest, ResolveRequest
from tocsin.domain.reports import Recorded, Report
from tocsin.domain.resources.server import RESOURCE as SERVER
from tocsin.domain.server_alerts import Alerts
from tocsin.domain.server_states import LastMetrics, Reported, State
from tocsin.domain.servers import METRICS, Verdict
from tocsin.storage.channels import attachments
from tocsin.storage.delivery import behind, incidents, openings
from tocsin.storage.monitoring import deletion
from tocsin.storage.notifying import depends_on
from tocsin.storage.postgres.database import Tx, key

if TYPE_CHECKING:
    from asyncpg import Record

AT_ONCE = 500
"""Samples that are read or judged on the event loop at most: a few milliseconds."""

TEXTS = (
    "hostname", "public_ip", "private_ip", "mac_address", "cpu_model", "operating_system", "kernel_version",
)  # fmt: skip
NUMBERS = ("cpu_cores", "disk_total_bytes", "memory_total_bytes", "swap_total_bytes")
ATTRIBUTES = (*TEXTS, *NUMBERS, "agent_version")
FIELDS = (
    "id", "project_id", "motherboard_id", *ATTRIBUTES, "alerts", "depends_on", "created_at", "updated_at",
)  # fmt: skip
COLUMNS = ", ".join(f"s.{name}" for name in FIELDS)
REPORTED = ("last_metrics", "reported")
LATEST = ", ".join(f"t.{name}" for name in REPORTED)

# The subqueries keep the planner from joining: one index look-up for each report, however many servers there are,
# and rows locked in the order in which they are given.
LOCK = """
SELECT s.*, t.last_metrics, t.watch, t.clock, t.reported, now() AS now
FROM unnest($1::uuid[], $2::text[]) AS given (project_id, motherboard_id)
CROSS JOIN LATERAL (
    SELECT * FROM servers
    WHERE servers.project_id = given.project_id AND servers.motherboard_id = given.motherboard_id LIMIT 1
) s
CROSS JOIN LATERAL (
    SELECT last_metrics, watch, clock, reported FROM server_states WHERE server_id = s.id FOR UPDATE
) t
"""

CREATE = """
INSERT INTO servers (id, project_id, motherboard_id, agent_version, alerts)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::jsonb[])
ON CONFLICT (project_id, motherboard_id) DO NOTHING
RETURNING id, project_id
"""

CREATE_STATE = """
INSERT INTO server_states (server_id, seen_at, downtime_check_at)
SELECT id, now(), now() + make_interval(secs => $2) FROM unnest($1::uuid[]) AS given (id)
"""

CHANGE = f"""
UPDATE servers
SET updated_at = now(), cpu_unit = $2, {", ".join(f"{name} = ${at}" for at, name in enumerate(ATTRIBUTES, 3))}
WHERE id = $1
"""

# As an upsert, for its plan: always one look-up by key for each row. The insert never happens, each state being locked.
STATE = ("last_metrics", "watch", "clock", "reported")
FIRST_OF_STATE = 3 + len(METRICS)
STORE = f"""
WITH stored AS (
    INSERT INTO samples (server_id, at, {", ".join(METRICS)})
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[],
                         {", ".join(f"${at}::float8[]" for at, _ in enumerate(METRICS, 3))})
    ON CONFLICT (server_id, at)
    DO UPDATE SET {", ".join(f"{name} = coalesce(excluded.{name}, samples.{name})" for name in METRICS)}
)
INSERT INTO server_states (server_id, seen_at, downtime_check_at, {", ".join(STATE)})
SELECT id, now(), now(), {", ".join(STATE)}
FROM unnest(${FIRST_OF_STATE}::uuid[], {", ".join(f"${at}::jsonb[]" for at, _ in enumerate(STATE, FIRST_OF_STATE + 1))})
    AS given (id, {", ".join(STATE)})
ON CONFLICT (server_id) DO UPDATE
SET seen_at = excluded.seen_at, {", ".join(f"{name} = excluded.{name}" for name in STATE)}
"""

LIST = f"""
SELECT {COLUMNS}, {LATEST} FROM servers s JOIN server_states t ON t.server_id = s.id
WHERE s.project_id = $1 ORDER BY s.id LIMIT $2 OFFSET $3
"""

ONE = f"""
SELECT {COLUMNS}, {LATEST} FROM servers s JOIN server_states t ON t.server_id = s.id
WHERE s.id = $2 AND s.project_id = $1
"""

LOCK_ONE = """
SELECT s.alerts, t.watch FROM servers s JOIN server_states t ON t.server_id = s.id
WHERE s.id = $2 AND s.project_id = $1 FOR UPDATE
"""

CHANGE_ALERTS = "UPDATE servers SET alerts = $2, updated_at = now() WHERE id = $1"
LOOK_AGAIN = "UPDATE server_states SET watch = $2, downtime_check_at = now() WHERE server_id = $1"
DELETE = "DELETE FROM servers WHERE id = $1"

@dataclass(frozen=True, slots=True)
class Server:
    """A server as it is stored, with the latest value of each metric, and what its agent said last of the rest."""

    id: UUID
    project_id: UUID
    motherboard_id: str
    hostname: str | None
    public_ip: str | None
    private_ip: str | None
    mac_address: str | None
    cpu_model: str | None
    operating_system: str | None
    kernel_version: str | None
    cpu_cores: int | None
    disk_total_bytes: int | None
    memory_total_bytes: int | None
    swap_total_bytes: int | None
    agent_version: str
    alerts: Alerts
    depends_on: Written
    created_at: datetime
    updated_at: datetime
    last_metrics: LastMetrics
    reported: Reported

    @property
    def disks(self) -> list[FileSystem] | None:
        return self.reported.get("disks")

    @property
    def failed_units(self) -> list[str] | None:
        return self.reported.get("failed_units")


Step = tuple[State, Verdict, str | None]
"""What follows for a server from a report, and the report's origin."""


async def record(tx: Tx, given: Sequence[Report], *, public_url: str) -> list[Recorded]:
    """Store the samples of many reports, judge them, and open or resolve what follows from them.

    A server is created by its first report. Reports on one server are taken in the given order. Samples at times that
    are stored already are merged, not duplicated.
    """
    states = await _lock(tx, given)
    # A backlog of hours takes longer than the event loop should be blocked.
    long = sum(len(report.rows) for report in given) > AT_ONCE
    taken = await asyncio.to_thread(_take_in, given, states) if long else _take_in(given, states)
    recorded, steps, columns = taken
    for state in states.values():
        if state.changed:
            await tx.execute(CHANGE, state.id, state.cpu_unit, *(state.attributes[name] for name in ATTRIBUTES))
    await tx.execute(
        STORE,
        *columns,
        [state.id for state in states.values()],
        *([getattr(state, name) for state in states.values()] for name in STATE),
    )
    await _take(tx, steps, public_url)
    return recorded


def _take_in(
    given: Sequence[Report], states: Mapping[tuple[UUID, str], State]
) -> tuple[list[Recorded], list[Step], list[list[Any]]]:
    """The verdicts on the reports, and the samples to store, by column."""
    rows: dict[tuple[UUID, datetime], dict[str, float]] = {}
    recorded: list[Recorded] = []
    steps: list[Step] = []
    for report in given:
        state = states[report.identity]
        read = server_states.read(state, report)
        for at, values in read.rows:
            rows.setdefault((state.id, at), {}).update(values)
        recorded.append(server_states.apply(state, report, read))
        steps += [(state, verdict, report.origin) for verdict in recorded[-1].verdicts]
    keys: list[list[Any]] = [[server_id for server_id, _ in rows], [at for _, at in rows]]
    return recorded, steps, keys + [[values.get(metric) for values in rows.values()] for metric in METRICS]


async def _lock(tx: Tx, reports: Iterable[Report]) -> dict[tuple[UUID, str], State]:
    """The state of each report's server, created if there is none yet. Sorted, to avoid deadlocks."""
    by_identity = {report.identity: report for report in reports}
    wanted = sorted(by_identity)
    states = await _fetch(tx, wanted)
    while missing := [identity for identity in wanted if identity not in states]:
        await _create(tx, [by_identity[identity] for identity in missing])
        states |= await _fetch(tx, missing)
    # Read after taking the locks: whoever held one before may just have opened or resolved something.
    lasting = await incidents.ongoing_keys(tx, [state.id for state in states.values()])
    for state in states.values():
        state.ongoing = lasting[state.id]
    return states


async def _fetch(tx: Tx, identities: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], State]:
    rows = await tx.fetch(LOCK, [project_id for project_id, _ in identities], [name for _, name in identities])
    return {
        (key(row["project_id"]), row["motherboard_id"]): State(
            id=key(row["id"]),
            project_id=key(row["project_id"]),
            motherboard_id=row["motherboard_id"],
            attributes={name: row[name] for name in ATTRIBUTES},
            alerts=row["alerts"],
            cpu_unit=row["cpu_unit"],
            last_metrics=row["last_metrics"],
            watch=row["watch"],
            clock=row["clock"],
            now=row["now"],
            reported=row["reported"],
        )
        for row in rows
    }


async def _create(tx: Tx, reports: Sequence[Report]) -> None:
    created = await tx.fetch(
        CREATE,
        [ids.new() for _ in reports],
        [report.project_id for report in reports],
        [report.motherboard_id for report in reports],
        [report.attributes["agent_version"] for report in reports],
        [server_alerts.default_alerts() for _ in reports],
    )
    await tx.execute(CREATE_STATE, [row["id"] for row in created], server_alerts.DEFAULT_AFTER)
    for row in created:
        await attachments.attach_new_resource(tx, key(row["project_id"]), key(row["id"]))


async def _take(tx: Tx, steps: Iterable[Step], public_url: str) -> None:
    """Open and resolve. Verdicts on the same alert are applied one after the other, all else at once."""
    turns: Counter[tuple[UUID, str, str]] = Counter()
    batches: dict[tuple[int, str], list[Step]] = {}
    for state, verdict, origin in steps:
        turn = turns[state.id, verdict.type, verdict.key]
        turns[state.id, verdict.type, verdict.key] += 1
        batches.setdefault((turn, verdict.kind), []).append((state, verdict, origin))
    if len(batches) > 1:
        concerned = frozenset(server_id for server_id, *_ in turns)
        lasting = await behind.hold(tx, concerned)
        await behind.lock_deliveries(tx, lasting.incidents, behind.Others(behind=concerned))
    for turn, kind in sorted(batches):
        batch = batches[turn, kind]
        if kind == "over":
            requests = [
                OpenRequest(
                    each.project_id, SERVER.type, each.id, over.type, over.message, severity=over.severity,
                    dedup_key=over.key, details=over.details, origin=origin,
                )
                for each, over, origin in batch
            ]
            await openings.open(tx, requests, public_url=public_url)
        else:
            closings = [
                ResolveRequest(each.project_id, each.id, end.type, end.message, dedup_key=end.key, origin=origin)
                for each, end, origin in batch
            ]
            await incidents.resolve(tx, closings)


async def list_(tx: Tx, project_id: UUID, *, limit: int, offset: int) -> list[Server]:
    """A page of the project's servers, oldest first."""
    return [_server(row) for row in await tx.fetch(LIST, project_id, limit, offset)]


async def one(tx: Tx, project_id: UUID, server_id: UUID) -> Server | None:
    """The project's server with that key."""
    row = await tx.fetchrow(ONE, project_id, server_id)
    return row and _server(row)


async def change_alerts(tx: Tx, project_id: UUID, server_id: UUID, given: object) -> Server | None:
    """Change a server's alerts, as `domain.server_alerts` says; None where the project has no such server.

    What an alert has counted so far starts over, and an incident of an alert that is switched off is resolved.
    """
    row = await tx.fetchrow(LOCK_ONE, project_id, server_id)
    if row is None:
        return None
    alerts = server_alerts.change_alerts(row["alerts"], given)
    await tx.execute(CHANGE_ALERTS, server_id, alerts)
    await tx.execute(LOOK_AGAIN, server_id, domain.start_anew(row["watch"]))
    lasting = (await incidents.ongoing_keys(tx, [server_id]))[server_id]
    off = [each for each in lasting if _is_off(alerts, *each) and not _is_off(row["alerts"], *each)]
    await incidents.resolve(
        tx,
        [
            ResolveRequest(project_id, server_id, kind, "Its alert was switched off", dedup_key=mount)
            for kind, mount in off
        ],
    )
    return await one(tx, project_id, server_id)


async def delete(tx: Tx, project_id: UUID, server_id: UUID) -> bool:
    """Delete a server, resolving its incidents. Returns whether it existed. Retention drops its samples."""
    await depends_on.lock(tx, project_id)
    if await tx.fetchrow(LOCK_ONE, project_id, server_id) is None:
        return False
    await deletion.forget(tx, project_id, SERVER, server_id)
    await tx.execute(DELETE, server_id)
    return True


def _is_off(alerts: Alerts, kind: str, key: str) -> bool:
    """Whether nothing would open an incident of that type and key any more, as far as it is an alert's."""
    if kind == DISK and key:
        return server_alerts.for_disk(alerts, key) is None
    return kind in server_alerts.SUGGESTED and alerts.get(kind) is None


def _server(row: Record) -> Server:
    values: dict[str, Any] = {name: row[name] for name in (*FIELDS, *REPORTED)}
    return Server(**{**values, "id": key(row["id"]), "project_id": key(row["project_id"])})
