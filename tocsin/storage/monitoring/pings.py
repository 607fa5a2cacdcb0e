"""Pings: taken in by the hundred, applied to their heartbeats, and on record for as long as raw history is kept.

Rows are locked in the order of their keys. A ping writes when it came; the look for what is late moves its own next
time (`storage.monitoring.lateness`), so that an index changes once in a period, not with each ping.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from tocsin.domain import pings as rules
from tocsin.domain.heartbeats import Schedule
from tocsin.domain.incidents import OpenRequest, ResolveRequest, truncated_message
from tocsin.domain.pings import IncidentId, Opens, Ping, State, Step, Taken
from tocsin.domain.resources.heartbeat import RESOURCE as HEARTBEAT
from tocsin.storage.delivery import behind, incidents, openings
from tocsin.storage.postgres.database import Tx, columns, key
from tocsin.storage.postgres.secrets import Vault

if TYPE_CHECKING:
    from asyncpg import Record

Result = Literal["taken", "unknown", "ambiguous"]

KEPT_BODIES = 100
"""Bodies of a heartbeat that are kept; a new one takes the place of the oldest."""
AT_ONCE = 20
"""Heartbeats after which the event loop gets a turn: a cron expression that is new here takes half a millisecond."""
BODY_WEIGHT = 2_000
"""Characters of a body that weigh as much as a ping in a commit."""

STATE = """
       nullif(s.look_at, 'infinity') AS look_at, s.due_at, s.missed_at, s.last_ping_at, s.last_success_at,
       s.last_duration_ms, s.runs, s.pings, s.bodies, s.minute, s.in_minute
"""
CONFIG = "h.id, h.project_id, h.period, h.cron, h.timezone, h.grace, h.methods, h.paused"

FIND = """
SELECT g.n, h.id FROM unnest($1::int[], $2::bytea[]) AS g (n, hash)
CROSS JOIN LATERAL (SELECT id FROM heartbeats WHERE key_hash = g.hash LIMIT 1) h
"""

# The same, locked at once: nearly all pings are by key.
FIND_AND_LOCK = f"""
SELECT h.n, h.id, {STATE}, now() AS now
FROM (
    SELECT g.n, h.id FROM unnest($1::int[], $2::bytea[]) AS g (n, hash)
    CROSS JOIN LATERAL (SELECT id FROM heartbeats WHERE key_hash = g.hash LIMIT 1) h
    ORDER BY h.id OFFSET 0
) h
CROSS JOIN LATERAL (SELECT * FROM heartbeat_states WHERE heartbeat_id = h.id FOR UPDATE) s
"""

FIND_BY_SLUG = """
SELECT g.n, h.id FROM unnest($1::int[], $2::bytea[], $3::text[]) AS g (n, hash, slug)
CROSS JOIN LATERAL (SELECT id FROM ping_keys WHERE key_hash = g.hash LIMIT 1) k
CROSS JOIN LATERAL (SELECT id FROM heartbeats WHERE project_id = k.id AND slug = g.slug LIMIT 2) h
"""

LOCK = f"""
SELECT g.id, {STATE}, now() AS now FROM unnest($1::uuid[]) AS g (id)
CROSS JOIN LATERAL (SELECT * FROM heartbeat_states WHERE heartbeat_id = g.id FOR UPDATE) s
"""

# After the locks are held: whoever held one before may have changed the schedule, or opened or resolved something.
KNOWN = f"""
SELECT {CONFIG}, o.ongoing FROM unnest($1::uuid[]) AS g (id)
CROSS JOIN LATERAL (SELECT * FROM heartbeats WHERE id = g.id LIMIT 1) h
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(ARRAY[type, dedup_key]), '{{}}') AS ongoing FROM ongoing
    WHERE resource_id = g.id AND type IN ('missed', 'failed', 'overrun')
) o
"""

# As an upsert, for its plan: always one look-up by key for each row. The insert never happens, each state being locked.
STORE = """
WITH stored AS (
    INSERT INTO pings (heartbeat_id, at, n, kind, exit_status, rid, method, duration_ms, body_bytes)
    SELECT heartbeat_id, now(), n, kind, exit_status, rid, method, duration_ms, body_bytes
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::smallint[], $5::uuid[], $6::text[], $7::float8[], $8::int[])
        AS g (heartbeat_id, n, kind, exit_status, rid, method, duration_ms, body_bytes)
)
INSERT INTO heartbeat_states (heartbeat_id, look_at, due_at, missed_at, last_ping_at, last_success_at, last_duration_ms,
                              runs, pings, bodies, minute, in_minute)
SELECT heartbeat_id, coalesce(look_at, 'infinity'), due_at, missed_at, last_ping_at, last_success_at, last_duration_ms,
       runs, pings, bodies, minute, in_minute
FROM unnest($9::uuid[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[],
            $14::timestamptz[], $15::float8[], $16::jsonb[], $17::bigint[], $18::bigint[], $19::bigint[],
            $20::int[])
    AS g (heartbeat_id, look_at, due_at, missed_at, last_ping_at, last_success_at, last_duration_ms, runs, pings,
          bodies, minute, in_minute)
ON CONFLICT (heartbeat_id) DO UPDATE
SET look_at = excluded.look_at, due_at = excluded.due_at, missed_at = excluded.missed_at,
    last_ping_at = excluded.last_ping_at, last_success_at = excluded.last_success_at,
    last_duration_ms = excluded.last_duration_ms, runs = excluded.runs, pings = excluded.pings,
    bodies = excluded.bodies, minute = excluded.minute, in_minute = excluded.in_minute
"""

STORE_BODIES = """
INSERT INTO ping_bodies (heartbeat_id, place, n, body)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[])
ON CONFLICT (heartbeat_id, place) DO UPDATE SET n = excluded.n, body = excluded.body
"""

GATHER = """
INSERT INTO pings (heartbeat_id, at, n, kind, count)
SELECT id, date_trunc('minute', now()), 0, 'gathered', count FROM unnest($1::uuid[], $2::int[]) AS g (id, count)
ON CONFLICT (heartbeat_id, at, n) DO UPDATE SET count = pings.count + excluded.count
"""

LIST = """
SELECT p.n, p.at, p.kind, p.exit_status, p.rid, p.method, p.duration_ms, p.body_bytes, p.count,
       p.n = ANY (ARRAY(SELECT n FROM ping_bodies WHERE heartbeat_id = $1)) AS has_body
FROM pings p WHERE p.heartbeat_id = $1 AND p.at <= now() ORDER BY p.at DESC, p.n DESC LIMIT $2 OFFSET $3
"""

MANY = 10_000
"""Where counting ends."""
COUNT = f"SELECT count(*) FROM (SELECT FROM pings WHERE heartbeat_id = $1 AND at <= now() LIMIT {MANY}) few"

RUNS = """
SELECT at, kind, duration_ms FROM pings
WHERE heartbeat_id = $1 AND at >= $2 AND at <= now() AND kind IN ('success', 'fail')
ORDER BY at DESC, n DESC LIMIT $3
"""

BODY = "SELECT body FROM ping_bodies WHERE heartbeat_id = $1 AND n = $2"
LAST_BODY = "SELECT n, body FROM ping_bodies WHERE heartbeat_id = $1 ORDER BY n DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Logged:
    """A ping on record. Without `n`: `count` of that minute that were gathered. `has_body`: its body is still kept."""

    n: int
    at: datetime
    kind: str
    exit_status: int | None
    rid: UUID | None
    method: str
    duration_ms: float | None
    body_bytes: int
    count: int
    has_body: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """The end of a run."""

    at: datetime
    ok: bool
    duration_ms: float | None


@dataclass(slots=True)
class Locked:
    """A locked heartbeat, while pings are applied to it."""

    id: UUID
    project_id: UUID
    schedule: Schedule
    methods: str
    paused: bool
    look_at: datetime | None
    state: State
    pings: int
    bodies: int
    ongoing: set[IncidentId]
    now: datetime


def weight(ping: Ping) -> int:
    """What a ping weighs in a shared commit."""
    return 1 + len(ping.body) // BODY_WEIGHT


async def record(tx: Tx, vault: Vault, given: Sequence[Ping], *, public_url: str) -> list[Result]:
    """Apply pings to their heartbeats, in the given order, and open or resolve what follows from them."""
    addressed, states = await _find(tx, vault, given)
    known = {each.id: each for each in await _known(tx, states)}
    results: list[Result] = []
    rows: list[tuple[Any, ...]] = []
    bodies: list[tuple[UUID, int, int, str]] = []
    gathered: Counter[UUID] = Counter()
    steps: list[tuple[Locked, Step, str | None]] = []
    for number, (ping, found) in enumerate(zip(given, addressed, strict=True), 1):
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
        if len(found) != 1 or found[0] not in known:  # it was deleted just now
            results.append("ambiguous" if len(found) > 1 else "unknown")
            continue
        results.append("taken")
        at = known[found[0]]
        taken = rules.take(
            at.state, ping, at.schedule, at.ongoing, at.now, methods=at.methods, paused=at.paused
        )
        steps += [(at, step, ping.origin) for step in taken.steps]
        if not taken.recorded:
            gathered[at.id] += 1
            continue
        at.pings += 1
        rows.append(_row(at, ping, taken))
        if ping.body and at.state.in_minute <= rules.EACH_MINUTE:
            bodies.append((at.id, at.bodies % KEPT_BODIES, at.pings, ping.body))
            at.bodies += 1
    await _store(tx, rows, known.values())
    if bodies:
        await tx.execute(STORE_BODIES, *map(list, zip(*_last_of_each_place(bodies), strict=True)))
    if gathered:
        await tx.execute(GATHER, list(gathered), list(gathered.values()))
    if steps:
        await follow(tx, steps, public_url=public_url)
    return results


async def lock(tx: Tx, ids: Iterable[UUID]) -> list[Locked]:
    """Those of these heartbeats that exist, locked in the order of their keys."""
    return await _known(tx, {key(row["id"]): row for row in await tx.fetch(LOCK, sorted(ids))})


async def _known(tx: Tx, states: Mapping[UUID, Record]) -> list[Locked]:
    """Those whose states are locked, by key."""
    rows = await tx.fetch(KNOWN, list(states)) if states else []
    return [locked(row, states[key(row["id"])]) for row in rows]


def locked(config: Record, row: Record) -> Locked:
    state = State(
        due_at=row["due_at"], missed_at=row["missed_at"], last_ping_at=row["last_ping_at"],
        last_success_at=row["last_success_at"], last_duration_ms=row["last_duration_ms"],
        runs=rules.read_runs(row["runs"]), minute=row["minute"], in_minute=row["in_minute"],
    )  # fmt: skip
    return Locked(
        key(config["id"]), key(config["project_id"]), schedule_of(config), config["methods"], config["paused"],
        row["look_at"], state, row["pings"], row["bodies"],
        {(type_, dedup_key) for type_, dedup_key in config["ongoing"]}, row["now"],
    )  # fmt: skip


def schedule_of(row: Record) -> Schedule:
    return Schedule(row["period"], row["cron"], row["timezone"], row["grace"])


async def store_states(tx: Tx, states: Iterable[Locked]) -> None:
    """Store the states of locked heartbeats."""
    await _store(tx, [], states)


async def follow(tx: Tx, steps: Iterable[tuple[Locked, Step, str | None]], *, public_url: str) -> None:
    """Open and resolve, each step with its origin. Steps about the same incident are taken one after the other, all
    else at once.
    """
    turns: Counter[tuple[UUID, str, str]] = Counter()
    batches: dict[tuple[int, bool], list[tuple[Locked, Step, str | None]]] = {}
    for at, step, origin in steps:
        place = at.id, step.type, step.dedup_key
        batches.setdefault((turns[place], isinstance(step, Opens)), []).append((at, step, origin))
        turns[place] += 1
    if len(batches) > 1:
        concerned = frozenset(heartbeat_id for heartbeat_id, *_ in turns)
        lasting = await behind.hold(tx, concerned)
        await behind.lock_deliveries(tx, lasting.incidents, behind.Others(behind=concerned))
    for turn in sorted(batches):
        batch = batches[turn]
        requests = [
            OpenRequest(
                at.project_id, HEARTBEAT.type, at.id, step.type, truncated_message(step.message),
                dedup_key=step.dedup_key, details=step.details, origin=origin,
            )
            for at, step, origin in batch if isinstance(step, Opens)
        ]  # fmt: skip
        if requests:
            await openings.open(tx, requests, public_url=public_url)
            continue
        closings = [
            ResolveRequest(at.project_id, at.id, step.type, step.by, dedup_key=step.dedup_key, origin=origin)
            for at, step, origin in batch if not isinstance(step, Opens)
        ]  # fmt: skip
        await incidents.resolve(tx, closings)


async def list_(tx: Tx, heartbeat_id: UUID, *, limit: int, offset: int) -> list[Logged]:
    """A page of a heartbeat's pings, newest first."""
    return [Logged(**row) for row in await tx.fetch(LIST, heartbeat_id, limit, offset)]


async def count(tx: Tx, heartbeat_id: UUID) -> int:
    """How many of a heartbeat's pings are on record, up to `MANY`."""
    return int(await tx.fetchval(COUNT, heartbeat_id))


async def runs(tx: Tx, heartbeat_id: UUID, since: datetime, *, limit: int) -> list[Ran]:
    """Ends of runs since then, newest first."""
    rows = await tx.fetch(RUNS, heartbeat_id, since, limit)
    return [Ran(row["at"], row["kind"] == "success", row["duration_ms"]) for row in rows]


async def body(tx: Tx, heartbeat_id: UUID, n: int) -> str | None:
    """The body of a ping, as long as it is kept."""
    found: str | None = await tx.fetchval(BODY, heartbeat_id, n)
    return found


async def last_body(tx: Tx, heartbeat_id: UUID) -> tuple[int, str] | None:
    """The newest body, and the number of its ping."""
    row = await tx.fetchrow(LAST_BODY, heartbeat_id)
    return row and (row["n"], row["body"])


async def _find(
    tx: Tx, vault: Vault, given: Sequence[Ping]
) -> tuple[list[list[UUID]], dict[UUID, Record]]:
    """Those that each ping may mean: none, one or two; and their states, locked in the order of their keys."""
    by_key: list[tuple[int, bytes]] = []
    by_slug: list[tuple[int, bytes, str]] = []
    for number, ping in enumerate(given):
        for each in vault.token_hashes(ping.key):
            if ping.slug is None:
                by_key.append((number, each))
            else:
                by_slug.append((number, each, ping.slug))
    find = FIND if by_slug else FIND_AND_LOCK
    rows = await tx.fetch(find, *map(list, zip(*by_key, strict=True))) if by_key else []
    if by_slug:
        rows += await tx.fetch(FIND_BY_SLUG, *map(list, zip(*by_slug, strict=True)))
    found: list[list[UUID]] = [[] for _ in given]
    states: dict[UUID, Record] = {}
    for row in rows:
        id_ = key(row["id"])
        found[row["n"]].append(id_)
        states[id_] = row
    if by_slug:
        states = {key(row["id"]): row for row in await tx.fetch(LOCK, sorted(states))}
    return found, states


def _row(at: Locked, ping: Ping, taken: Taken) -> tuple[Any, ...]:
    return (
        at.id, at.pings, taken.kind, ping.exit_status, UUID(ping.rid) if ping.rid else None, ping.method,
        taken.duration_ms, len(ping.body.encode()),
    )  # fmt: skip


def _last_of_each_place(bodies: Sequence[tuple[UUID, int, int, str]]) -> list[tuple[UUID, int, int, str]]:
    last: Mapping[tuple[UUID, int], tuple[UUID, int, int, str]] = {(each[0], each[1]): each for each in bodies}
    return list(last.values())


async def _store(tx: Tx, rows: Sequence[tuple[Any, ...]], states: Iterable[Locked]) -> None:
    recorded = columns(rows) if rows else [None] * 8
    kept = [
        (
            at.id, at.look_at, at.state.due_at, at.state.missed_at, at.state.last_ping_at, at.state.last_success_at,
            at.state.last_duration_ms, rules.written_runs(at.state.runs), at.pings, at.bodies, at.state.minute,
            at.state.in_minute,
        )
        for at in map(_with_look, states)
    ]  # fmt: skip
    if kept:
        await tx.execute(STORE, *recorded, *columns(kept))


def _with_look(at: Locked) -> Locked:
    """Its next look, moved only where it has to be earlier."""
    wanted = None if at.paused else rules.look_at(at.state, at.schedule)
    if wanted is not None and (at.look_at is None or wanted < at.look_at):
        at.look_at = wanted
    return at
